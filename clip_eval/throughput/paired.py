"""Paired timing: subject and floor in turns within one process, each pair one ratio.

Seconds of one machine say nothing on another, and on a shared machine they say little from one minute to the next. Two
calls that follow each other share the machine's state, so their ratio cancels it. The order turns over from pair to
pair (floor, subject; subject, floor; ...), which cancels a drift, and the median of the ratios, with its
distribution-free interval, disregards what hits one call only.
"""

from __future__ import annotations

import contextlib
import gc
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from scipy.stats import binom

__all__ = ["CONFIDENCE", "LEAST_PAIRS", "PairedRatio", "Turns", "pairs_needed", "pilot", "stopwatch"]

Call = Callable[[], object]
Stopwatch = Callable[[Call], float]

CONFIDENCE = 0.99
"""Of the interval of the median ratio: with 95 % one run in forty would call an unchanged subject slower."""

LEAST_PAIRS = 8
"""The fewest pairs whose extremes hold the median with 99 %: 2 * 0.5 ** 8 is below 0.01."""

_HALF_WIDTH = 0.01  # half of the 2 % that a gate within one run has to tell apart
_PILOT_PAIRS, _PILOT_S = 5, 1.0
_LIMIT_S = 3.0  # for as many pairs as precision asks for
_LONGEST_S = 8.0  # for the least number of pairs, where a single one is slow


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedRatio:
    """Subject time over floor time: above 1 is slower than the floor.

    Attributes:
        ratio: the median over pairs.
        low: lower end of its 99 % interval; None below `LEAST_PAIRS` pairs.
        high: upper end.
        pairs: how many.
        subject_s: median seconds of one subject call.
        floor_s: median seconds of one floor call.
    """

    ratio: float
    low: float | None
    high: float | None
    pairs: int
    subject_s: float
    floor_s: float


@dataclass(slots=True)
class Turns:
    """Times subject and floor in turns: `time_floor`, then `time_subject`, as a benchmark's setup and target.

    Args:
        subject: a call of the subject.
        floor: a call of the floor on the same inputs.
        timed: returns the seconds that a call takes.
    """

    subject: Call
    floor: Call
    timed: Stopwatch
    _subject_s: list[float] = field(default_factory=list, repr=False)
    _floor_s: list[float] = field(default_factory=list, repr=False)

    def time_floor(self) -> None:
        """Begin a pair. Every other pair begins with the subject: its floor call then comes after."""
        self._settle()
        if len(self._subject_s) % 2 == 0:
            self._floor_s.append(self._time(self.floor))

    def time_subject(self) -> None:
        """Time the subject's call of the pair."""
        self._subject_s.append(self._time(self.subject))

    def result(self) -> PairedRatio:
        """Return what the pairs amount to.

        Raises:
            ValueError: there is no pair.
        """
        self._settle()
        ratios = [subject / floor for subject, floor in zip(self._subject_s, self._floor_s, strict=True)]
        if not ratios:
            raise ValueError("nothing was timed")
        low, high = _median_interval(ratios)
        return PairedRatio(
            ratio=statistics.median(ratios),
            low=low,
            high=high,
            pairs=len(ratios),
            subject_s=statistics.median(self._subject_s),
            floor_s=statistics.median(self._floor_s),
        )

    def ratios(self) -> list[float]:
        """Return subject time over floor time of each complete pair."""
        return [subject / floor for subject, floor in zip(self._subject_s, self._floor_s, strict=False)]

    def _settle(self) -> None:
        """Time the floor call that a pair which began with the subject still owes."""
        if len(self._floor_s) < len(self._subject_s):
            self._floor_s.append(self._time(self.floor))

    def _time(self, call: Call) -> float:
        with _undisturbed():
            return self.timed(call)


def pilot(turns: Turns) -> int:
    """Warm both sides up, time a few pairs, and return how many pairs the measurement needs.

    Args:
        turns: to be thrown away afterwards: warm-up is no measurement.
    """
    turns.subject()
    turns.floor()
    start, elapsed_s = time.perf_counter(), 0.0
    for _ in range(_PILOT_PAIRS):
        turns.time_floor()
        turns.time_subject()
        elapsed_s = time.perf_counter() - start
        if elapsed_s > _PILOT_S:
            break
    pairs = turns.result().pairs
    return pairs_needed(turns.ratios(), elapsed_s / pairs)


def pairs_needed(ratios: Sequence[float], pair_s: float) -> int:
    """Return how many pairs an interval of 1 % to either side takes, as far as there is time for them.

    The median of n ratios has a standard error of about 1.25 s / sqrt(n), s being that of one ratio in logarithms, and
    the 99 % interval reaches 2.6 of them to either side.

    Args:
        ratios: of a pilot.
        pair_s: seconds that a pair takes on average, stray ones included: they will take time again.
    """
    logs = [math.log(ratio) for ratio in ratios]
    spread = statistics.stdev(logs) if len(logs) > 1 else math.inf
    asked = (1.25 * 2.6 * spread / _HALF_WIDTH) ** 2
    affordable = int(max(_LIMIT_S / pair_s, min(LEAST_PAIRS, _LONGEST_S / pair_s)))
    return max(1, min(affordable, max(LEAST_PAIRS, math.ceil(min(asked, 1e9)))))


def stopwatch(device: str) -> Stopwatch:
    """Return what times a call on `device`, in seconds: wall clock on a CPU, events of the stream on CUDA."""
    if not device.startswith("cuda"):
        return _wall_clock
    import torch

    def events(call: Call) -> float:
        with torch.cuda.device(device):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
            start.record()
            call()
            end.record()
            end.synchronize()
            return float(start.elapsed_time(end)) / 1000

    return events


def _wall_clock(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _median_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The innermost order statistics that hold the median with `CONFIDENCE`, whatever the distribution.

    Source: Conover 1999, Practical Nonparametric Statistics, section 3.2.
    """
    ordered, count = sorted(values), len(values)
    # The k-th smallest value exceeds the median with the chance of fewer than k heads in `count` throws.
    rank = int(binom.ppf((1 - CONFIDENCE) / 2, count, 0.5))
    if binom.cdf(rank, count, 0.5) > (1 - CONFIDENCE) / 2:
        rank -= 1
    if rank < 0:
        return None, None
    return ordered[rank], ordered[count - 1 - rank]


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """No garbage collection, tracer or profiler while a call is timed: they would weigh on one side more."""
    collecting, tracer, profiler = gc.isenabled(), sys.gettrace(), sys.getprofile()
    gc.disable()
    sys.settrace(None)
    sys.setprofile(None)
    try:
        yield
    finally:
        sys.settrace(tracer)
        sys.setprofile(profiler)
        if collecting:
            gc.enable()
