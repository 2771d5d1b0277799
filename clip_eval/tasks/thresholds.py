"""A score against what a policy asks of it.

By the interval, which is the default:

- *passed*: the whole 95 % interval is as asked. For `least` and `most` it is the score's; for `most_loss` and
  `most_relative_loss` that of the loss against the baseline's answers to the same samples, paired.
- *failed*: none of the interval is as asked.
- *inconclusive*: the interval holds the threshold. There are too few samples to tell, and the gate is inconclusive.

By the score nothing is undecided: the score itself, and the difference of both scores, are compared, as MLflow does. A
loss cannot be judged without the baseline's answers to the same samples: that is inconclusive either way.

The loss is conditional on how many answers changed, as everywhere in a gate (`clip_eval.tasks.judgement`); where none
changed it is 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clip_eval.tasks.judgement import (
    GRAVITY,
    Judgement,
    Reference,
    are_paired_hits,
    changed_hits,
    in_part,
    loss_of,
)
from clip_eval.tasks.statistics import Interval
from clip_eval.tasks.task import Score, Scored
from clip_eval.verdict.policy import Threshold
from clip_eval.verdict.run_record import TaskResult, TrialOutcome

__all__ = ["against_threshold", "as_asked"]


@dataclass(frozen=True, slots=True)
class _Demand:
    """One bound, and what is held against it: at most `bound` where `sign` is 1, at least it where it is -1."""

    what: str
    sign: int
    bound: float
    value: float
    interval: Interval

    def judged(self, by: str) -> Judgement:
        ends = (self.value, self.value) if by == "score" else (self.interval.low, self.interval.high)
        best, worst = sorted(self.sign * end for end in ends)
        bound = self.sign * self.bound
        outcome: TrialOutcome = "passed" if worst <= bound else "failed" if best > bound else "inconclusive"
        word = "most" if self.sign > 0 else "least"
        seen = f"{self.value:.4f}" if by == "score" else f"the 95 % interval {ends[0]:.4f} to {ends[1]:.4f}"
        verb = {"passed": "is that", "failed": "is not", "inconclusive": "holds both"}[outcome]
        return Judgement(outcome, f"the policy asks for {self.what} of at {word} {self.bound:g}, and {seen} {verb}")


def as_asked(
    results: Iterable[TaskResult], scored: Scored, policy: Mapping[str, Threshold], reference: Reference | None
) -> Iterator[TaskResult]:
    """Yield a task's results, each with the judgement by the policy's threshold if it has one; the graver one counts.

    Args:
        results: what `judge` made of `scored`.
        scored: of the candidate.
        policy: score, as the results name it, to what is asked of it.
        reference: as `judge` takes it.
    """
    scores = {scored.name(score): score for score in scored.scores}
    for result in results:
        if result.name not in policy:
            yield result
            continue
        found = against_threshold(scored, scores[result.name], policy[result.name], reference)
        if scored.unreadable and found.outcome == "passed":
            found = Judgement("inconclusive", in_part(scored))
        graver = GRAVITY.index(found.outcome) > GRAVITY.index(result.outcome)
        outcome, reason = (found.outcome, found.reason) if graver else (result.outcome, result.reason)
        yield replace(result, outcome=outcome, reason=reason, policy=found.outcome)


def against_threshold(scored: Scored, score: Score, asked: Threshold, reference: Reference | None = None) -> Judgement:
    """Judge one score by the thresholds of a policy; the gravest outcome counts.

    Args:
        scored: of the candidate.
        score: one of its scores.
        asked: the thresholds.
        reference: of the approved release on the same dataset; None where nobody recorded it.
    """
    found = [demand.judged(asked.by) for demand in _demands(scored, score, asked)]
    if asked.most_loss is not None or asked.most_relative_loss is not None:
        found += _losses(scored, score, asked, reference)
    gravest = max(found, key=lambda judgement: GRAVITY.index(judgement.outcome))
    if not asked.warn or gravest.outcome == "passed":
        return gravest
    return Judgement("warned", f"{gravest.reason}, which only warns")


def _demands(scored: Scored, score: Score, asked: Threshold) -> Iterator[_Demand]:
    for sign, bound in ((-1, asked.least), (1, asked.most)):
        if bound is not None:
            yield _Demand("a score", sign, bound, score.value, scored.interval(score))


def _losses(scored: Scored, score: Score, asked: Threshold, reference: Reference | None) -> list[Judgement]:
    if reference is None or score.name not in reference.values or reference.samples != scored.samples:
        return [Judgement("inconclusive", "the policy has a threshold for its loss, and no baseline has these answers")]
    before = np.array(reference.values[score.name])  # (values,)
    old = score.aggregate(before, np.arange(len(before)))
    rounded = replace(score, values=np.array(scored.values[score.name]))  # in as many digits as the baseline's
    loss = (old - rounded.value) * (1 if score.higher_is_better else -1)
    interval = _interval(scored, rounded, before) if asked.by == "interval" else Interval(loss, loss)
    if interval is None:
        return [Judgement("inconclusive", "one sample is too few to tell what was lost")]
    found = []
    if asked.most_loss is not None:
        found.append(_Demand("a loss", 1, asked.most_loss, loss, interval).judged(asked.by))
    if asked.most_relative_loss is not None:
        found.append(_relative(asked, old, loss, interval))
    return found


def _relative(asked: Threshold, old: float, loss: float, interval: Interval) -> Judgement:
    if not old:
        return Judgement("inconclusive", "the baseline's score is 0, of which no share can be lost")
    assert asked.most_relative_loss is not None
    shares = Interval(interval.low / abs(old), interval.high / abs(old))
    return _Demand("a relative loss", 1, asked.most_relative_loss, loss / abs(old), shares).judged(asked.by)


def _interval(scored: Scored, score: Score, before: NDArray[np.float64]) -> Interval | None:
    """The 95 % interval of what was lost since these values, (values,); None of a single cluster."""
    if are_paired_hits(scored, score, before):
        return changed_hits(scored, score, before).loss
    return loss_of(scored, score, before).loss if len(set(scored.clusters)) > 1 else None
