"""A score against what a policy asks of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from support.embedded import hits, scored

from clip_eval.baseline import PackedTask
from clip_eval.tasks.judgement import judge
from clip_eval.tasks.task import Score
from clip_eval.tasks.thresholds import against_threshold, as_asked
from clip_eval.verdict.policy import Threshold


def packed(values: Sequence[float], *, name: str = "top1") -> PackedTask:
    """What a pack holds of one score of samples 0, 1, ..."""
    samples = tuple(str(index) for index in range(len(values)))
    return PackedTask(dataset="digest", samples=samples, values={name: tuple(values)})


@pytest.mark.parametrize(
    ("asked", "outcome"),
    [
        (Threshold(least=0.82), "passed"),  # the interval of 90 in 100 is 0.826 to 0.945
        (Threshold(least=0.8, most=0.96), "passed"),
        (Threshold(least=0.95), "failed"),
        (Threshold(least=0.9), "inconclusive"),
        (Threshold(least=0.9, by="score"), "passed"),
        (Threshold(least=0.91, by="score"), "failed"),
        (Threshold(most=0.8), "failed"),
        (Threshold(most=0.9), "inconclusive"),
        (Threshold(least=0.5, most=0.8), "failed"),  # the gravest counts
        (Threshold(least=0.95, warn=True), "warned"),
        (Threshold(least=0.9, warn=True), "warned"),
        (Threshold(least=0.8, warn=True), "passed"),
    ],
)
def test_a_score_and_its_interval(asked: Threshold, outcome: str) -> None:
    """Surely outside fails, surely inside passes, across is undecided unless the score itself is asked for."""
    found = hits(90, 100)
    assert against_threshold(found, found.primary, asked).outcome == outcome


def test_the_reason_has_both_sides() -> None:
    """What is asked and what was seen stand in the sentence."""
    found = hits(90, 100)
    assert against_threshold(found, found.primary, Threshold(least=0.95)).reason == (
        "the policy asks for a score of at least 0.95, and the 95 % interval 0.8256 to 0.9448 is not"
    )


@pytest.mark.parametrize(
    ("lost", "gained", "asked", "outcome"),
    [
        (0, 0, Threshold(most_loss=0.0), "passed"),
        (0, 0, Threshold(most_loss=-0.01), "failed"),  # it must gain, and nothing changed
        (5, 0, Threshold(most_loss=0.01), "passed"),
        (50, 0, Threshold(most_loss=0.01), "failed"),
        (20, 0, Threshold(most_loss=0.03), "inconclusive"),
        (20, 0, Threshold(most_loss=0.03, by="score"), "failed"),
        (0, 60, Threshold(most_loss=-0.05), "passed"),
        (50, 0, Threshold(most_relative_loss=0.2), "passed"),
        (50, 0, Threshold(most_relative_loss=0.01), "failed"),
    ],
)
def test_a_loss(lost: int, gained: int, asked: Threshold, outcome: str) -> None:
    """The loss is that of paired answers to 528 samples, with the interval that a gate judges losses by."""
    found = hits(400, 528)
    before = [float(gained <= index < 400 + lost) for index in range(528)]
    assert against_threshold(found, found.primary, asked, packed(before)).outcome == outcome


def test_a_loss_of_a_score_of_which_less_is_better() -> None:
    """A rank that grows is a loss, and one that falls is none."""
    values = np.arange(40, dtype=np.float64)
    rank = Score(name="rank", values=values, higher_is_better=False, best=0.0, worst=40.0)
    found = scored(rank)
    better, worse = (
        packed([value + 1 for value in values], name="rank"),
        packed([value - 1 for value in values], name="rank"),
    )
    assert against_threshold(found, rank, Threshold(most_loss=0.5), better).outcome == "passed"
    assert against_threshold(found, rank, Threshold(most_loss=0.5), worse).outcome == "failed"


@pytest.mark.parametrize("by", ["interval", "score"])
def test_a_loss_without_a_baseline_is_undecided(by: str) -> None:
    """Without the baseline's answers, or with those to other samples, nothing is known of a loss."""
    found, asked = hits(5, 10), Threshold(most_loss=0.1, by=by)  # type: ignore[arg-type]
    for reference in (None, packed([1.0] * 9), packed([1.0] * 10, name="top5")):
        assert against_threshold(found, found.primary, asked, reference).outcome == "inconclusive"
    nothing = packed([0.0] * 10)
    assert against_threshold(found, found.primary, Threshold(most_relative_loss=0.1), nothing).outcome == "inconclusive"


def test_the_graver_judgement_is_the_result() -> None:
    """A score above chance fails by its threshold, one at chance stays failed; other scores are judged where asked."""
    five = Score(name="top5", values=np.ones(100))
    found = scored(hits(90, 100).primary, five)
    policy = {"zero_shot_top1": Threshold(least=0.99), "zero_shot_top5": Threshold(least=0.9)}
    first, second = as_asked(judge(found), found, policy, None)
    assert (first.outcome, first.policy, second.outcome, second.policy) == ("failed", "failed", "passed", "passed")
    assert "the policy asks for a score of at least 0.99" in str(first.reason)
    (poor,) = as_asked(judge(hits(11, 528)), hits(11, 528), {"zero_shot_top1": Threshold(least=0.0)}, None)
    assert (poor.outcome, poor.policy) == ("failed", "passed")
    assert "chance" in str(poor.reason)
    assert [result.policy for result in as_asked(judge(found), found, {}, None)] == [None, None]


def test_a_score_over_a_part_of_the_dataset_is_not_as_asked() -> None:
    """Where images cannot be read, a threshold that is met is undecided."""
    found = hits(90, 100, unreadable=("a.png: truncated",))
    (result,) = as_asked(judge(found), found, {"zero_shot_top1": Threshold(least=0.1)}, None)
    assert result.policy == "inconclusive"
