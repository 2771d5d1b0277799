"""When a score passes, fails, or decides nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from support.embedded import hits as scores
from support.embedded import scored

from clip_eval.baseline import PackedTask
from clip_eval.tasks.judgement import against_chance, against_reference, judge
from clip_eval.tasks.task import Score


@pytest.mark.parametrize(
    ("hits", "count", "classes", "outcome"),
    [
        (508, 528, 48, "passed"),  # a trained checkpoint
        (40, 528, 48, "passed"),  # poor, and yet far from guessing
        (11, 528, 48, "failed"),  # exactly chance: random weights, swapped towers
        (0, 528, 48, "failed"),  # below chance
        (17, 528, 48, "failed"),  # the interval still reaches chance
        (1, 48, 48, "failed"),  # one image a class is enough to see that
        (25, 50, 2, "failed"),
        (30, 50, 2, "failed"),
        (12, 20, 2, "inconclusive"),  # 60 % of 20: guessing, or a fair model
        (2, 4, 48, "passed"),  # two of four by luck is one chance in four hundred
        (0, 3, 48, "inconclusive"),
        (3, 3, 2, "inconclusive"),
    ],
)
def test_chance_rule(hits: int, count: int, classes: int, outcome: str) -> None:
    """Above chance passes; at chance fails, given images enough, and else decides nothing. The reason names chance."""
    found = against_chance(scores(hits, count, classes=classes))
    assert found.outcome == outcome
    assert f"{1 / classes:.4f}" in found.reason


def test_a_broken_answer_is_a_miss() -> None:
    """An embedding that is not finite counts as wrong, and is counted."""
    found = scores(5, 10, broken=3)
    assert found.not_finite == 3
    assert found.primary.value == 0.5
    assert found.primary.filled.tolist().count(0) == 5


def reference(hits: int, count: int, *, lost: int, gained: int) -> PackedTask:
    """Return what the release had right, given that the candidate has the first `hits` of `count` right."""
    values = [float(gained <= index < hits + lost) for index in range(count)]
    return packed(values, [str(index) for index in range(count)])


def packed(values: Sequence[float], samples: Sequence[str], *, name: str = "top1") -> PackedTask:
    """Return what a pack holds of one score."""
    return PackedTask(dataset="digest", samples=tuple(samples), values={name: tuple(values)})


@pytest.mark.parametrize(
    ("lost", "gained", "outcome"),
    [
        (0, 0, "passed"),
        (0, 20, "passed"),
        (3, 2, "passed"),
        (5, 0, "passed"),  # 5 of 528 is below one in a hundred
        (7, 0, "failed"),
        (6, 0, "inconclusive"),
        (12, 2, "failed"),
        (10, 10, "inconclusive"),
    ],
)
def test_reference_rule(lost: int, gained: int, outcome: str) -> None:
    """Few changes pass, a lopsided loss fails, many balanced changes decide nothing; the counts are told."""
    found = against_reference(scores(500, 528), reference(500, 528, lost=lost, gained=gained))
    assert found.outcome == outcome
    assert found.reference == pytest.approx((500 + lost - gained) / 528)
    assert (found.details["lost"], found.details["gained"]) == (lost, gained)
    assert f"{lost} answers of 528 were lost and {gained} gained" in found.reason


def test_other_records_decide_nothing() -> None:
    """A reference over other samples is no reference: said, and not judged."""
    found = against_reference(scores(5, 10), packed([1.0], ["0"]))
    assert (found.outcome, found.reference) == ("inconclusive", None)
    assert "9 are in one of the two only" in found.reason


def test_the_graver_outcome_counts() -> None:
    """At chance fails although the reference was no better; a loss fails although the score is above chance."""
    (at_chance,) = judge(scores(11, 528), reference(11, 528, lost=0, gained=0))
    assert (at_chance.outcome, at_chance.reference) == ("failed", pytest.approx(11 / 528))
    assert "chance" in (at_chance.reason or "")
    (worse,) = judge(scores(480, 528), reference(480, 528, lost=30, gained=0))
    assert worse.outcome == "failed"
    assert "30 answers" in (worse.reason or "")


def test_task_result_holds_what_a_report_shows() -> None:
    """Name, score, interval, count and details; without a reference there is none in it."""
    (result,) = judge(scores(500, 528))
    assert (result.name, result.count, result.reference, result.higher_is_better) == ("zero_shot_top1", 528, None, True)
    assert result.score == pytest.approx(500 / 528)
    assert result.interval_low is not None
    assert result.interval_low < 500 / 528 < (result.interval_high or 0)
    assert result.details == {
        "chance": 1 / 48,
        "dataset": "digest",
        "images": 528,
        "not_finite": 0,
        "unreadable": 0,
        "unreadable_images": (),
    }


def test_unreadable_images_keep_a_score_from_passing() -> None:
    """A score over a part of the dataset is never a pass, and a failure stays one."""
    (result,) = judge(scores(500, 520, unreadable=("a.png: truncated", "b.png: truncated")))
    assert result.outcome == "inconclusive"
    assert "2 of 522 images could not be read" in (result.reason or "")
    assert result.details["unreadable"] == 2
    assert judge(scores(11, 528, unreadable=("a.png: truncated",)))[0].outcome == "failed"


def ranks(values: Sequence[float], *, chance: float | None = 50.5) -> Score:
    """Return ranks among a hundred, of which the median counts: lower is better."""
    return Score(
        name="median_rank",
        values=np.array(values),
        aggregate=lambda values, rows: float(np.median(values[rows])),
        higher_is_better=False,
        chance=chance,
        best=1,
        worst=100,
        margin=1,
    )


GUESSED = np.random.default_rng(7).integers(1, 101, size=400).astype(np.float64)  # (400,)


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        (GUESSED / 10, "passed"),
        (GUESSED, "failed"),
        (101 - GUESSED / 10, "failed"),
        (np.array([10.0, 40.0, 90.0]), "inconclusive"),
    ],
)
def test_chance_rule_of_a_rank(values: np.ndarray, outcome: str) -> None:
    """Where lower is better, an interval below chance passes and one at or above chance fails."""
    found = against_chance(scored(ranks(values.tolist())))
    assert found.outcome == outcome
    assert outcome != "passed" or "lies below chance, 50.5000" in found.reason


@pytest.mark.parametrize(
    ("change", "outcome"),
    [(0, "passed"), (-5, "passed"), (0.5, "passed"), (3, "failed")],
)
def test_reference_rule_of_a_rank(change: float, outcome: str) -> None:
    """A rise beyond the margin fails, a fall and a small rise pass; both scores and the loss are told."""
    before = (GUESSED / 10).tolist()
    now = scored(ranks([value + change for value in before]))
    found = against_reference(now, packed(before, now.samples, name="median_rank"))
    assert found.outcome == outcome
    assert found.reference == np.median(before)
    assert found.details["loss_low"] == pytest.approx(change, abs=1e-9)
    assert f"median_rank went from {np.median(before):.4f} to {np.median(before) + change:.4f}" in found.reason


def test_balanced_changes_of_few_decide_nothing() -> None:
    """Four samples whose values trade places are no evidence of a loss, nor against one."""
    values = np.array([0.1, 0.9, 0.4, 0.6])  # (4,)
    now = scored(Score(name="precision", values=values))
    found = against_reference(now, packed(values[::-1].tolist(), now.samples, name="precision"))
    assert found.outcome == "inconclusive"


def test_hits_of_several_captions_are_resampled_by_sample() -> None:
    """Two captions of one image are not two independent answers: the exact test of hits is not for them."""
    samples = [str(index // 2) for index in range(200)]
    now = scored(Score(name="recall_at_1", values=np.array([1.0] * 180 + [0.0] * 20)), samples=samples)
    found = against_reference(now, packed([1.0] * 200, samples, name="recall_at_1"))
    assert found.outcome == "failed"
    assert set(found.details) == {"loss_low", "loss_high", "p_value"}
    independent = scored(now.primary)
    assert now.interval(now.primary).low < independent.interval(now.primary).low


def test_one_sample_decides_nothing() -> None:
    """One sample alone has the limits of the score for an interval, and is not compared."""
    now = scored(ranks([3.0]))
    assert (now.interval(now.primary).low, now.interval(now.primary).high) == (1, 100)
    assert against_chance(now).outcome == "inconclusive"
    assert against_reference(now, packed([3.0], now.samples, name="median_rank")).outcome == "inconclusive"


def test_without_chance_and_reference_nothing_is_judged() -> None:
    """A score that nothing is held against is no pass; with a reference it can be one."""
    now = scored(ranks([3.0, 4.0, 5.0], chance=None))
    assert judge(now)[0].outcome == "not_asked"
    assert "chance" not in judge(now)[0].details
    assert judge(now, packed([3.0, 4.0, 5.0], now.samples, name="median_rank"))[0].outcome == "passed"


def test_another_subject_s_scores_are_a_reference() -> None:
    """What a pack would keep need not come from a pack: two subjects can be held against each other."""
    found = against_reference(scores(500, 528), scores(520, 528))
    assert (found.outcome, found.reference) == ("failed", pytest.approx(520 / 528))


def test_other_scores_are_shown() -> None:
    """Beside the primary score stand the others: with interval and reference, not judged."""
    top5 = Score(name="top5", values=np.ones(528), chance=5 / 48)
    now = scored(scores(500, 528).primary, top5)
    before = PackedTask(
        dataset="digest", samples=now.samples, values={"top1": (1.0,) * 528, "top5": (1.0,) * 264 + (0.0,) * 264}
    )
    first, second = judge(now, before)
    assert (first.name, first.outcome) == ("zero_shot_top1", "failed")
    assert (second.name, second.outcome, second.score, second.reference) == ("zero_shot_top5", "not_asked", 1.0, 0.5)
    assert second.interval_low is not None
    assert 0.99 < second.interval_low < 1
    assert second.reason == "shown beside zero_shot_top1, which is judged"
    only_first = PackedTask(dataset="digest", samples=now.samples, values={"top1": (1.0,) * 528})
    assert judge(now, only_first)[1].reference is None
