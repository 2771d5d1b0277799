"""Intervals and tests for counted answers, right or wrong. All are exact or have known coverage; none is resampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scipy.stats import binomtest

__all__ = ["Interval", "PairedChange", "paired_change", "wilson_interval"]


@dataclass(frozen=True, slots=True)
class Interval:
    """Both ends of an interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedChange:
    """The same samples, answered twice. Only samples whose answer changed between right and wrong say anything.

    Attributes:
        count: samples.
        gained: wrong before, right now.
        lost: right before, wrong now.
        p_value: exact, one-sided: the chance of as many losses among the changes if either way were as likely.
        loss: interval of the net loss (lost - gained) / count, given the number of changes; both ends 0 without any.
    """

    count: int
    gained: int
    lost: int
    p_value: float
    loss: Interval


def wilson_interval(hits: int, count: int, *, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval of a proportion (Wilson 1927, Probable Inference).

    Its coverage stays near `confidence` for proportions near 0 and 1, where the textbook interval collapses.

    Raises:
        ValueError: there is nothing to count, or more hits than samples.
    """
    if not 0 <= hits <= count or count < 1:
        raise ValueError(f"{hits} hits of {count} samples is no proportion")
    found = binomtest(hits, count).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(float(found.low), float(found.high))


def paired_change(
    observed: Mapping[str, bool], reference: Mapping[str, bool], *, confidence: float = 0.95
) -> PairedChange:
    """Compare two runs over the same samples with McNemar's test in its exact form (McNemar 1947).

    Args:
        observed: sample id -> whether the answer is right now.
        reference: sample id -> whether it was right in the reference.
        confidence: of the interval, Clopper and Pearson's for the share of losses among the changes.

    Raises:
        ValueError: the runs are not over the same samples, or over none.
    """
    if observed.keys() != reference.keys() or not observed:
        raise ValueError("only runs over the same samples, at least one, can be paired")
    lost = sum(reference[sample] and not hit for sample, hit in observed.items())
    gained = sum(hit and not reference[sample] for sample, hit in observed.items())
    if not lost + gained:
        return PairedChange(count=len(observed), gained=0, lost=0, p_value=1.0, loss=Interval(0.0, 0.0))
    share = binomtest(lost, lost + gained).proportion_ci(confidence_level=confidence, method="exact")
    changed = (lost + gained) / len(observed)
    return PairedChange(
        count=len(observed),
        gained=gained,
        lost=lost,
        p_value=float(binomtest(lost, lost + gained, alternative="greater").pvalue),
        loss=Interval(changed * (2 * float(share.low) - 1), changed * (2 * float(share.high) - 1)),
    )
