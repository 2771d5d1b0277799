"""Intervals and tests: of answers that are right or wrong, exact or of known coverage; of other values, a bootstrap.

A bootstrap resamples clusters, with all values of each, since the values of one sample, and the samples of one group,
are not independent. Its interval is the percentile interval, widened for few clusters as a t interval is (Hesterberg
2015, What Teachers Should Know About the Bootstrap: the expanded percentile interval), and so is its p-value.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit
from scipy.stats import binomtest, bootstrap

__all__ = [
    "Interval",
    "PairedChange",
    "PairedLoss",
    "Statistic",
    "adjusted_paired_interval",
    "bootstrap_interval",
    "paired_change",
    "paired_loss",
    "unchanged_clusters",
    "wilson_interval",
]

Statistic: TypeAlias = "Callable[[NDArray[np.intp]], float] | NDArray[np.float64]"
"""The rows that count, (rows,), to a number; or values, (rows,), whose mean is the number, which is faster."""

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
        gain_p_value: the same of as many gains.
        loss: interval of the net loss (lost - gained) / count, given the number of changes; both ends 0 without any.
    """

    count: int
    gained: int
    lost: int
    p_value: float
    gain_p_value: float
    loss: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedLoss:
    """The same samples, valued twice, and how much was lost.

    Attributes:
        loss: interval of the loss; below 0 it is a gain.
        p_value: one-sided: from the share of resamples that lose nothing.
        gain_p_value: the same from those that gain nothing.
    """

    loss: Interval
    p_value: float
    gain_p_value: float


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
        return PairedChange(
            count=len(observed), gained=0, lost=0, p_value=1.0, gain_p_value=1.0, loss=Interval(0.0, 0.0)
        )
    share = binomtest(lost, lost + gained).proportion_ci(confidence_level=confidence, method="exact")
    changed = (lost + gained) / len(observed)
    return PairedChange(
        count=len(observed),
        gained=gained,
        lost=lost,
        p_value=float(binomtest(lost, lost + gained, alternative="greater").pvalue),
        gain_p_value=float(binomtest(gained, lost + gained, alternative="greater").pvalue),
        loss=Interval(changed * (2 * float(share.low) - 1), changed * (2 * float(share.high) - 1)),
    )


def adjusted_paired_interval(lost: int, gained: int, count: int, *, confidence: float = 0.95) -> Interval:
    """Return the interval of the net loss (lost - gained) / count over independent samples, whatever changes next time.

    It is the adjusted Wald interval (Bonett and Price 2012, Adjusted Wald confidence interval for a difference of
    binomial proportions based on paired data): one answer is added to either change. `PairedChange.loss` holds given
    the number of changes, and is no wider than those that happened to be seen.

    Args:
        lost: right before, wrong now.
        gained: wrong before, right now.
        count: samples, at least one.
        confidence: of the interval.
    """
    more, less, of = (lost + 1) / (count + 2), (gained + 1) / (count + 2), count + 2
    half = _normal(confidence) * sqrt((more + less - (more - less) ** 2) / of)
    return Interval(max(more - less - half, -1.0), min(more - less + half, 1.0))


def unchanged_clusters(count: int, *, confidence: float = 0.95) -> int:
    """Return how many clusters of `count` may be otherwise where not one of `count` was seen to be: the upper end of
    Wilson's interval of 0 hits, in clusters, rounded up.
    """
    return min(count, ceil(wilson_interval(0, count, confidence=confidence).high * count))


def bootstrap_interval(statistic: Statistic, clusters: Sequence[Hashable], *, confidence: float = 0.95) -> Interval:
    """Return the interval of a statistic over resampled clusters (Efron 1979), the same in every run.

    Args:
        statistic: of rows.
        clusters: the cluster of each row, (rows,); rows of a cluster need not stand together.
        confidence: of the interval.

    Raises:
        ValueError: there are fewer than two clusters.
    """
    found = _resampled(statistic, clusters, confidence)
    return Interval(float(found.confidence_interval.low), float(found.confidence_interval.high))


def paired_loss(loss: Statistic, clusters: Sequence[Hashable], *, confidence: float = 0.95) -> PairedLoss:
    """Resample the loss between two runs over the same samples.

    Args:
        loss: rows to what was lost in them.
        clusters: as in `bootstrap_interval`.
        confidence: of the interval.

    Raises:
        ValueError: there are fewer than two clusters.
    """
    found = _resampled(loss, clusters, confidence)
    count = len(set(clusters))
    return PairedLoss(
        loss=Interval(float(found.confidence_interval.low), float(found.confidence_interval.high)),
        p_value=_p_value(found.bootstrap_distribution <= 0, count),
        gain_p_value=_p_value(found.bootstrap_distribution >= 0, count),
    )


def _normal(confidence: float) -> float:
    return float(ndtri((1 + confidence) / 2))


def _p_value(without: NDArray[np.bool_], count: int) -> float:
    """From the resamples, (resamples,), without an effect, by the t distribution of so many clusters."""
    share = (1 + np.count_nonzero(without)) / (1 + len(without))
    return float(stdtr(count - 1, ndtri(share) * sqrt((count - 1) / count)))


def _expanded(confidence: float, count: int) -> float:
    """The confidence of the percentiles that cover as often as a t interval of so many clusters does."""
    return float(1 - 2 * ndtr(-sqrt(count / (count - 1)) * stdtrit(count - 1, (1 + confidence) / 2)))


def _resampled(statistic: Statistic, clusters: Sequence[Hashable], confidence: float) -> Any:
    places: dict[Hashable, int] = {}
    of_row = np.array([places.setdefault(cluster, len(places)) for cluster in clusters], dtype=np.intp)  # (rows,)
    count = len(places)
    if count < 2:
        raise ValueError(f"{count} clusters cannot be resampled")
    of_all = _means(statistic, of_row) if isinstance(statistic, np.ndarray) else _each(statistic, of_row)
    return bootstrap(
        (np.arange(count),), of_all, vectorized=True, n_resamples=_RESAMPLES, batch=_AT_ONCE,
        method="percentile", confidence_level=_expanded(confidence, count), random_state=np.random.default_rng(_SEED),
    )  # fmt: skip


def _means(values: NDArray[np.float64], of_row: NDArray[np.intp]) -> Callable[..., NDArray[np.float64]]:
    """The mean over the rows of the picked clusters, from a sum and a count of each."""
    sums, counts = np.bincount(of_row, values), np.bincount(of_row)  # (clusters,)
    return lambda picked, *, axis: sums[picked].sum(axis=axis) / counts[picked].sum(axis=axis)


def _each(statistic: Callable[[NDArray[np.intp]], float], of_row: NDArray[np.intp]) -> Callable[..., Any]:
    """The statistic of the rows of the picked clusters, resample by resample."""
    order, count = np.argsort(of_row, kind="stable"), np.bincount(of_row)  # (rows,), (clusters,)
    first = np.cumsum(count) - count  # (clusters,)

    def of_picked(picked: NDArray[np.intp]) -> float:
        counts = count[picked]  # (picked,)
        starts = np.repeat(first[picked] - (np.cumsum(counts) - counts), counts)  # (rows,)
        return statistic(order[starts + np.arange(len(starts))])

    return lambda picked, *, axis: np.apply_along_axis(of_picked, axis, picked)  # without the last axis
