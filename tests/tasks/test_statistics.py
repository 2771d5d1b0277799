"""Intervals and tests against hand-worked values and their own definitions."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from clip_eval.tasks.statistics import (
    Interval,
    adjusted_paired_interval,
    bootstrap_interval,
    paired_change,
    paired_loss,
    unchanged_clusters,
    wilson_interval,
)


def test_wilson_interval_is_that_of_the_literature() -> None:
    """81 of 263, the worked example of Newcombe 1998, table I: 0.2553 to 0.3662."""
    found = wilson_interval(81, 263)
    assert found.low == pytest.approx(0.2553, abs=5e-5)
    assert found.high == pytest.approx(0.3662, abs=5e-5)


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (0, 528), (528, 528), (11, 528), (1, 2)])
def test_wilson_interval_solves_its_equation(hits: int, count: int) -> None:
    """Each end is a proportion from which the observed one is 1.96 standard errors away."""
    z = 1.959963984540054
    found, share = wilson_interval(hits, count), hits / count
    for end in (found.low, found.high):
        assert 0 <= end <= 1
        distance = abs(share - end) - z * math.sqrt(end * (1 - end) / count)
        assert abs(distance) < 1e-9
    assert found.low <= share <= found.high


@pytest.mark.parametrize(("hits", "count"), [(0, 0), (-1, 3), (4, 3)])
def test_wilson_interval_of_nothing_is_an_error(hits: int, count: int) -> None:
    """An accuracy of no samples is no number."""
    with pytest.raises(ValueError, match="is no proportion"):
        wilson_interval(hits, count)


def runs(*, kept: int, wrong: int, lost: int, gained: int) -> tuple[dict[str, bool], dict[str, bool]]:
    """Return (observed, reference) with so many samples of each kind."""
    pairs = [(True, True)] * kept + [(False, False)] * wrong + [(False, True)] * lost + [(True, False)] * gained
    names = [str(index) for index in range(len(pairs))]
    observed, reference = zip(*pairs, strict=True)
    return dict(zip(names, observed, strict=True)), dict(zip(names, reference, strict=True))


@pytest.mark.parametrize(("lost", "gained"), list(product([0, 1, 3, 7], [0, 1, 4])))
def test_paired_change_counts_changes_only(lost: int, gained: int) -> None:
    """The p-value is the binomial tail over changed samples; samples that agree do not enter."""
    change = paired_change(*runs(kept=90, wrong=10, lost=lost, gained=gained))
    changed = lost + gained
    tail = sum(math.comb(changed, k) for k in range(lost, changed + 1)) / 2**changed
    assert (change.count, change.lost, change.gained) == (100 + changed, lost, gained)
    assert change.p_value == pytest.approx(tail)
    more = paired_change(*runs(kept=900, wrong=10, lost=lost, gained=gained))
    assert more.p_value == change.p_value


def test_paired_loss_of_seven_in_a_row() -> None:
    """Seven losses without a gain: the share of losses is at least 0.025 ** (1 / 7) (Clopper and Pearson 1934)."""
    change = paired_change(*runs(kept=93, wrong=0, lost=7, gained=0))
    assert change.p_value == pytest.approx(1 / 128)
    assert change.loss.low == pytest.approx(0.07 * (2 * 0.025 ** (1 / 7) - 1))
    assert change.loss.high == pytest.approx(0.07)


def test_no_change_is_no_loss() -> None:
    """Equal answers leave nothing to test, and no loss."""
    change = paired_change(*runs(kept=5, wrong=5, lost=0, gained=0))
    assert change.loss == Interval(0.0, 0.0)
    assert change.p_value == 1.0


def test_gains_and_losses_mirror() -> None:
    """Swapping the runs turns the interval of the net loss over."""
    observed, reference = runs(kept=40, wrong=3, lost=5, gained=2)
    there, back = paired_change(observed, reference), paired_change(reference, observed)
    assert there.loss.low == pytest.approx(-back.loss.high)
    assert there.loss.high == pytest.approx(-back.loss.low)


@pytest.mark.parametrize(("observed", "reference"), [({}, {}), ({"a": True}, {"b": True}), ({"a": True}, {})])
def test_other_records_cannot_be_paired(observed: dict[str, bool], reference: dict[str, bool]) -> None:
    """Runs over different samples, or over none, are an error and not a comparison of what they share."""
    with pytest.raises(ValueError, match="same samples"):
        paired_change(observed, reference)


def shares(count: int, share: float, *, runs: int = 500) -> np.ndarray:
    """Return the hits of so many datasets, (runs,)."""
    return np.random.default_rng(count).binomial(count, share, size=runs)


@pytest.mark.parametrize(("count", "share"), [(30, 0.9), (200, 0.5), (200, 0.98), (2000, 0.3)])
def test_wilson_interval_covers(count: int, share: float) -> None:
    """In 500 datasets the interval holds the true share about as often as it says."""
    found = {hits: wilson_interval(hits, count) for hits in set(shares(count, share).tolist())}
    covered = np.mean([found[hits].low <= share <= found[hits].high for hits in shares(count, share).tolist()])
    assert covered == pytest.approx(0.95, abs=0.035)


@pytest.mark.parametrize(("groups", "each"), [(8, 1), (30, 1), (20, 5), (60, 2)])
def test_bootstrap_interval_covers(groups: int, each: int) -> None:
    """Of values that a group has in common, too: 500 datasets, groups with an effect of their own."""
    generator = np.random.default_rng(groups)
    effects = generator.normal(size=(500, groups, 1))  # (datasets, groups, 1)
    values = (effects + generator.normal(size=(500, groups, each))).reshape(500, -1)  # (datasets, rows)
    names = [place // each for place in range(groups * each)]
    found = [bootstrap_interval(row, names) for row in values]
    assert np.mean([interval.low <= 0 <= interval.high for interval in found]) == pytest.approx(0.95, abs=0.035)
    if each > 1:  # as if the rows were independent: far too narrow
        alone = [bootstrap_interval(row, range(len(row))) for row in values[:200]]
        assert np.mean([interval.low <= 0 <= interval.high for interval in alone]) < 0.91


@pytest.mark.parametrize("groups", [8, 30, 60])
def test_paired_loss_of_equals_is_rarely_significant(groups: int) -> None:
    """At p < 0.05 about one in twenty of 500 comparisons of equal models, in either direction, few groups or many."""
    losses = np.random.default_rng(groups).normal(size=(500, groups))  # (comparisons, groups)
    found = [paired_loss(row, range(groups)) for row in losses]
    for p_values in ([one.p_value for one in found], [one.gain_p_value for one in found]):
        assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.03)


@pytest.mark.parametrize(
    ("loss", "changed", "count"), [(0.0, 0.05, 300), (0.02, 0.1, 300), (0.01, 0.02, 100), (0.0, 0.004, 500)]
)
def test_adjusted_paired_interval_covers(loss: float, changed: float, count: int) -> None:
    """In 500 pairs of runs it holds the true loss at least about as often as it says, with hardly a change too."""
    ways = [(changed + loss) / 2, (changed - loss) / 2, 1 - changed]
    draws = np.random.default_rng(7).multinomial(count, ways, size=500)  # (runs, 3)
    found = [adjusted_paired_interval(lost, gained, count) for lost, gained, _ in draws.tolist()]
    assert np.mean([interval.low <= loss <= interval.high for interval in found]) >= 0.93


def test_adjusted_paired_interval_by_hand() -> None:
    """Seven lost and one gained of 98: 8/100 - 2/100, give or take 1.96 times the root of (0.1 - 0.06 ** 2) / 100."""
    found = adjusted_paired_interval(7, 1, 98)
    half = 1.959963984540054 * math.sqrt((0.1 - 0.06**2) / 100)
    assert (found.low, found.high) == (pytest.approx(0.06 - half), pytest.approx(0.06 + half))


def test_the_mean_is_resampled_as_any_statistic() -> None:
    """Values stand for their mean: the same resamples, in clusters whose rows are anywhere."""
    generator = np.random.default_rng(1)
    values, clusters = generator.normal(size=60), generator.integers(0, 13, size=60).tolist()  # (60,)
    fast = bootstrap_interval(values, clusters)
    slow = bootstrap_interval(lambda rows: float(values[rows].mean()), clusters)
    assert (fast.low, fast.high) == (pytest.approx(slow.low), pytest.approx(slow.high))
    order = sorted(range(60), key=lambda row: clusters.index(clusters[row]))
    sorted_by_cluster = bootstrap_interval(values[order], [clusters[row] for row in order])
    assert (sorted_by_cluster.low, sorted_by_cluster.high) == (pytest.approx(fast.low), pytest.approx(fast.high))


def test_two_clusters_say_little() -> None:
    """The interval of two is from one to the other, and no loss is significant."""
    found = paired_loss(np.array([1.0, 3.0]), "ab")
    assert (found.loss, found.p_value > 0.1) == (Interval(1.0, 3.0), True)
    with pytest.raises(ValueError, match="1 clusters cannot be resampled"):
        bootstrap_interval(np.ones(3), "aaa")


@pytest.mark.parametrize(("count", "unseen"), [(1, 1), (2, 2), (40, 4), (1000, 4)])
def test_unchanged_clusters_are_the_upper_end_of_none(count: int, unseen: int) -> None:
    """About four of however many may be otherwise where none was seen to be, all of one or two."""
    assert unchanged_clusters(count) == unseen
