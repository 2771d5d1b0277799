"""Paired timing on clocks that the tests hold: order, ratios, intervals, number of pairs. No real clock is read."""

from __future__ import annotations

import itertools
import math
import random
import sys
from collections.abc import Callable
from functools import partial

import pytest
from scipy.stats import binom

from clip_eval.throughput import paired
from clip_eval.throughput.paired import (
    CONFIDENCE,
    LEAST_PAIRS,
    Turns,
    Wanted,
    measure,
    median_ratio,
    pairs_needed,
    pilot,
)

WANTED = Wanted(0.01, 3.0)


class Clock:
    """A stopwatch that says what it is told, and remembers whose turn it was."""

    def __init__(self, seconds: Callable[[str], float]) -> None:
        self.seconds = seconds
        self.order: list[str] = []

    def __call__(self, call: Callable[[], object]) -> float:
        """Make the call, which returns whose turn it is, and say how long it took."""
        self.order.append(str(call()))
        return self.seconds(self.order[-1])


def turns(seconds: Callable[[str], float], *, seed: int = 0) -> tuple[Turns, Clock]:
    """Return turns of two calls that only say who they are, on such a clock."""
    clock = Clock(seconds)
    return Turns(lambda: "subject", lambda: "reference", clock, seed=seed), clock


def of_ratios(ratios: list[float]) -> Turns:
    """Return turns whose pairs came out at these ratios."""
    subject = iter(ratios)
    made = turns(lambda who: next(subject) if who == "subject" else 1.0)[0]
    measure(made, len(ratios))
    return made


def test_a_coin_decides_who_begins() -> None:
    """Each pair is one call of either side, either side begins about half of them, and a seed repeats the order."""
    timed, clock = turns(lambda who: 1.0)
    found = measure(timed, 200)
    pairs = [tuple(clock.order[2 * index : 2 * index + 2]) for index in range(200)]
    assert set(pairs) == {("reference", "subject"), ("subject", "reference")}
    assert 70 < pairs.count(("subject", "reference")) < 130
    assert found.pairs == 200
    again, repeated = turns(lambda who: 1.0)
    measure(again, 200)
    assert repeated.order == clock.order
    other, different = turns(lambda who: 1.0, seed=1)
    measure(other, 200)
    assert different.order != clock.order


def test_each_pair_is_one_ratio() -> None:
    """Subject time over reference time, pair by pair: a machine that slows down threefold changes no ratio."""
    ticks = itertools.count()
    timed, _ = turns(lambda who: (1 + next(ticks) // 2) * (1.5 if who == "subject" else 1.0))
    found = measure(timed, 9)
    assert timed.ratios() == pytest.approx([1.5] * 9)
    assert (found.ratio.value, found.ratio.low, found.ratio.high) == pytest.approx((1.5, 1.5, 1.5))
    assert found.reference_s == tuple(range(1, 10))
    assert found.subject_s == pytest.approx([1.5 * second for second in range(1, 10)])


def test_a_reference_elsewhere_has_its_own_clock() -> None:
    """Where the reference runs in another process, its seconds are those that it says."""
    timed = Turns(lambda: None, lambda: 4.0, lambda _: 6.0, lambda call: float(str(call())))
    assert measure(timed, 3).ratio.value == 1.5


def test_a_drift_cancels() -> None:
    """A machine that gets 1 % slower with every call biases the pairs of either order in opposite directions."""
    ticks = itertools.count()
    timed, _ = turns(lambda who: 1.01 ** next(ticks))
    found = measure(timed, 60).ratio
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 1.0 <= found.high


def spent(timed: Turns) -> float:
    """The seconds that both sides of some turns have taken so far."""
    return sum(timed._subject_s) + sum(timed._reference_s)


@pytest.mark.parametrize("stop", [False, True])
def test_false_alarms_keep_to_their_rate(stop: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal sides under noise that drifts and comes in bursts: the interval misses 1 in at most one of a hundred,
    also where time ends the measurement.
    """
    chance, missed = random.Random(4), 0
    for seed in range(400):
        state = [1.0]

        def seconds(who: str, state: list[float] = state) -> float:
            state[0] = min(4.0, max(0.5, state[0] * math.exp(chance.gauss(0, 0.2))))
            return state[0] * (1 + 5 * (chance.random() < 0.1))

        timed, _ = turns(seconds, seed=seed)
        if stop:
            monkeypatch.setattr(paired.time, "perf_counter", partial(spent, timed))
        ratio = measure(timed, 50, longest_s=80.0).ratio
        missed += not (ratio.low or 0) <= 1.0 <= (ratio.high or 0)
    assert missed <= 10  # 400 times 1 % is 4; 11 or more has a chance below 0.3 %


def test_time_ends_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """A measurement that takes too long ends with the pair at hand, but not before there is an interval."""
    now = itertools.count()
    monkeypatch.setattr(paired.time, "perf_counter", lambda: float(next(now)))
    assert measure(turns(lambda who: 1.0)[0], 100, longest_s=0.0).pairs == LEAST_PAIRS
    assert measure(turns(lambda who: 1.0)[0], 100, longest_s=20.5).pairs == LEAST_PAIRS + 20


def test_one_stray_call_moves_nothing() -> None:
    """The median and its interval disregard a call that something else held up."""
    found = of_ratios([1.1] * 20 + [50.0]).result().ratio
    assert (found.value, found.low, found.high) == pytest.approx((1.1, 1.1, 1.1))


def test_nothing_timed_is_an_error() -> None:
    """There is no ratio of no pairs."""
    with pytest.raises(ValueError, match="nothing was timed"):
        turns(lambda who: 1.0)[0].result()


def test_few_pairs_have_no_interval() -> None:
    """Below eight pairs not even the extremes hold the median with 99 %."""
    few = median_ratio([float(i) for i in range(1, LEAST_PAIRS)])
    assert (few.value, few.low, few.high) == (4.0, None, None)
    least = median_ratio([float(i) for i in range(1, LEAST_PAIRS + 1)])
    assert (least.low, least.high) == (1.0, float(LEAST_PAIRS))


@pytest.mark.parametrize("count", [8, 9, 10, 11, 25, 60, 200])
def test_interval_is_the_narrowest_that_holds_the_median(count: int) -> None:
    """With ranks as values the interval shows its ranks: 99 % or more by the binomial, one step inward less."""
    found = median_ratio(random.Random(0).sample([float(i) for i in range(1, count + 1)], count))
    assert found.low is not None
    assert found.high == count + 1 - found.low
    beyond = int(found.low) - 1  # values below the interval, and as many above it
    assert 1 - 2 * binom.cdf(beyond, count, 0.5) >= CONFIDENCE
    assert 1 - 2 * binom.cdf(beyond + 1, count, 0.5) < CONFIDENCE


def test_quiet_machines_need_few_pairs() -> None:
    """Without spread the least number of pairs is enough."""
    assert pairs_needed([1.2] * 5, pair_s=0.001, wanted=WANTED) == LEAST_PAIRS


def test_noise_asks_for_pairs_in_its_square() -> None:
    """Twice the spread, or half of the width, takes four times the pairs."""
    ratios = [1.00, 1.02, 1.04, 1.02, 1.00]
    quiet = pairs_needed(ratios, 1e-6, WANTED)
    noisy = pairs_needed([ratio**2 for ratio in ratios], 1e-6, WANTED)
    fine = pairs_needed(ratios, 1e-6, Wanted(0.005, 3.0))
    assert noisy == pytest.approx(4 * quiet, abs=4)
    assert fine == pytest.approx(4 * quiet, abs=4)


def test_as_many_pairs_as_the_width_takes() -> None:
    """Measured on so many normal ratios, the interval is about as wide as was wanted."""
    chance = random.Random(0)
    ratios = [math.exp(chance.gauss(0, 0.03)) for _ in range(20_000)]
    found = median_ratio(ratios[: pairs_needed(ratios, 1e-6, WANTED)])
    assert found.low is not None
    assert found.high is not None
    assert (found.high - found.low) / 2 == pytest.approx(0.01, rel=0.3)


def test_a_stray_pair_of_the_pilot_asks_for_nothing() -> None:
    """A pair that something else held up says nothing about the median's precision."""
    ratios = [1.0, 1.01, 0.99, 1.005, 0.995, 1.01, 0.99]
    assert pairs_needed([*ratios, 30.0], 1e-6, WANTED) < 2 * pairs_needed([*ratios, 1.01], 1e-6, WANTED)


@pytest.mark.parametrize(
    ("pair_s", "pairs"),
    [(0.01, 300), (0.1, 30), (0.5, 8), (0.9, 8), (1.1, 7), (4.0, 2), (100.0, 1)],
)
def test_time_limits_the_pairs(pair_s: float, pairs: int) -> None:
    """Three seconds of pairs, up to eight where the least number of pairs takes longer; one pair in any case."""
    assert pairs_needed([1.0, 2.0, 0.5, 3.0, 0.3], pair_s, WANTED) == pairs


def test_a_few_pilot_pairs_tell_no_spread() -> None:
    """Without a spread to go by, as many pairs are taken as there is time for."""
    assert pairs_needed([1.0, 1.0, 1.0], pair_s=0.1, wanted=WANTED) == 30


def test_pilot_warms_up_untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three calls of either side come before the clock is first used; the answer follows from the pairs after them."""
    now = itertools.count()
    monkeypatch.setattr(paired.time, "perf_counter", lambda: next(now) / 64)
    calls: list[str] = []
    seconds = itertools.cycle([1.0, 2.0, 0.5])
    timed = Turns(lambda: calls.append("subject"), lambda: calls.append("reference"), lambda call: next(seconds))
    found = pilot(timed, WANTED)
    assert calls == ["subject"] * 3 + ["reference"] * 3
    assert len(timed.ratios()) == 40
    assert found == pairs_needed(timed.ratios(), 41 / 64 / 40, WANTED)


def test_slow_pilot_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow model is warmed up by one call, and its pilot stops after the pair at hand."""
    now = itertools.count(step=10)
    monkeypatch.setattr(paired.time, "perf_counter", lambda: float(next(now)))
    timed, clock = turns(lambda who: 1.0)
    pilot(timed, WANTED)
    assert sorted(clock.order) == ["reference", "subject"]


def test_calls_are_undisturbed() -> None:
    """No tracer is in place while either side is timed."""
    seen: list[object] = []

    def seconds(call: Callable[[], object]) -> float:
        seen.append(sys.gettrace())
        return 1.0

    before = sys.gettrace()
    sys.settrace(lambda *_: None)
    try:
        measure(Turns(lambda: None, lambda: None, seconds), 2)
    finally:
        sys.settrace(before)
    assert seen == [None] * 4


def test_logarithms_of_equal_pairs_are_finite() -> None:
    """The spread of a pilot is that of logarithms, so that 2 and 1 / 2 weigh the same."""
    ratios = [2.0, 0.5, 3.0, 0.25]
    assert pairs_needed(ratios, 1e-6) == pairs_needed([1 / ratio for ratio in ratios], 1e-6)
    assert math.isfinite(pairs_needed([1e-9, 1e9, 1.0, 1.0], 1e-9))
