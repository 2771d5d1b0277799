"""The suite on a part of a CLIP: what it holds is judged, what it does not hold does not apply, in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.runner import Runner
from support.lone_towers import CLASSIFIER, TEXT, TEXT_PROJECTED, VISION_PROJECTED, write_part

NEIGHBOURS, ALONE = "batches.neighbours_do_not_matter", "batches.a_row_alone_is_the_same"
HEAD, FINITE, LOADED = "contrastive_head.embeddings_have_unit_norm", "extremes.outputs_are_finite", "weights"
EMBEDS, LOGITS = "towers.projected_towers_give_the_features", "image_classification.logits_are_those_of_the_patches"
SHAPES, SAVED = "output_shapes.tower_shapes", "persistence.saved_and_loaded_again"
PARTS = (NEIGHBOURS, ALONE, HEAD, FINITE, LOADED, EMBEDS, LOGITS, SHAPES, SAVED)


@pytest.mark.parametrize(
    ("role", "held", "more"),
    [
        (TEXT, "a text tower", set()),
        (TEXT_PROJECTED, "a text tower and its projection", {EMBEDS}),
        (VISION_PROJECTED, "a vision tower and its projection", {EMBEDS}),
        (CLASSIFIER, "a vision tower and a classifier", {LOGITS}),
    ],
)
def test_a_part_is_judged_by_what_it_holds(tmp_path: Path, role: str, held: str, more: set[str]) -> None:
    """No check fails, each that the part can answer passes in some case, and the others give the reason."""
    checkpoint = write_part(tmp_path / "part", role, processor=False)
    record = Runner().run(checkpoint, parts=PARTS).record
    results = [check for check in record.checks if check.id in PARTS or check.chapter == LOADED]
    assert [check.name for check in results if check.outcome in ("failed", "error")] == []
    passed = {check.id for check in results if check.outcome == "passed"}
    assert {NEIGHBOURS, ALONE, FINITE, SHAPES, SAVED, *more} <= passed
    assert HEAD not in passed
    reasons = {check.reason for check in results if check.outcome == "not_applicable"}
    assert f"the checkpoint holds {held} only." in reasons
