"""What a zero-shot score means: better than guessing, and no worse than the approved release.

Without a reference the score is held against guessing, 1 / classes:

- *passed*: the whole 95 % interval lies above chance. The embeddings say something about these classes.
- *failed*: the interval reaches down to chance and ends below the middle between chance and 1. Such a checkpoint cannot
  be told from guessing, by images enough to show a useful one. A broken model scores at chance, not below it: a rule
  that asked for an interval below chance would leave nearly every broken model undecided.
- *inconclusive*: the interval holds chance and the middle. There are too few images to tell.

With a reference the same samples are paired, so that only answers which changed count:

- *passed*: the net loss is below `LOSS_MARGIN` at the upper end of its 95 % interval.
- *failed*: it is not, and losses outweigh gains with p < `SIGNIFICANCE` (exact, one-sided).
- *inconclusive*: neither; the changes are many and about balanced, or the dataset is small.

A candidate has to hold against both; the graver outcome counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from clip_eval.tasks.statistics import PairedChange, paired_change
from clip_eval.tasks.zero_shot import NAME, ZeroShotScores
from clip_eval.verdict.plain_values import Json
from clip_eval.verdict.run_record import TaskResult, TrialOutcome

__all__ = ["LOSS_MARGIN", "SIGNIFICANCE", "Judgement", "against_chance", "against_reference", "judge"]

LOSS_MARGIN = 0.01
"""A net loss of one answer in a hundred is what a release manager has to hear of. Unpaired scores do not show it: at
90 % accuracy the 95 % interval of one score is wider than that on either side below 3,457 images."""

SIGNIFICANCE = 0.01
"""At most one run in a hundred is called a loss where nothing was lost. Fewer than seven changes never are."""

_GRAVITY: tuple[TrialOutcome, ...] = ("passed", "inconclusive", "failed")


@dataclass(frozen=True, slots=True)
class Judgement:
    """An outcome, the sentence behind it, and the reference's score where there was one."""

    outcome: TrialOutcome
    reason: str
    reference: float | None = None
    details: Mapping[str, Json] = field(default_factory=dict)


def judge(scores: ZeroShotScores, reference: Mapping[str, bool] | None = None) -> TaskResult:
    """Return the task result that a run record holds.

    Args:
        scores: of the candidate.
        reference: sample id -> whether the approved release was right; None where nobody recorded it.
    """
    found = against_chance(scores)
    if reference is not None:
        paired = against_reference(scores, reference)
        graver = max((paired, found), key=lambda judgement: _GRAVITY.index(judgement.outcome))
        found = Judgement(graver.outcome, graver.reason, paired.reference, paired.details)
    if scores.unreadable and found.outcome == "passed":
        found = Judgement("inconclusive", _unreadable(scores), found.reference, found.details)
    interval = scores.interval
    return TaskResult(
        name=NAME,
        outcome=found.outcome,
        score=scores.score,
        interval_low=interval.low,
        interval_high=interval.high,
        higher_is_better=True,
        count=len(scores.answers),
        reason=found.reason,
        reference=found.reference,
        details={**scores.details(), **found.details},
    )


def against_chance(scores: ZeroShotScores) -> Judgement:
    """Judge a score against guessing; see the module's text."""
    interval, middle = scores.interval, (scores.chance + 1) / 2
    ends = f"the 95 % interval {interval.low:.4f} to {interval.high:.4f}"
    if interval.low > scores.chance:
        return Judgement("passed", f"{ends} lies above chance, {scores.chance:.4f}")
    if interval.high < middle:
        return Judgement("failed", f"{ends} cannot be told from chance, {scores.chance:.4f}")
    count = len(scores.answers)
    return Judgement(
        "inconclusive", f"{count} images are too few: {ends} holds chance, {scores.chance:.4f}, and half of skill"
    )


def against_reference(scores: ZeroShotScores, reference: Mapping[str, bool]) -> Judgement:
    """Judge a score against an approved release over the same samples; see the module's text."""
    observed = scores.hits
    if observed.keys() != reference.keys():
        other = len(observed.keys() ^ reference.keys())
        return Judgement(
            "inconclusive", f"the reference was recorded on other samples: {other} are in one of the two only"
        )
    change = paired_change(observed, reference)
    score = sum(reference.values()) / len(reference)
    details: dict[str, Json] = {"gained": change.gained, "lost": change.lost, "p_value": change.p_value}
    return Judgement(_paired_outcome(change), _paired_reason(change), score, details)


def _paired_outcome(change: PairedChange) -> TrialOutcome:
    if change.loss.high < LOSS_MARGIN:
        return "passed"
    return "failed" if change.p_value < SIGNIFICANCE else "inconclusive"


def _paired_reason(change: PairedChange) -> str:
    return (
        f"{change.lost} answers of {change.count} were lost and {change.gained} gained, "
        f"a net loss of at most {max(change.loss.high, 0.0):.4f} (95 %, margin {LOSS_MARGIN:g}; p {change.p_value:.2g})"
    )


def _unreadable(scores: ZeroShotScores) -> str:
    lost = len(scores.unreadable)
    return f"{lost} of {lost + len(scores.answers)} images could not be read, so the score is not that of the dataset"
