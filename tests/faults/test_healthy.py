"""Healthy runs are left alone: every dtype and attention implementation, and known-good variants of the checkpoint."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from support.lone_towers import PARTS, save_part
from support.releases import ordinary_under

from clip_eval.checkpoint.checkpoint import Checkpoint, open_checkpoint
from clip_eval.families.roles import WHOLE
from clip_eval.user_values import DTYPES
from clip_eval.verdict.run_record import RunRecord
from faults.healthy import VARIANTS, Variant
from faults.not_applicable import answered, expected_of, left_out
from faults.runner import Run, Runner
from faults.watch import CHECKPOINT, largest_ratios

# A whole run takes a quarter of a minute, so ordinary runs under each release have their share. They meet the other
# pairs in the variants: in_shards, stored_in_bfloat16, gelu_in_float16, old_and_extreme.
ORDINARY = {("bfloat16", "eager"): "4", ("float16", "eager"): "5"}
PAIRS = [pytest.param(*pair, marks=ordinary_under(ORDINARY.get(pair)))
         for pair in itertools.product(DTYPES, ("eager", "sdpa"))]  # fmt: skip


@pytest.mark.parametrize(("dtype", "attention"), PAIRS)
def test_shipped_checkpoint_passes(runner: Runner, dtype: str, attention: str) -> None:
    """The shipped checkpoint passes in every dtype under both attention implementations."""
    run = runner.run(CHECKPOINT, "--clip-dtype", dtype, "--clip-attn", attention)
    _report(run)
    assert run.record.verdict == "pass", run.record.reasons


@pytest.mark.parametrize(
    "variant", [pytest.param(variant, id=variant.id, marks=ordinary_under(variant.ordinary)) for variant in VARIANTS]
)
def test_variant_is_left_alone(runner: Runner, tmp_path: Path, variant: Variant) -> None:
    """No check fails on a healthy checkpoint of another make, and the verdict is pass where all its parts are there."""
    variant.make(tmp_path / "checkpoint")
    run = runner.run(tmp_path / "checkpoint", *variant.options)
    _report(run)
    assert [check.name for check in run.record.checks if check.outcome in ("failed", "error")] == [], run.record.reasons
    assert run.record.verdict == ("pass" if variant.whole else "inconclusive"), run.record.reasons
    _assert_that_nothing_else_is_left_out(run.record, open_checkpoint(tmp_path / "checkpoint"))


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("role", PARTS)
def test_a_part_passes_in_every_dtype_and_attention(
    runner: Runner, saved: Callable[[str], Path], role: str, dtype: str, attention: str
) -> None:
    """Each class that holds a part of a CLIP, as the installed release saves it, passes, and no more is left out."""
    run = runner.run(saved(role), "--clip-dtype", dtype, "--clip-attn", attention)
    _report(run)
    assert run.record.verdict == "pass", run.record.reasons
    _assert_that_nothing_else_is_left_out(run.record, open_checkpoint(saved(role)))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that returns the directory of a part, saved on its first call."""
    made: dict[str, Path] = {}

    def directory(role: str) -> Path:
        if role not in made:
            made[role] = save_part(tmp_path_factory.mktemp("saved") / role, role)
        return made[role]

    return directory


def _assert_that_nothing_else_is_left_out(record: RunRecord, checkpoint: Checkpoint) -> None:
    """Of a part of a CLIP, the checks that do not apply are those that `not_applicable.py` has reasons for."""
    role = checkpoint.holds.role
    if role == WHOLE:
        return
    known = {check.id for check in record.checks}
    expected = expected_of(role, known, image_processor=checkpoint.has_image_processor)
    assert left_out(record, role) - expected == set()
    assert answered(record, expected) == set()


def _report(run: Run) -> None:
    """Leave the largest error over bound of each budget in the captured output."""
    for budget, (ratio, where) in sorted(largest_ratios([run.record]).items()):
        print(f"{ratio:8.3f}  {budget}: {where}")
