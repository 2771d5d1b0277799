"""The worker in another interpreter: what it answers, and each way in which it can be no help."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clip_eval import __version__
from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.errors import ProcessError, UsageError
from clip_eval.probes.batches import make_batch
from clip_eval.subject import Subject
from clip_eval.throughput import worker
from clip_eval.throughput.trial import Trial, make_trial
from clip_eval.throughput.worker import inputs_digest, serve
from clip_eval.throughput.worker_client import WorkerClient

LOAD: dict[str, Any] = {"dtype": "float32", "device": "cpu", "attention": None, "threads": 1}


@pytest.fixture(scope="module")
def trial(model: Path) -> Trial:
    """The trial of this side."""
    opened = open_checkpoint(model)
    return make_trial("images", Subject(opened, "float32"), make_batch(opened.config), rows=2)


def answers(*requests: dict[str, Any]) -> list[dict[str, Any]]:
    """What a worker in this process answers."""
    said = io.StringIO()
    serve(io.StringIO("".join(json.dumps(request) + "\n" for request in requests)), said)
    return [json.loads(line) for line in said.getvalue().splitlines()]


def test_a_worker_loads_prepares_and_times(model: Path, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what it runs in, has the same inputs, and times one call a request by its own clock."""
    clock = worker.clock_of("cpu")
    monkeypatch.setattr(
        worker, "clock_of", lambda _: type(clock)(lambda call: 3.5 if call() is not None else 0.0, "the test's")
    )
    monkeypatch.setattr(worker, "hold_heap", lambda: True)
    loaded, prepared, *timed = answers(
        {"do": "load", "checkpoint": str(model), **LOAD},
        {"do": "trial", "kind": "images", "rows": 2},
        {"do": "time"},
        {"do": "time"},
    )
    assert (loaded["clip_eval"], loaded["threads"]) == (__version__, 1)
    assert loaded["attention"] in ("sdpa", "eager")
    assert prepared == {"inputs": inputs_digest(trial)}
    assert timed == [{"seconds": 3.5}] * 2


def test_a_request_that_fails_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    """An error is an answer, and the next request is still read."""
    first, rate, second, third = answers(
        {"do": "time"}, {"do": "rate"}, {"do": "trial", "kind": "images", "rows": 1}, {"do": "dance"}
    )
    assert first == rate == {"error": "ValueError: there is no trial"}
    assert second == {"error": "ValueError: nothing is loaded"}
    assert third["error"].startswith("KeyError")
    assert "Traceback" in capsys.readouterr().err


def test_inputs_are_told_apart(model: Path, trial: Trial) -> None:
    """Another number of rows, or another tower, has another digest; the same trial made again has the same."""
    opened = open_checkpoint(model)
    subject, batch = Subject(opened, "float32"), make_batch(opened.config)
    again, more = (make_trial("images", subject, batch, rows=rows) for rows in (2, 3))
    assert inputs_digest(again) == inputs_digest(trial) != inputs_digest(more)
    assert inputs_digest(make_trial("texts", subject, batch, rows=2)) != inputs_digest(trial)


def test_this_very_interpreter_serves(model: Path, trial: Trial) -> None:
    """A real worker is loaded, prepared and timed; killed, it is an error that says how it ended."""
    with WorkerClient(sys.executable) as other:
        found = other.load(checkpoint=str(model), **LOAD)
        assert found["clip_eval"] == __version__
        assert other.load(checkpoint=str(model), **LOAD) is found
        other.prepare(trial)
        assert other.seconds() > 0
        os.kill(other.pid, signal.SIGKILL)
        with pytest.raises(ProcessError, match="worker process died of signal SIGKILL"):
            other.seconds()


@pytest.fixture
def fake(tmp_path: Path) -> Callable[[str], str]:
    """Makes an interpreter that only reads requests and answers as `body` says; `n` counts the requests."""

    def make(body: str) -> str:
        program = tmp_path / "python"
        lines = [f"#!{sys.executable}", "import json, sys", "for n, line in enumerate(sys.stdin):", f"    {body}"]
        program.write_text("\n".join(lines), encoding="utf-8")
        program.chmod(0o755)
        return str(program)

    return make


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("sys.exit('no module named clip_eval')", r"ended with exit code 1 \(no module named clip_eval\)"),
        ("print(json.dumps({'error': 'KeyError: x'}), flush=True)", r"failed \(KeyError: x\)"),
        ("print(json.dumps({'clip_eval': '0.0.0'}), flush=True)", "the other interpreter has clip-eval 0.0.0"),
    ],
    ids=["dies", "fails", "another release"],
)
def test_a_worker_that_is_no_help_says_why(fake: Callable[[str], str], body: str, said: str) -> None:
    """A worker that dies, fails, or is another release of this package ends the comparison with the reason."""
    with WorkerClient(fake(body)) as other, pytest.raises(ProcessError, match=said):
        other.load(checkpoint="x", **LOAD)


def test_other_inputs_are_refused(fake: Callable[[str], str], trial: Trial) -> None:
    """A worker whose inputs differ is refused, unless the other side's architecture makes them differ."""
    answer = f"print(json.dumps({{'clip_eval': '{__version__}', 'inputs': 'others'}}), flush=True)"
    with WorkerClient(fake(answer)) as other:
        other.load(checkpoint="x", **LOAD)
        other.prepare(trial, same_inputs=False)
        with pytest.raises(ProcessError, match="other inputs"):
            other.prepare(trial)


@pytest.mark.skipif(os.name != "posix", reason="only POSIX waits for a pipe with a limit")
def test_patience_has_an_end(fake: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that never answers is given up."""
    monkeypatch.setattr("clip_eval.throughput.worker_client._LOAD_S", 0.2)
    with WorkerClient(fake("pass")) as other, pytest.raises(ProcessError, match=r"no answer in 0\.2 s"):
        other.load(checkpoint="x", **LOAD)


def test_an_interpreter_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    """A path at which nothing can be started is the user's to mend."""
    with pytest.raises(UsageError, match="cannot be started"):
        WorkerClient(str(tmp_path / "no-python"))
