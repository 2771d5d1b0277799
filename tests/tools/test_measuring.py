"""The table of budgets: what it counts, what it flags, and readings of a healthy model."""

from __future__ import annotations

from pathlib import Path

import pytest
from measuring import process
from measuring.process import Reading, checkpoints, readings
from measuring.table import Measured, render


def measured(*process: Reading, failed: tuple[str, ...] = ()) -> Measured:
    """Readings of one release."""
    return Measured(
        "transformers 0.0", [Reading("gate, float32, eager", "rule", 0.5, "logits", True)], process, failed, 6
    )


def test_the_worst_of_each_budget_is_shown() -> None:
    """Of several readings of a budget the largest takes the line, and its room is the inverse."""
    page = render([measured(Reading("batch 1", "rule", 0.25, "a", True), Reading("batch 2", "other", 0.1, "b", True))])
    assert "| rule | 0.500 | 2.0 | transformers 0.0: gate, float32, eager: logits |" in page
    assert "| other | 0.100 | 10.0 **wide** | transformers 0.0: batch 2: b |" in page
    assert "false alarms in gates: 0 of 6\n" in page


def test_what_is_outside_is_named() -> None:
    """Failed checks of gates and measurements outside their bound are counted and listed."""
    page = render([measured(Reading("batch 1", "rule", 1.5, "a", False), failed=("float32, eager: towers.x",))])
    assert "false alarms in gates: 1 of 6 (float32, eager: towers.x)" in page
    assert "1 of 1 runs (transformers 0.0: batch 1: a)" in page


def test_a_healthy_model_is_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every reading of the shipped checkpoint is inside its bound, in each attention and thread count."""
    monkeypatch.setattr(process, "BATCHES", {"shapes-clip": (1, 6)})
    found = list(readings("shapes-clip", checkpoints(tmp_path)["shapes-clip"], "bfloat16", tmp_path))
    assert len({reading.where for reading in found}) == 8
    assert len({reading.budget for reading in found}) == 4
    assert all(reading.passed and reading.ratio < 1 for reading in found)
    assert {reading.budget for reading in found if reading.ratio > 0} == {reading.budget for reading in found}
