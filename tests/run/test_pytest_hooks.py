"""The hooks by themselves: what a failed search for the place of a mismatch leaves."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

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
