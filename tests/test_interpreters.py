"""Running this package in another interpreter: its environment, and recording a baseline there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import clip_eval
from clip_eval.errors import ProcessError, UsageError
from clip_eval.interpreters import child_environment, record_with


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
    monkeypatch.setattr("clip_eval.interpreters.site.getsitepackages", list)
    assert child_environment()["PYTHONPATH"].split(os.pathsep)[0] == tree
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr("clip_eval.interpreters.site.getsitepackages", lambda: [tree])
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
    with pytest.raises(UsageError, match="cannot be started"):
        record_with(str(tmp_path / "none"), "m", tmp_path / "p")
