"""When two checkpoints are better, the same, worse, or not decided, on values made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from support.embedded import scored

from clip_eval.evaluation.comparison import compare_score
from clip_eval.evaluation.results import Comparison
from clip_eval.tasks.task import Score, Scored


def answers(hits: Sequence[float]) -> Scored:
    """Return hits and misses."""
    return scored(Score(name="top1", values=np.array(hits, dtype=np.float64), chance=0.1))


def changed(*, of: int, lost: int, gained: int, margin: float | None = None, identical: bool = False) -> Comparison:
    """Compare two runs of which nine in ten answers are right where nothing changes."""
    kept = [float(place % 10 != 0) for place in range(of - lost - gained)]
    now, before = [0.0] * lost + [1.0] * gained + kept, [1.0] * lost + [0.0] * gained + kept
    one = answers(now)
    return compare_score(one, one.primary, answers(before), margin=margin, identical=identical)


@pytest.mark.parametrize(
    ("of", "lost", "gained", "outcome"),
    [
        (5000, 5, 4, "same"),
        (5000, 200, 100, "worse"),
        (5000, 100, 200, "better"),
        (5000, 20, 70, "better"),
        (2000, 20, 34, "no_worse"),  # a gain of more than one in a hundred is possible, and not shown
        (5000, 30, 10, "same"),  # a loss that is real, and smaller than the margin for sure
        (500, 10, 8, "inconclusive"),
        (528, 0, 0, "same"),
        (100, 0, 0, "inconclusive"),  # no change in a hundred does not exclude one in a hundred
        (100, 7, 0, "worse"),
        (100, 6, 0, "inconclusive"),  # as in the gate: 6 changes, all of them lost, happen once in 64 runs
    ],
)
def test_outcomes(of: int, lost: int, gained: int, outcome: str) -> None:
    """Each word for what it says, with the counts."""
    found = changed(of=of, lost=lost, gained=gained)
    if outcome == "no_worse":
        assert found.loss_high is not None
        assert found.loss_high < 0.01
    assert (found.outcome, found.lost, found.gained) == (outcome, lost, gained)
    assert (found.needed is None) == (outcome != "inconclusive")
    assert f"{lost} are worse and {gained} better" in found.reason


def test_directions_mirror() -> None:
    """What is worse one way is better the other way, by the same amount."""
    there, back = changed(of=800, lost=40, gained=10), changed(of=800, lost=10, gained=40)
    assert (there.outcome, back.outcome) == ("worse", "better")
    assert (there.loss_low, there.worse_p) == (-(back.loss_high or 0), back.better_p)


def test_the_margin_is_the_user_s() -> None:
    """With a wider one fewer samples do."""
    assert changed(of=500, lost=10, gained=8).outcome == "inconclusive"
    assert changed(of=500, lost=10, gained=8, margin=0.05).outcome == "same"


def test_identical_checkpoints_are_the_same() -> None:
    """Where files and dtype are one and no answer differs, nothing is left to be shown; one that differs counts."""
    found = changed(of=3, lost=0, gained=0, identical=True)
    assert (found.outcome, found.loss_low, found.loss_high) == ("same", 0.0, 0.0)
    assert "same files and dtype" in found.reason
    assert changed(of=30, lost=1, gained=0, identical=True).outcome == "inconclusive"


@pytest.mark.parametrize(("of", "lost", "gained"), [(500, 10, 8), (400, 12, 4), (100, 6, 0), (200, 0, 0), (100, 3, 3)])
def test_so_many_samples_would_decide(of: int, lost: int, gained: int) -> None:
    """With as many as it says, and the same shares of changes, it is decided; with half as many it is not."""
    found = changed(of=of, lost=lost, gained=gained)
    assert found.needed is not None

    def at(count: float) -> str:
        return changed(of=round(count), lost=round(lost * count / of), gained=round(gained * count / of)).outcome

    assert found.needed > of
    assert at(found.needed) != "inconclusive"
    assert at(found.needed / 4) == "inconclusive"


def grouped(values: np.ndarray, group: int) -> Scored:
    """Return values whose samples stand in groups."""
    found = scored(Score(name="top1", values=values, chance=0.1))
    return replace(found, groups={name: str(int(name) // group) for name in found.samples})


def test_groups_are_compared_as_one() -> None:
    """Fifty lost answers are a loss, and fifty of one group are one observation."""
    before, now = np.ones(2000), np.ones(2000)
    now[:50] = 0
    alone, together = (compare_score(one := grouped(now, size), one.primary, grouped(before, size)) for size in (1, 50))
    assert (alone.outcome, together.outcome) == ("worse", "inconclusive")
    assert (alone.resampled, together.resampled) == (2000, 40)
    assert "groups would decide" in together.reason


def test_no_change_in_few_groups_is_no_proof() -> None:
    """Where no group changed, as many as may change unseen are counted: four of forty."""
    one = grouped(np.ones(400), 10)
    found = compare_score(one, one.primary, grouped(np.ones(400), 10))
    assert (found.outcome, found.loss_high) == ("inconclusive", pytest.approx(0.1))
    assert found.needed is not None
    many = grouped(np.ones(10 * found.needed), 10)
    assert compare_score(many, many.primary, many).outcome == "same"


def test_ranks_and_other_values() -> None:
    """Lower is better where a score says so, its own margin counts, and a median has no number of samples to name."""

    def ranks(values: np.ndarray) -> Scored:
        return scored(
            Score(
                name="median_rank", values=values, higher_is_better=False, worst=100, margin=2,
                aggregate=lambda values, rows: float(np.median(values[rows])),
            )
        )  # fmt: skip

    before = np.random.default_rng(2).integers(1, 20, size=400).astype(np.float64)  # (400,)
    worse, better, few = ranks(before + 8), ranks(before / 8), ranks(before[:5] + 1)
    assert compare_score(worse, worse.primary, ranks(before), margin=0.5).outcome == "worse"
    assert compare_score(worse, worse.primary, ranks(before)).margin == 2
    assert compare_score(better, better.primary, ranks(before)).outcome == "better"
    found = compare_score(few, few.primary, ranks(before[:5][::-1]))
    assert (found.outcome, found.needed) == ("inconclusive", None)


def test_other_samples_and_a_single_one_are_not_compared() -> None:
    """It is said, and nothing is made up."""
    one = answers([1, 0, 1])
    found = compare_score(one, one.primary, replace(one, samples=("0", "1", "3")))
    assert (found.outcome, found.other, found.loss_low) == ("inconclusive", None, None)
    alone = grouped(np.ones(3), 3)
    assert compare_score(alone, alone.primary, alone).outcome == "inconclusive"
