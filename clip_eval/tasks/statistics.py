"""Intervals and tests: of answers that are right or wrong, exact or of known coverage; of other values, a bootstrap.

A bootstrap resamples samples, with all values of each, since the values of one sample are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, bootstrap

__all__ = [
    "Interval",
    "PairedChange",
    "PairedLoss",
    "Statistic",
    "bootstrap_interval",
    "paired_change",
    "paired_loss",
    "wilson_interval",
]

Statistic: TypeAlias = Callable[[NDArray[np.intp]], float]
"""The rows that count, (rows,), to a number."""

_RESAMPLES = 2_000
_AT_ONCE = 100  # resamples whose rows are in memory
_SEED = 0


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedLoss:
    """The same samples, valued twice, and how much was lost.

    Attributes:
        loss: interval of the loss; below 0 it is a gain.
        p_value: one-sided: the share of resamples that lose nothing.
    """

    loss: Interval
    p_value: float


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


def bootstrap_interval(statistic: Statistic, samples: Sequence[str], *, confidence: float = 0.95) -> Interval:
    """Return the percentile interval of a statistic over resampled samples (Efron 1979), the same in every run.

    Args:
        statistic: of rows.
        samples: the sample of each row, (rows,); those of one sample stand in a row.
        confidence: of the interval.

    Raises:
        ValueError: there are fewer than two samples.
    """
    found = _resampled(statistic, samples, confidence)
    return Interval(float(found.confidence_interval.low), float(found.confidence_interval.high))


def paired_loss(loss: Statistic, samples: Sequence[str], *, confidence: float = 0.95) -> PairedLoss:
    """Resample the loss between two runs over the same samples.

    Args:
        loss: rows to what was lost in them.
        samples: as in `bootstrap_interval`.
        confidence: of the interval.

    Raises:
        ValueError: there are fewer than two samples.
    """
    found = _resampled(loss, samples, confidence)
    without = int((found.bootstrap_distribution <= 0).sum())
    return PairedLoss(
        loss=Interval(float(found.confidence_interval.low), float(found.confidence_interval.high)),
        p_value=(1 + without) / (1 + _RESAMPLES),
    )


def _resampled(statistic: Statistic, samples: Sequence[str], confidence: float) -> Any:
    firsts = [row for row, sample in enumerate(samples) if not row or sample != samples[row - 1]]
    first = np.array(firsts)  # (samples,)
    count = np.diff(np.append(first, len(samples)))  # (samples,): rows of each

    def of_picked(picked: NDArray[np.intp]) -> float:
        counts = count[picked]  # (picked,)
        starts = np.repeat(first[picked] - (np.cumsum(counts) - counts), counts)  # (rows,)
        return statistic(starts + np.arange(len(starts)))

    def of_all(picked: NDArray[np.intp], *, axis: int) -> NDArray[np.float64]:
        return np.apply_along_axis(of_picked, axis, picked)  # without the last axis

    return bootstrap(
        (np.arange(len(first)),), of_all, vectorized=True, n_resamples=_RESAMPLES, batch=_AT_ONCE,
        method="percentile", confidence_level=confidence, random_state=np.random.default_rng(_SEED),
    )  # fmt: skip
