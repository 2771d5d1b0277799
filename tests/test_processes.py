"""Running this package in another interpreter: its environment, and recording a baseline there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import clip_eval
from clip_eval.errors import ProcessError, UsageError
from clip_eval.processes import ChildEnd, child_environment, memory_file, record_with, require_clip_eval, run_to_the_end


def program(directory: Path, body: str) -> str:
    """Return an interpreter that does `body` instead of what it is told."""
    file = directory / "python"
    file.write_text(f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\n{body}\n", encoding="utf-8")
    file.chmod(0o755)
    return str(file)


def test_the_environment_is_clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What steers pytest or Python is gone, the rest is there, and paths hold in any directory."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"PYTEST_ADDOPTS": "-k x", "PYTHONOPTIMIZE": "1", "KEPT": "1", "PYTHONPATH": "mine"}.items():
        monkeypatch.setenv(name, value)
    found = child_environment()
    assert found["KEPT"] == "1"
    assert not {"PYTEST_ADDOPTS", "PYTHONOPTIMIZE"} & set(found)
    path = found["PYTHONPATH"].split(os.pathsep)
    assert str(tmp_path / "mine") in path
    assert all(Path(entry).is_absolute() for entry in path)


@pytest.mark.parametrize(
    "name", ["PYTHONINSPECT", "PYTHONSTARTUP", "PYTHONWARNINGS", "PYTHONDEVMODE", "PYTHONMALLOC", "PYTHONVERBOSE"]
)
def test_pythons_switches_are_not_handed_on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """None of the variables that make a child wait, behave or speak in another way reaches it."""
    monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PYTHONHASHSEED", "3")
    assert name not in child_environment()
    assert child_environment()["PYTHONHASHSEED"] == "3"


def test_another_interpreter_has_a_home_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHONHOME says where this interpreter's standard library is, which another one cannot use."""
    monkeypatch.setenv("PYTHONHOME", "/somewhere")
    assert child_environment()["PYTHONHOME"] == "/somewhere"
    assert "PYTHONHOME" not in child_environment("/other/python")


def test_this_interpreter_can_run_the_gate() -> None:
    """The environment of the tests has all that is asked for."""
    require_clip_eval(sys.executable)


def answering(directory: Path, **found: object) -> str:
    """Return an interpreter that says this of itself."""
    said = {"python": [3, 11], "version": clip_eval.__version__, "missing": [], **found}
    return program(directory, f"print('warming up'); print('clip-eval:' + {json.dumps(json.dumps(said))})")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"version": None}, r"no clip-eval: .*python\. Run .*python -m pip install clip-eval==\d"),
        ({"version": "0.0.1"}, r"has clip-eval 0\.0\.1, and this is .* -m pip install clip-eval==\d"),
        ({"missing": ["transformers"]}, r"lacks transformers: .* -m pip install clip-eval==\d"),
        ({"python": [3, 8]}, r"is Python 3\.8, and clip-eval needs 3\.10"),
    ],
    ids=["none", "other", "transformers", "old"],
)
def test_an_interpreter_without_the_same_clip_eval(tmp_path: Path, found: dict[str, object], said: str) -> None:
    """It is a usage error, and the message says what to run."""
    with pytest.raises(UsageError, match=said):
        require_clip_eval(answering(tmp_path, **found))


@pytest.mark.parametrize(
    "body", ["print('hello')", "sys.exit(3)", "print('clip-eval:{')", "while True: print('y' * 99)"]
)
def test_a_program_that_is_no_python(tmp_path: Path, body: str) -> None:
    """Whatever it says, and however much of it, it is told within seconds."""
    with pytest.raises(UsageError, match="not a working Python"):
        require_clip_eval(program(tmp_path, body))


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    """A missing file, a directory and a file that may not be run are no interpreters."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "none", tmp_path, tmp_path / "file"):
        with pytest.raises(UsageError, match=r"cannot be started|does not exist"):
            require_clip_eval(str(path))


def test_idle_threads_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the user says otherwise."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert child_environment()["OMP_WAIT_POLICY"] == "passive"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert child_environment()["OMP_WAIT_POLICY"] == "active"


def test_a_source_tree_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run from a source tree, the child imports that tree; an installed package is not pushed into another
    environment.
    """
    tree = str(Path(str(clip_eval.__file__)).parent.parent)
    monkeypatch.setattr("clip_eval.processes.site.getsitepackages", list)
    assert child_environment()["PYTHONPATH"].split(os.pathsep)[0] == tree
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr("clip_eval.processes.site.getsitepackages", lambda: [tree])
    assert tree not in child_environment()["PYTHONPATH"].split(os.pathsep)


def test_a_pack_is_recorded_over_there(tmp_path: Path) -> None:
    """The other interpreter runs `clip-eval record` with the options given."""
    body = "Path(sys.argv[sys.argv.index('--out') + 1]).write_text(' '.join(sys.argv[1:]))"
    record_with(program(tmp_path, body), "my-clip", tmp_path / "pack", "--attn", "eager")
    said = (tmp_path / "pack").read_text(encoding="utf-8")
    assert said == f"-m clip_eval record my-clip --out {tmp_path / 'pack'} --attn eager"


def test_nothing_recorded_is_an_error(tmp_path: Path) -> None:
    """A release that does not pass its own suite is no baseline; its words are in the message."""
    with pytest.raises(ProcessError, match="not recorded, the gate says fail"):
        record_with(program(tmp_path, "print('not recorded, the gate says fail'); sys.exit(1)"), "m", tmp_path / "p")
    with pytest.raises(UsageError, match=r"cannot be started|does not exist"):
        record_with(str(tmp_path / "none"), "m", tmp_path / "p")


WAITS = """
import signal, time
def interrupted(*_):
    Path(sys.argv[6]).write_text("ended by itself")
    sys.exit(2)
signal.signal(signal.SIGINT, interrupted)
Path(sys.argv[6]).write_text("ready")
time.sleep(600)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX systems do")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_recording_ends_by_itself(tmp_path: Path, number: int) -> None:
    """Ctrl-C, and a request to stop, reach the other interpreter, which is waited for: its own child would go on."""
    running = (
        "import signal, sys; from pathlib import Path; from clip_eval.processes import record_with\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try:\n    record_with(sys.argv[1], 'm', Path(sys.argv[2]))\nexcept KeyboardInterrupt:\n    sys.exit(2)"
    )
    pack = tmp_path / "pack"
    command = [sys.executable, "-c", running, program(tmp_path, WAITS), str(pack)]
    with subprocess.Popen(command, env=child_environment()) as parent:
        for _ in range(12_000):
            if pack.exists() and pack.read_text(encoding="utf-8") == "ready":
                break
            time.sleep(0.05)
        parent.send_signal(number)
        assert parent.wait(timeout=600) == 2
    assert pack.read_text(encoding="utf-8") == "ended by itself"


@pytest.fixture
def sigint() -> Iterator[Callable[[Any], object]]:
    """Sets the handler of SIGINT, which workers of xdist ignore, for one test."""
    before = signal.getsignal(signal.SIGINT)
    yield lambda handler: signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGINT, before)


def started_under(
    number: int, monkeypatch: pytest.MonkeyPatch, program: str
) -> tuple[ChildEnd, subprocess.Popen[bytes]]:
    """Run a child with this signal sent to this process before Popen has returned."""
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)
            os.kill(os.getpid(), number)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with memory_file() as errors:
        command = [sys.executable, "-c", program]
        ended = run_to_the_end(command, environment=os.environ, errors=errors, output=None)
    return ended, started[0]


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX systems do")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_a_child_starts_reaches_the_child(
    number: int, monkeypatch: pytest.MonkeyPatch, sigint: Callable[[Any], object]
) -> None:
    """Ctrl-C before Popen has returned ends the child, which is not left behind."""
    sigint(signal.default_int_handler)
    ended, child = started_under(number, monkeypatch, "import time; time.sleep(600)")
    assert (ended.code, ended.interrupted) == (-signal.SIGINT, True)
    assert child.returncode == -signal.SIGINT


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX systems do")
def test_a_background_job_ignores_ctrl_c_and_its_child_can_be_stopped(
    monkeypatch: pytest.MonkeyPatch, sigint: Callable[[Any], object]
) -> None:
    """Where a shell has SIGINT ignored it changes nothing, and the child starts without that."""
    sigint(signal.SIG_IGN)
    program = "import signal, sys; sys.exit(7 if signal.getsignal(signal.SIGINT) is signal.default_int_handler else 8)"
    ended, _ = started_under(signal.SIGINT, monkeypatch, program)
    assert (ended.code, ended.interrupted) == (7, False)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
