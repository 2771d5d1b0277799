"""Intervals and tests against hand-worked values and their own definitions."""

from __future__ import annotations

import math
from itertools import product

import pytest

from clip_eval.tasks.statistics import Interval, paired_change, wilson_interval


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
