"""The hooks that show how far a gate is."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from clip_eval.run.progress_hooks import Follower, Lister


def test_loading_is_no_measure_of_the_checks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first check loads the model: nothing is said of the time left before the second has ended."""
    monkeypatch.delenv("CLIP_EVAL_PROGRESS", raising=False)
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    follower = Follower("my-clip")
    session: Any = SimpleNamespace(items=range(4), config=None)
    monkeypatch.setattr("clip_eval.progress.Progress.shares", lambda *_: False)
    follower.pytest_collection_finish(session)
    report: Any = SimpleNamespace(when="call", skipped=False)
    for seconds in (30.0, 25.0, 25.0):
        clock[0] += seconds
        follower.pytest_runtest_logstart("suite/test_masks.py::test_a")
        follower.pytest_runtest_logreport(report)
        follower.pytest_runtest_logfinish()
    assert capsys.readouterr().err.splitlines() == [
        "clip-eval: 4 checks of my-clip",
        "clip-eval: 1 of 4, checking masks",
        "clip-eval: 3 of 4, checking masks, about 25 s left",
    ]


def test_verbose_names_the_checks() -> None:
    """A line begins with the check's name."""
    reporter: Any = SimpleNamespace()
    manager = SimpleNamespace(get_plugin=lambda name: reporter)
    session: Any = SimpleNamespace(config=SimpleNamespace(pluginmanager=manager))
    Lister().pytest_collection_finish(session)
    line = reporter._locationline("suite/numbers/test_masks.py::test_a_mask[text]", "file", 3, "domain")
    assert line == "masks.a_mask[text] "
