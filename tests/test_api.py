"""The package from Python: what is public, what each function hands on, and that what is wrong is a ClipEvalError."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import clip_eval
from clip_eval import api
from clip_eval.cli.main import cli
from clip_eval.errors import ClipEvalError, UsageError
from clip_eval.run import approval
from clip_eval.run.settings import Settings
from clip_eval.throughput import bench as benching


def test_every_public_name_is_there() -> None:
    """All of `__all__` can be imported and seen by `dir`; errors are the very classes, and nothing else is there."""
    assert set(clip_eval.__all__) <= set(dir(clip_eval))
    for name in clip_eval.__all__:
        assert getattr(clip_eval, name) is not None
    kinds = [getattr(clip_eval, name) for name in clip_eval.__all__ if name.endswith("Error")]
    assert all(issubclass(kind, clip_eval.ClipEvalError) for kind in kinds)
    assert clip_eval.ClipEvalError is ClipEvalError
    with pytest.raises(AttributeError, match="no_such_name"):
        clip_eval.no_such_name  # noqa: B018


def test_a_command_stays_a_function_after_its_modules_are_loaded() -> None:
    """No module of the package takes the name of a public function."""
    modules = "clip_eval, clip_eval.throughput.bench, clip_eval.evaluation, clip_eval.cli.evaluate, clip_eval.cli.main"
    program = f"import {modules}; print(clip_eval.bench.__module__, clip_eval.evaluate.__module__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["clip_eval.api"] * 2


OF_A_TERMINAL = {"margins", "verbose"}
"""Options that say what is printed."""


@pytest.mark.parametrize("name", ["gate", "record", "bench", "embed", "evaluate"])
def test_every_option_of_the_command_is_an_argument(name: str) -> None:
    """A function takes what its command takes, by keyword, and documents each argument."""
    renamed = {
        "gate": {"no_throughput": "throughput"},
        "record": {"pack": "out", "existing": "add_to", "speeds": "throughput", "reports": "report"},
        "bench": {"compiled": "compile"},
        "embed": {},
        "evaluate": {},
    }[name]
    function = getattr(clip_eval, name)
    arguments = inspect.signature(function).parameters
    options = {renamed.get(str(param.name), str(param.name)) for param in cli.commands[name].params}
    assert set(arguments) == options - OF_A_TERMINAL | {"quiet"}
    assert all(entry.kind is entry.KEYWORD_ONLY for key, entry in arguments.items() if key != "checkpoint")
    documented = inspect.getdoc(function) or ""
    assert [key for key in arguments if f"{key}:" not in documented] == []
    assert "Returns:" in documented
    assert "Raises:" in documented


@pytest.mark.parametrize("name", ["gate", "record"])
def test_an_unknown_argument_is_a_type_error(name: str) -> None:
    """A misspelt argument is refused as Python does, by the function's name."""
    with pytest.raises(TypeError, match=rf"{name}\(\) got an unexpected keyword argument 'basline'"):
        getattr(clip_eval, name)("clip", basline="pack")


BAD: dict[str, dict[str, Any]] = {
    "float16": {"dtype": "fp16"},
    "int": {"dtype": 16},
    "no attention 'flash'": {"attention": "flash"},
    "device 'gpu'": {"device": "gpu"},
    "device is empty": {"device": ""},
    "baseline is empty": {"baseline": ""},
    "the pack does not exist": {"baseline": "no/such/pack"},
    "dataset takes a text or a path": {"dataset": 3},
    "out takes a text or a path": {"out": None},
    "out is empty": {"out": ""},
    "keyword is empty": {"keyword": " "},
    "NUL": {"policy": "a\0b"},
}


@pytest.mark.parametrize("said", BAD)
@pytest.mark.usefixtures("nothing_runs")
def test_a_wrong_argument_of_gate_is_a_clip_eval_error(model: Path, tmp_path: Path, said: str) -> None:
    """A wrong dtype, device, attention, path or type is one paragraph of ours, and nothing is written."""
    with pytest.raises(ClipEvalError) as caught:
        clip_eval.gate(model, **{"out": tmp_path / "out", **BAD[said]})
    assert said in str(caught.value)
    assert caught.value.exit_code == 4
    assert "usage:" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("function", [api.gate, api.record, api.bench])
@pytest.mark.parametrize(
    "checkpoint", [None, 3, b"clip", "", sys.stdin, ["clip"]], ids=lambda value: type(value).__name__
)
@pytest.mark.usefixtures("nothing_runs")
def test_a_checkpoint_of_another_type_is_refused(function: Callable[..., Any], checkpoint: Any) -> None:
    """Nothing, a number, bytes, an open file: the message says what is taken and what this is."""
    with pytest.raises(UsageError, match="checkpoint"):
        function(checkpoint)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "either out for a new pack, or add_to"),
        ({"out": "a", "add_to": "b"}, "either out for a new pack, or add_to"),
        ({"out": ""}, "out is empty"),
        ({"out": "new", "attention": "eagr"}, "nearest is eager"),
        ({"add_to": "no/such/pack"}, "the pack does not exist"),
    ],
)
@pytest.mark.usefixtures("nothing_runs")
def test_a_wrong_argument_of_record_is_a_clip_eval_error(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], said: str
) -> None:
    """What `record` cannot do is said before the suite runs."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ClipEvalError, match=said):
        clip_eval.record(model, **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtypes": ["half"]}, "nearest is float16"),
        ({"dtypes": "float16"}, "takes a list"),
        ({"devices": ()}, "no device"),
        ({"devices": ["gpu"]}, "device 'gpu'"),
        ({"attentions": ["eagr"]}, "nearest is eager"),
        ({"most_rows": 0}, "most-rows"),
        ({"threads": 0}, "threads"),
        ({"against": ""}, "against is empty"),
    ],
)
def test_a_wrong_argument_of_bench_is_a_clip_eval_error(
    model: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    """What cannot be measured is said at once."""
    with pytest.raises(ClipEvalError, match=said):
        clip_eval.bench(model, **{"out": tmp_path / "out", **options})
    assert list(tmp_path.iterdir()) == []


def test_gate_hands_everything_on(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every argument reaches the run, and what was written is returned."""
    asked: list[tuple[Settings, str | None, bool]] = []

    def run(settings: Settings, *, keyword: str | None, quiet: bool) -> int:
        asked.append((settings, keyword, quiet))
        return 0

    monkeypatch.setattr(api, "run_gate", run)
    monkeypatch.setattr(api, "read_text", lambda path, **_: str(path))
    monkeypatch.setattr(api, "load", lambda text, **_: text)
    found = clip_eval.gate(
        model, dtype="float16", keyword="symmetric", quiet=True, throughput=False, out=tmp_path / "out"
    )
    assert found == str(tmp_path / "out" / "run.json")  # type: ignore[comparison-overlap]
    expected = Settings(model=str(model), dtype="float16", throughput=False, out=tmp_path / "out")
    assert asked == [(expected, "symmetric", True)]


def test_record_hands_everything_on(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every argument reaches the recording."""
    monkeypatch.setattr(approval, "record", lambda settings, **options: (settings, options))
    settings, options = clip_eval.record(  # type: ignore[misc]
        model, out=tmp_path / "pack", dataset="l", throughput=True, report=str(tmp_path / "r"), quiet=True
    )
    assert settings == Settings(model=str(model), dataset="l", throughput=False)
    expected = {"out": tmp_path / "pack", "add_to": None, "reports": tmp_path / "r", "speeds": True, "quiet": True}
    assert options == expected


def test_bench_hands_everything_on(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every argument reaches the bench, which is written to `out` and returned."""
    written: list[Any] = []
    monkeypatch.setattr(benching, "run_bench", lambda options, say: options)
    monkeypatch.setattr(benching, "write_bench", lambda found, where: written.append((found, where)))
    found: Any = clip_eval.bench(
        model, variant="fp16", dtypes=["float32"], devices=["cpu"], compile=True, threads=2, out=tmp_path
    )
    assert found == benching.Options(
        model=str(model), variant="fp16", dtypes=("float32",), devices=("cpu",), compiled=True, threads=2
    )
    assert written == [(found, tmp_path)]
