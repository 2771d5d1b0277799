"""The hooks by themselves: what a failed search for the place of a mismatch leaves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support import sample_records as sample

from clip_eval.run.pytest_hooks import Recorder
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings
from clip_eval.verdict.compare import Mismatch


def test_a_search_that_breaks_keeps_the_mismatch_and_leaves_a_note(tmp_path: Path) -> None:
    """The module of the mismatch stays, and a note of the record says what the search raised."""

    class Broken:
        def first_divergence(self, *_: object) -> str:
            raise RuntimeError("no such\nmodule")

    recorder = Recorder(Session(Settings(model=str(tmp_path))), cast("pytest.Config", None))
    vars(recorder.session)["candidate"] = SimpleNamespace(localiser=Broken())
    item = SimpleNamespace(user_properties=[], get_closest_marker=lambda _: None)
    measurement = cast("Any", SimpleNamespace(name="x", observed=1.0, expected=2.0))
    located = recorder._located(cast("pytest.Item", item), Mismatch(measurement, "text_model"))
    assert located == "text_model"
    ((kind, text),) = item.user_properties
    assert kind == "clip_eval.note"
    assert "RuntimeError: no such module" in text


@pytest.mark.parametrize(
    ("outcome", "own_failed", "code"),
    [("warned", False, 0), ("warned", True, 1), ("passed", False, 1), ("passed", True, 1)],
)
def test_a_warning_leaves_the_exit_code_alone(tmp_path: Path, outcome: str, own_failed: bool, code: int) -> None:
    """A check that only warns failed as a test; the user's own tests still count, and a failure that nobody knows."""
    recorder = Recorder(Session(Settings(model=str(tmp_path))), cast("pytest.Config", None))
    record = dataclasses.replace(sample.passing_record(), checks=(sample.check(outcome=outcome),))
    vars(recorder).update(_record=lambda: record, _own_failed=own_failed)
    session = SimpleNamespace(exitstatus=int(pytest.ExitCode.TESTS_FAILED))
    recorder._finish(cast("pytest.Session", session))
    assert session.exitstatus == code
