"""What a score means: better than guessing, and no worse than the approved release.

A score whose chance is known is held against guessing:

- *passed*: the whole 95 % interval is better than chance. The embeddings say something about these samples.
- *failed*: the interval reaches chance and stays worse than the middle between chance and the best score. Such a
  checkpoint cannot be told from guessing, by samples enough to show a useful one. A broken model scores at chance, not
  worse: a rule that asked for a worse interval would leave nearly every broken model undecided.
- *inconclusive*: the interval holds chance and the middle. There are too few samples to tell.

With a reference the same samples are paired, so that only what changed counts:

- *passed*: the loss is below the score's margin at the upper end of its 95 % interval.
- *failed*: it is not, and there is a loss with p < `SIGNIFICANCE`, one-sided: exact for independent hits (McNemar),
  else by a paired bootstrap of clusters.
- *inconclusive*: neither; the changes are many and about balanced, or the dataset is small.

A candidate has to hold against both; the graver outcome counts. Where there is neither, nothing is judged.

The usual margin is 0.01: a net loss of one answer in a hundred is what a release manager has to hear of. Unpaired
scores do not show it: at 90 % accuracy the 95 % interval of one score is wider than that on either side below 3,457
images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clip_eval.tasks.statistics import Interval, PairedChange, PairedLoss, paired_change, paired_loss
from clip_eval.tasks.task import Score, Scored, mean
from clip_eval.verdict.plain_values import Json
from clip_eval.verdict.run_record import TaskResult, TrialOutcome

__all__ = [
    "GRAVITY",
    "SIGNIFICANCE",
    "Judgement",
    "Reference",
    "against_chance",
    "against_reference",
    "are_paired_hits",
    "changed_hits",
    "in_part",
    "judge",
    "loss_of",
]

SIGNIFICANCE = 0.01
"""At most one run in a hundred is called a loss where nothing was lost. Fewer than seven changed hits never are."""

GRAVITY: tuple[TrialOutcome, ...] = ("not_asked", "passed", "warned", "inconclusive", "failed")
"""Of two judgements the later one counts."""

_NAMED_IMAGES = 5


class Reference(Protocol):
    """Scores to hold others against: what a pack keeps of a task, or another subject's `Scored`."""

    @property
    def samples(self) -> tuple[str, ...]:
        """The sample of each value, (values,)."""

    @property
    def values(self) -> Mapping[str, tuple[float, ...]]:
        """Name of each score to its values, (values,), all finite."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """An outcome, the sentence behind it, and the reference's score where there was one."""

    outcome: TrialOutcome
    reason: str
    reference: float | None = None
    details: Mapping[str, Json] = field(default_factory=dict)


def judge(scored: Scored, reference: Reference | None = None) -> tuple[TaskResult, ...]:
    """Return what a run record holds of a task: the primary score, judged, then the others, shown beside it.

    Args:
        scored: of the candidate.
        reference: of the approved release on the same dataset; None where nobody recorded it.
    """
    found = against_chance(scored)
    if reference is not None:
        paired = against_reference(scored, reference)
        graver = max((paired, found), key=lambda judgement: GRAVITY.index(judgement.outcome))
        found = Judgement(graver.outcome, graver.reason, paired.reference, paired.details)
    if scored.unreadable and found.outcome == "passed":
        found = Judgement("inconclusive", in_part(scored), found.reference, found.details)
    primary = scored.primary
    shown = f"shown beside {scored.name(primary)}, which is judged"
    return (
        _result(scored, primary, found, {**_details(scored), **scored.details, **found.details}),
        *(
            _result(scored, score, Judgement("not_asked", shown, _recorded(scored, score, reference)), {})
            for score in scored.scores[1:]
        ),
    )


def _result(scored: Scored, score: Score, found: Judgement, details: Mapping[str, Json]) -> TaskResult:
    interval = scored.interval(score)
    return TaskResult(
        name=scored.name(score),
        outcome=found.outcome,
        score=score.value,
        interval_low=interval.low,
        interval_high=interval.high,
        higher_is_better=score.higher_is_better,
        count=len(scored.samples),
        reason=found.reason,
        reference=found.reference,
        details=details,
    )


def _details(scored: Scored) -> dict[str, Json]:
    chance = scored.primary.chance
    return {
        "images": len(set(scored.samples)),
        "dataset": scored.dataset,
        "not_finite": scored.not_finite,
        "unreadable": len(scored.unreadable),
        "unreadable_images": scored.unreadable[:_NAMED_IMAGES],
        **({} if chance is None else {"chance": chance}),
    }


def against_chance(scored: Scored) -> Judgement:
    """Judge the primary score against guessing; see the module's text."""
    score, interval = scored.primary, scored.interval(scored.primary)
    if score.chance is None:
        return Judgement("not_asked", "what guessing scores is not known")
    sign = 1 if score.higher_is_better else -1
    low, high = sorted((sign * interval.low, sign * interval.high))
    chance, middle = sign * score.chance, sign * (score.chance + score.best) / 2
    ends = f"the 95 % interval {interval.low:.4f} to {interval.high:.4f}"
    if low > chance:
        return Judgement("passed", f"{ends} lies {'above' if sign > 0 else 'below'} chance, {score.chance:.4f}")
    if high < middle:
        return Judgement("failed", f"{ends} cannot be told from chance, {score.chance:.4f}")
    count = len(set(scored.samples))
    return Judgement(
        "inconclusive", f"{count} images are too few: {ends} holds chance, {score.chance:.4f}, and half of skill"
    )


def against_reference(scored: Scored, reference: Reference) -> Judgement:
    """Judge the primary score against that of an approved release over the same samples; see the module's text."""
    score = scored.primary
    if score.name not in reference.values:
        return Judgement("inconclusive", f"the reference was recorded without {score.name}")
    if scored.samples != reference.samples:
        other = len(set(scored.samples) ^ set(reference.samples))
        what = f"{other} are in one of the two only" if other else "they have other numbers of values, or another order"
        return Judgement("inconclusive", f"the reference was recorded on other samples: {what}")
    before = np.array(reference.values[score.name])  # (values,)
    return _hits(scored, before) if are_paired_hits(scored, score, before) else _values(scored, before)


def are_paired_hits(scored: Scored, score: Score, before: NDArray[np.float64]) -> bool:
    """Whether a score and its values in the reference, (values,), are independent hits and misses, as McNemar's are."""
    return score.is_share and scored.is_independent and bool(np.isin(before, (0, 1)).all())


def changed_hits(scored: Scored, score: Score, before: NDArray[np.float64]) -> PairedChange:
    """Pair independent hits, 1 or 0, with those of the reference, (values,)."""
    now, then = (dict(zip(scored.samples, side.tolist(), strict=True)) for side in (score.filled == 1, before == 1))
    return paired_change(now, then)


def loss_of(scored: Scored, score: Score, before: NDArray[np.float64], *, confidence: float = 0.95) -> PairedLoss:
    """Resample what was lost of a score, whichever direction is better, since its values were these, (values,).

    Raises:
        ValueError: there are fewer than two clusters.
    """
    after, sign = score.filled, 1 if score.higher_is_better else -1
    if score.aggregate is mean:
        return paired_loss(sign * (before - after), scored.clusters, confidence=confidence)
    return paired_loss(
        lambda rows: sign * (score.aggregate(before, rows) - score.aggregate(after, rows)),
        scored.clusters,
        confidence=confidence,
    )


def _hits(scored: Scored, before: NDArray[np.float64]) -> Judgement:
    """Independent hits, 1 or 0, against those of the reference, (values,)."""
    score = scored.primary
    change = changed_hits(scored, score, before)
    reason = (
        f"{change.lost} answers of {change.count} were lost and {change.gained} gained, "
        f"{_net_loss(change.loss, score)}; p {change.p_value:.2g})"
    )
    details: dict[str, Json] = {"gained": change.gained, "lost": change.lost, "p_value": change.p_value}
    return Judgement(_outcome(change.loss, change.p_value, score), reason, float(before.mean()), details)


def _values(scored: Scored, before: NDArray[np.float64]) -> Judgement:
    """Values of any kind against those of the reference, (values,)."""
    score = replace(scored.primary, values=np.array(scored.values[scored.primary.name]))  # in as many digits
    reference = score.aggregate(before, np.arange(len(before)))
    if len(set(scored.clusters)) < 2:
        return Judgement("inconclusive", "one sample is too few to compare", reference)
    found = loss_of(scored, score, before)
    reason = (
        f"{score.name} went from {reference:.4f} to {score.value:.4f}, "
        f"{_net_loss(found.loss, score)}; p {found.p_value:.2g})"
    )
    details: dict[str, Json] = {
        "loss_low": found.loss.low,
        "loss_high": found.loss.high,
        "p_value": found.p_value,
    }
    return Judgement(_outcome(found.loss, found.p_value, score), reason, reference, details)


def _outcome(loss: Interval, p_value: float, score: Score) -> TrialOutcome:
    if loss.high < score.margin:
        return "passed"
    return "failed" if p_value < SIGNIFICANCE else "inconclusive"


def _net_loss(loss: Interval, score: Score) -> str:
    return f"a net loss of at most {max(loss.high, 0.0):.4f} (95 %, margin {score.margin:g}"


def _recorded(scored: Scored, score: Score, reference: Reference | None) -> float | None:
    """The approved release's score; None where it was not recorded on the same samples."""
    if reference is None or reference.samples != scored.samples or score.name not in reference.values:
        return None
    before = np.array(reference.values[score.name])  # (values,)
    return score.aggregate(before, np.arange(len(before)))


def in_part(scored: Scored) -> str:
    """Return why a score over a part of the dataset does not pass."""
    lost = len(scored.unreadable)
    return (
        f"{lost} of {lost + len(set(scored.samples))} images could not be read, so the score is not that of the dataset"
    )
