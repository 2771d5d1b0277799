"""One score of two checkpoints on the same samples: better, same, no worse, worse, or not decided.

The loss is the other's score minus this one's, turned so that a positive one is worse. Its 95 % interval is that of
Bonett and Price for independent hits, else a bootstrap of clusters. With the margin m:

- *worse*: there is a loss with p < `SIGNIFICANCE`, one-sided, and it may be m or more. This is what fails a gate, too.
- *better*: there is a gain with p < `SIGNIFICANCE`, one-sided, and it may be m or more.
- *same*: the whole interval lies between -m and m. Where nothing differs between the checkpoints, it needs no samples.
- *no worse*: it lies below m, and a gain of m or more is possible but not shown.
- *inconclusive*: none of these. `needed` says about how many samples, or groups where samples are in groups, would
  decide in four of five runs if the loss and its spread are as seen: n = v (z1 + z2)^2 / d^2, with the variance v of a
  sample's loss from the width of the interval, z1 of the confidence and z2 of the power (Connor 1987, Sample size for
  testing differences in proportions for the paired-sample design; for a margin, d is the distance to it). The interval
  of a bootstrap shrinks likewise, with the square root of the number of samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from clip_eval.evaluation.results import Comparison, ComparisonOutcome
from clip_eval.tasks.judgement import SIGNIFICANCE, are_paired_hits, loss_of
from clip_eval.tasks.statistics import Interval, adjusted_paired_interval, paired_change
from clip_eval.tasks.task import Score, Scored
from clip_eval.verdict.measurement import format_number

__all__ = ["compare_score"]

_Z_INTERVAL, _Z_TEST, _Z_POWER = 1.960, 2.326, 0.842  # two-sided 95 %, one-sided 1 %, power 80 %


@dataclass(frozen=True, slots=True)
class _Loss:
    value: float
    interval: Interval
    worse_p: float
    better_p: float


def compare_score(
    scored: Scored, score: Score, other: Scored, *, margin: float | None = None, identical: bool = False
) -> Comparison:
    """Compare a score with the other checkpoint's.

    Args:
        scored: of the candidate.
        score: one of its scores.
        other: of the other checkpoint, in the same task on the same dataset, with a score of this name.
        margin: the largest loss that passes, for scores from 0 to 1; None for the score's own.
        identical: both are the same weights, files and dtype, so that only one outcome is possible.
    """
    limit = score.margin if margin is None or abs(score.best - score.worst) != 1 else margin
    count = len(set(scored.clusters))
    before = next((beside.filled for beside in other.scores if beside.name == score.name), None)  # (values,)
    if before is None:  # an approximate search of the other may have found too little for a median
        return _undecided(f"the other has no {score.name}", limit, count, None)
    if scored.samples != other.samples:
        reason = f"{score.name} was scored on other samples, as the models do not take the same texts"
        return _undecided(reason, limit, count, None)
    reference = score.aggregate(before, np.arange(len(before)))
    sign = 1 if score.higher_is_better else -1
    lost, gained = (int((sign * side * (before - score.filled) > 0).sum()) for side in (1, -1))
    identical = identical and not lost + gained
    nothing = _Loss(0.0, Interval(0.0, 0.0), 1.0, 1.0)
    loss = nothing if identical else _loss(scored, score, before, lost + gained)
    if loss is None:
        return _undecided("one sample is too few to compare", limit, count, reference)
    outcome: ComparisonOutcome = "same" if identical else _outcome(loss, limit)
    needed = None  # a median moves in steps: nothing can be said of more samples
    if outcome == "inconclusive" and abs(score.best - score.worst) == 1:
        needed = _needed(loss, limit, count, changed=lost + gained)
    return Comparison(
        outcome=outcome,
        reason=(
            f"both have the same files and dtype, and none of {len(scored.samples):,} values differs"
            if identical
            else _reason(scored, loss, limit, lost, gained, needed)
        ),
        other=reference,
        loss_low=loss.interval.low,
        loss_high=loss.interval.high,
        worse_p=loss.worse_p,
        better_p=loss.better_p,
        lost=lost,
        gained=gained,
        margin=limit,
        resampled=count,
        needed=needed,
    )


def _undecided(reason: str, margin: float, count: int, other: float | None) -> Comparison:
    return Comparison(
        outcome="inconclusive", reason=reason, other=other, loss_low=None, loss_high=None, worse_p=None, better_p=None,
        lost=None, gained=None, margin=margin, resampled=count, needed=None,
    )  # fmt: skip


def _loss(scored: Scored, score: Score, before: NDArray[np.float64], changed: int) -> _Loss | None:
    """The loss against values, (values,); None where there is one cluster only."""
    after = score.filled
    sign = 1 if score.higher_is_better else -1
    value = sign * (score.aggregate(before, np.arange(len(before))) - score.value)
    if are_paired_hits(scored, score, before):
        now, then = (dict(zip(scored.samples, (side == 1).tolist(), strict=True)) for side in (after, before))
        change = paired_change(now, then)
        interval = adjusted_paired_interval(change.lost, change.gained, change.count)
        return _Loss(value, interval, change.p_value, change.gain_p_value)
    if len(set(scored.clusters)) < 2:
        return None
    if not changed:  # nothing to resample
        ends = [sign * (score.value - scored.with_unseen(score, end)) for end in (score.best, score.worst)]
        return _Loss(value, Interval(min(0.0, *ends), max(0.0, *ends)), 1.0, 1.0)
    found = loss_of(scored, score, before)
    return _Loss(value, found.loss, found.p_value, found.gain_p_value)


def _outcome(loss: _Loss, margin: float) -> ComparisonOutcome:
    if loss.worse_p < SIGNIFICANCE and loss.interval.high >= margin:
        return "worse"
    if loss.better_p < SIGNIFICANCE and loss.interval.low <= -margin:
        return "better"
    if loss.interval.high < margin:
        return "same" if loss.interval.low > -margin else "no_worse"
    return "inconclusive"


def _needed(loss: _Loss, margin: float, count: int, *, changed: int) -> int | None:
    """About how many samples or groups decide; None where the loss is as large as the margin, and not seen at all."""
    if not changed:  # the share that may change unseen falls with the count itself
        return ceil(max(loss.interval.high, -loss.interval.low) / margin * (count + _Z_INTERVAL**2))
    variance = count * ((loss.interval.high - loss.interval.low) / (2 * _Z_INTERVAL)) ** 2
    gaps = ((margin - abs(loss.value), _Z_INTERVAL), (abs(loss.value), _Z_TEST))
    found = [variance * ((z + _Z_POWER) / gap) ** 2 for gap, z in gaps if gap > 0]
    return max(ceil(min(found)), count + 1) if found else None


def _reason(scored: Scored, loss: _Loss, margin: float, lost: int, gained: int, needed: int | None) -> str:
    count = len(scored.samples)
    units = "samples" if scored.is_independent or not scored.groups else "groups"
    more = "" if needed is None else f"; about {needed:,} {units} would decide"
    return (
        f"of {count:,} values {lost:,} are worse and {gained:,} better; the loss is {_number(loss.value)}, "
        f"95 % interval {_number(loss.interval.low)} to {_number(loss.interval.high)}, margin {_number(margin)}{more}"
    )


def _number(value: float) -> str:
    return format_number(value + 0.0, digits=4)
