"""Paired timing on clocks that the tests hold: order, ratios, intervals, number of pairs. No real clock is read."""

from __future__ import annotations

import gc
import itertools
import math
import random
import sys
from collections.abc import Callable, Iterator

import pytest
from scipy.stats import binom

from clip_eval.throughput import paired
from clip_eval.throughput.paired import CONFIDENCE, LEAST_PAIRS, Turns, pairs_needed, pilot, stopwatch


class Clock:
    """A stopwatch that says what it is told, and remembers whose turn it was."""

    def __init__(self, seconds: Callable[[str], float]) -> None:
        self.seconds = seconds
        self.order: list[str] = []

    def __call__(self, call: Callable[[], object]) -> float:
        """Make the call, which returns whose turn it is, and say how long it took."""
        self.order.append(str(call()))
        return self.seconds(self.order[-1])


def turns(seconds: Callable[[str], float]) -> tuple[Turns, Clock]:
    """Return turns of two calls that only say who they are, on such a clock."""
    clock = Clock(seconds)
    return Turns(lambda: "subject", lambda: "floor", clock), clock


def run(timed: Turns, pairs: int) -> Turns:
    """Time so many pairs as a benchmark would: setup, then target."""
    for _ in range(pairs):
        timed.time_floor()
        timed.time_subject()
    return timed


def of_ratios(ratios: list[float]) -> Turns:
    """Return turns whose pairs came out at these ratios."""
    subject = iter(ratios)
    return run(turns(lambda who: next(subject) if who == "subject" else 1.0)[0], len(ratios))


@pytest.mark.parametrize("pairs", [1, 2, 3, 4, 5])
def test_order_turns_over_from_pair_to_pair(pairs: int) -> None:
    """Floor, subject, then subject, floor, and so on; asking for the result finishes the last pair."""
    timed, clock = turns(lambda who: 1.0)
    found = run(timed, pairs).result()
    forth, back = ["floor", "subject"], ["subject", "floor"]
    assert clock.order == [who for index in range(pairs) for who in (back if index % 2 else forth)]
    assert found.pairs == pairs


def test_each_pair_is_one_ratio() -> None:
    """Subject time over floor time, pair by pair: a machine that slows down threefold changes no ratio."""
    ticks = itertools.count()
    timed, _ = turns(lambda who: (1 + next(ticks) // 2) * (1.5 if who == "subject" else 1.0))
    found = run(timed, 9).result()
    assert timed.ratios() == pytest.approx([1.5] * 9)
    assert (found.ratio, found.low, found.high) == pytest.approx((1.5, 1.5, 1.5))
    assert (found.subject_s, found.floor_s) == (1.5 * 5, 5)


def test_a_drift_cancels() -> None:
    """A machine that gets 1 % slower with every call biases pairs of either order in opposite directions.

    What is left is the mean of 1.01 and 1 / 1.01.
    """
    ticks = itertools.count()
    timed, _ = turns(lambda who: 1.01 ** next(ticks))
    found = run(timed, 40).result()
    assert found.ratio == pytest.approx(1.0, abs=1e-4)


def test_one_stray_call_moves_nothing() -> None:
    """The median and its interval disregard a call that something else held up."""
    found = of_ratios([1.1] * 20 + [50.0]).result()
    assert (found.ratio, found.low, found.high) == pytest.approx((1.1, 1.1, 1.1))


def test_nothing_timed_is_an_error() -> None:
    """There is no ratio of no pairs."""
    with pytest.raises(ValueError, match="nothing was timed"):
        of_ratios([]).result()


def test_few_pairs_have_no_interval() -> None:
    """Below eight pairs not even the extremes hold the median with 99 %."""
    few = of_ratios([float(i) for i in range(1, LEAST_PAIRS)]).result()
    assert (few.low, few.high) == (None, None)
    least = of_ratios([float(i) for i in range(1, LEAST_PAIRS + 1)]).result()
    assert (least.low, least.high) == (1.0, float(LEAST_PAIRS))


@pytest.mark.parametrize("count", [8, 9, 10, 11, 25, 60, 200])
def test_interval_is_the_narrowest_that_holds_the_median(count: int) -> None:
    """With ranks as values the interval shows its ranks: 99 % or more by the binomial, one step inward less."""
    shuffled = random.Random(0).sample([float(i) for i in range(1, count + 1)], count)
    found = of_ratios(shuffled).result()
    assert found.low is not None
    assert found.high == count + 1 - found.low
    beyond = int(found.low) - 1  # values below the interval, and as many above it
    assert 1 - 2 * binom.cdf(beyond, count, 0.5) >= CONFIDENCE
    assert 1 - 2 * binom.cdf(beyond + 1, count, 0.5) < CONFIDENCE


def test_quiet_machines_need_few_pairs() -> None:
    """Without spread the least number of pairs is enough."""
    assert pairs_needed([1.2] * 5, pair_s=0.001) == LEAST_PAIRS


def test_noise_asks_for_pairs_in_its_square() -> None:
    """Twice the spread takes four times the pairs."""
    quiet = pairs_needed([1.00, 1.01, 1.02, 1.01, 1.00], pair_s=1e-6)
    noisy = pairs_needed([1.00, 1.01**2, 1.02**2, 1.01**2, 1.00], pair_s=1e-6)
    assert noisy == pytest.approx(4 * quiet, abs=4)


@pytest.mark.parametrize(
    ("pair_s", "pairs"),
    [(0.01, 300), (0.1, 30), (0.5, 8), (0.9, 8), (1.1, 7), (4.0, 2), (100.0, 1)],
)
def test_time_limits_the_pairs(pair_s: float, pairs: int) -> None:
    """Three seconds of pairs, up to eight where the least number of pairs takes longer; one pair in any case."""
    assert pairs_needed([1.0, 2.0, 0.5, 3.0, 0.3], pair_s) == pairs


def test_a_single_pilot_pair_tells_no_spread() -> None:
    """Without a spread to go by, as many pairs are taken as there is time for."""
    assert pairs_needed([1.0], pair_s=0.1) == 30


def test_pilot_warms_up_untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call of either side comes before the clock is first used; the answer follows from the pairs after it."""
    now = itertools.count()
    monkeypatch.setattr(paired.time, "perf_counter", lambda: next(now) / 16)
    calls: list[str] = []
    seconds = itertools.cycle([1.0, 2.0, 0.5])
    timed = Turns(lambda: calls.append("subject"), lambda: calls.append("floor"), lambda call: next(seconds))
    assert pilot(timed) == pairs_needed(timed.ratios(), pair_s=1 / 16) == 48
    assert calls == ["subject", "floor"]


def test_slow_pilot_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pilot that takes longer than its limit stops after the pair at hand."""
    now = itertools.count(step=10)
    monkeypatch.setattr(paired.time, "perf_counter", lambda: float(next(now)))
    timed, clock = turns(lambda who: 1.0)
    pilot(timed)
    assert clock.order == ["floor", "subject"]


def test_wall_clock_runs_the_call_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU the seconds are those between the clock's two readings around one call."""
    readings = iter([5.0, 7.5])
    monkeypatch.setattr(paired.time, "perf_counter", lambda: next(readings))
    calls: list[int] = []
    assert stopwatch("cpu")(lambda: calls.append(1)) == 2.5
    assert calls == [1]


def test_cuda_is_timed_by_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA the stream is idle before the first event, and the second is waited for before it is read."""
    torch = pytest.importorskip("torch")
    log: list[str] = []

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            log.append("record")

        def synchronize(self) -> None:
            log.append("wait")

        def elapsed_time(self, end: Event) -> float:
            assert log[-1] == "wait"
            assert end is not self
            return 12.5

    class Device:
        def __init__(self, name: str) -> None:
            assert name == "cuda:1"

        def __enter__(self) -> None:
            log.append("device")

        def __exit__(self, *_: object) -> None:
            log.append("left")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "device", Device)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: log.append("idle"))
    assert stopwatch("cuda:1")(lambda: log.append("call")) == 0.0125
    assert log == ["device", "idle", "record", "call", "record", "wait", "left"]


@pytest.fixture
def tracing() -> Iterator[Callable[..., None]]:
    """A tracer and a profiler in place, as a coverage tool sets them; what was there before is put back."""
    before = sys.gettrace(), sys.getprofile()

    def tracer(*_: object) -> None:
        return None

    sys.settrace(tracer)
    sys.setprofile(tracer)
    yield tracer
    sys.settrace(before[0])
    sys.setprofile(before[1])


def test_calls_are_undisturbed(tracing: Callable[..., None]) -> None:
    """No garbage collection, tracer or profiler while a call is timed; all are back afterwards, also after an error."""
    seen: list[object] = []

    def timed(call: Callable[[], object]) -> float:
        seen.append((gc.isenabled(), sys.gettrace(), sys.getprofile()))
        call()
        return 1.0

    def broken() -> None:
        raise RuntimeError("out of memory")

    run(Turns(lambda: None, lambda: None, timed), 1)
    with pytest.raises(RuntimeError):
        Turns(lambda: None, broken, timed).time_floor()
    after = (gc.isenabled(), sys.gettrace(), sys.getprofile())
    sys.settrace(None)
    sys.setprofile(None)
    assert seen == [(False, None, None)] * 3
    assert after == (True, tracing, tracing)


def test_logarithms_of_equal_pairs_are_finite() -> None:
    """The spread of a pilot is that of logarithms, so that 2 and 1 / 2 weigh the same."""
    assert pairs_needed([2.0, 0.5], 1e-6) == pairs_needed([0.5, 2.0], 1e-6)
    assert math.isfinite(pairs_needed([1e-9, 1e9], 1e-9))
