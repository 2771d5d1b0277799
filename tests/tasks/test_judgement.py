"""When a zero-shot score passes, fails, or decides nothing."""

from __future__ import annotations

import pytest

from clip_eval.dataset import ZeroShot
from clip_eval.tasks.judgement import against_chance, against_reference, judge
from clip_eval.tasks.zero_shot import Answer, ZeroShotScores


def scores(
    hits: int, count: int, *, classes: int = 48, unreadable: tuple[str, ...] = (), broken: int = 0
) -> ZeroShotScores:
    """Return scores with so many hits; the first `broken` misses have no answer at all."""
    task = ZeroShot(tuple(f"class {index}" for index in range(classes)), ("a {}",))
    answers = [
        Answer(str(index), 0, 0 if index < hits else None if index < hits + broken else 1) for index in range(count)
    ]
    return ZeroShotScores(task, tuple(answers), unreadable, "digest")


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
    assert found.score == 0.5
    assert list(found.hits.values()).count(False) == 5


def reference(hits: int, count: int, *, lost: int, gained: int) -> dict[str, bool]:
    """Return what the release had right, given that the candidate has the first `hits` of `count` right."""
    right = {str(index): index < hits for index in range(count)}
    changed = {str(index): True for index in range(hits, hits + lost)}
    return right | changed | {str(index): False for index in range(gained)}


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
    found = against_reference(scores(5, 10), {"0": True})
    assert (found.outcome, found.reference) == ("inconclusive", None)
    assert "9 are in one of the two only" in found.reason


def test_the_graver_outcome_counts() -> None:
    """At chance fails although the reference was no better; a loss fails although the score is above chance."""
    at_chance = judge(scores(11, 528), reference(11, 528, lost=0, gained=0))
    assert (at_chance.outcome, at_chance.reference) == ("failed", pytest.approx(11 / 528))
    assert "chance" in (at_chance.reason or "")
    worse = judge(scores(480, 528), reference(480, 528, lost=30, gained=0))
    assert worse.outcome == "failed"
    assert "30 answers" in (worse.reason or "")


def test_task_result_holds_what_a_report_shows() -> None:
    """Name, score, interval, count and details; without a reference there is none in it."""
    result = judge(scores(500, 528))
    assert (result.name, result.count, result.reference, result.higher_is_better) == ("zero_shot_top1", 528, None, True)
    assert result.score == pytest.approx(500 / 528)
    assert result.interval_low is not None
    assert result.interval_low < 500 / 528 < (result.interval_high or 0)
    assert result.details["worst_classes"] == (
        {"class": "class 0", "hits": 500, "images": 528, "taken_for": "class 1"},
    )


def test_unreadable_images_keep_a_score_from_passing() -> None:
    """A score over a part of the dataset is never a pass, and a failure stays one."""
    result = judge(scores(500, 520, unreadable=("a.png: truncated", "b.png: truncated")))
    assert result.outcome == "inconclusive"
    assert "2 of 522 images could not be read" in (result.reason or "")
    assert result.details["unreadable"] == 2
    assert judge(scores(11, 528, unreadable=("a.png: truncated",))).outcome == "failed"
