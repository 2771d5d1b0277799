"""The machine as conditions of a speed state it."""

from __future__ import annotations

from pathlib import Path

import pytest

from clip_eval.subject import environment as machine

INFO = """processor\t: 0
cpu family\t: 6
model\t\t: 167
model name\t: Some Processor
stepping\t: 1

processor\t: 1
model name\t: Another
"""


@pytest.fixture
def cpu_info(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc/cpuinfo of the test's own."""
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(machine, "_CPU_INFO", file)
    machine._cpu_info.cache_clear()
    return file


@pytest.fixture(autouse=True)
def _forget() -> object:
    yield
    machine._cpu_info.cache_clear()


def test_the_model_tells_processors_of_one_name_apart(cpu_info: Path) -> None:
    """Hypervisors call many processors the same: family, model and stepping are part of the name."""
    cpu_info.write_text(INFO, encoding="utf-8")
    assert machine.cpu_name() == "Some Processor"
    assert machine.cpu_model() == "Some Processor (6/167/1)"


def test_without_cpuinfo_the_platform_is_asked(cpu_info: Path) -> None:
    """Outside of Linux the name is what Python knows."""
    assert not cpu_info.exists()
    assert machine.cpu_model() == machine.cpu_name() != ""


def test_cores_are_those_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is held to some cores has so many."""
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert machine.cores() == 3
    monkeypatch.delattr(machine.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 7)
    assert machine.cores() == 7
