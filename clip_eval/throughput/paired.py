"""Paired timing: subject and reference in turns within one process, each pair one ratio.

Seconds measured on one machine cannot be compared with another's, nor, on a shared machine, with those of a minute ago.
Two calls in a row share the machine's state, so it cancels in their ratio.

Which side begins a pair is random. If both sides are equally fast, every pair is then as likely to come out above 1 as
below, whatever the noise is like and however it drifts: counting them is the sign test, and it is exact. The interval
of the median ratio is that test inverted, two order statistics (Conover 1999, Practical Nonparametric Statistics,
section 3.2). A bootstrap of the median holds only in the limit, and with a dozen pairs, which is what a large model
gets, it is too narrow.

A pilot, whose pairs are discarded, decides how many pairs are timed. The number is then fixed: stopping once the
interval suits would turn one false alarm in a hundred into many. Only a time limit may end a measurement early: how
long pairs take does not depend on which side is slower.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scipy.stats import quantile_test

from clip_eval.throughput.clock import Call, Stopwatch, undisturbed
from clip_eval.throughput.ratio import Ratio

__all__ = [
    "AGAINST_PACK",
    "CONFIDENCE",
    "IN_ONE_RUN",
    "LEAST_PAIRS",
    "Paired",
    "Turns",
    "Wanted",
    "measure",
    "median_ratio",
    "pairs_needed",
    "pilot",
    "reported_seconds",
]

CONFIDENCE = 0.99
"""Of the interval of the median ratio: with 95 % one run in forty would call an unchanged subject slower."""

LEAST_PAIRS = 8
"""The fewest pairs whose extremes hold the median with 99 %: 2 * 0.5 ** 8 is below 0.01."""

_WARM_UP_S, _WARM_UPS = 0.3, 3  # of either side: the first calls choose kernels and fill caches
_PILOT_S, _PILOT_PAIRS = 0.7, 40
_LONGEST_S = 8.0  # for the least number of pairs, where a single one is slow
_SEED = 20_210_226  # of the order; any fixed number serves


@dataclass(frozen=True, slots=True)
class Wanted:
    """How precise a ratio should be, and how long that may take.

    Attributes:
        half_width: of the interval, relative to the ratio.
        limit_s: seconds for the pairs; where the least number of pairs takes longer, up to 8.
    """

    half_width: float
    limit_s: float


IN_ONE_RUN = Wanted(0.005, 2.6)
"""A quarter of the margin in one run, which leaves room for a pilot with less noise than the measurement. With warm-up
and pilot a decision takes less than 5 s.
"""

AGAINST_PACK = Wanted(0.01, 1.8)
"""A tenth of the margin against a pack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """The result of a measurement in pairs.

    Attributes:
        ratio: subject time over reference time, with the interval of its median.
        pairs: how many.
        subject_s: seconds of each subject call.
        reference_s: seconds of each reference call.
    """

    ratio: Ratio
    pairs: int
    subject_s: tuple[float, ...]
    reference_s: tuple[float, ...]


@dataclass(slots=True)
class Turns:
    """Times subject and reference in turns: `time_reference`, then `time_subject`, as a benchmark's setup and target.

    Args:
        subject: a call of the subject.
        reference: a call of what it is compared with, on the same inputs.
        seconds: returns the seconds that a call of the subject takes.
        reference_seconds: the same for the reference, if it runs in another process.
        seed: of the order within the pairs.
    """

    subject: Call
    reference: Call
    seconds: Stopwatch
    reference_seconds: Stopwatch | None = None
    seed: int = _SEED
    _subject_s: list[float] = field(default_factory=list, repr=False)
    _reference_s: list[float] = field(default_factory=list, repr=False)
    _order: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._order = random.Random(self.seed)

    def time_reference(self) -> None:
        """Begin a pair. If the subject goes first, the reference is timed right after it."""
        self._settle()
        if self._order.random() < 0.5:
            self._time_reference()

    def time_subject(self) -> None:
        """Time the subject's call of the pair."""
        self._subject_s.append(_time(self.seconds, self.subject))

    def result(self) -> Paired:
        """Return the result.

        Raises:
            ValueError: there is no pair.
        """
        self._settle()
        ratios = self.ratios()
        if not ratios:
            raise ValueError("nothing was timed")
        return Paired(
            ratio=median_ratio(ratios),
            pairs=len(ratios),
            subject_s=tuple(self._subject_s),
            reference_s=tuple(self._reference_s),
        )

    def ratios(self) -> list[float]:
        """Return subject time over reference time of each complete pair."""
        return [subject / reference for subject, reference in zip(self._subject_s, self._reference_s, strict=False)]

    def _settle(self) -> None:
        """Time the reference call of a pair that began with the subject."""
        if len(self._reference_s) < len(self._subject_s):
            self._time_reference()

    def _time_reference(self) -> None:
        self._reference_s.append(_time(self.reference_seconds or self.seconds, self.reference))


def reported_seconds(call: Call) -> float:
    """Return the seconds that a call reports: the stopwatch for what runs in another process."""
    return float(str(call()))


def measure(turns: Turns, pairs: int, *, longest_s: float = math.inf, least_pairs: int = LEAST_PAIRS) -> Paired:
    """Time `pairs` pairs and return the result.

    Args:
        turns: what is timed.
        pairs: how many.
        longest_s: stop after that many seconds, once there are `least_pairs`.
        least_pairs: by default enough for an interval.
    """
    start = time.perf_counter()
    for done in range(pairs):
        if done >= least_pairs and time.perf_counter() - start > longest_s:
            break
        turns.time_reference()
        turns.time_subject()
    return turns.result()


def pilot(turns: Turns, wanted: Wanted = IN_ONE_RUN) -> int:
    """Warm both sides up, time a few pairs, and return how many pairs the measurement needs.

    Args:
        turns: discarded afterwards: pairs that decide the number must not be among those measured.
        wanted: how precise the ratio should be.
    """
    _warm_up(turns)
    start, elapsed_s = time.perf_counter(), 0.0
    while elapsed_s < _PILOT_S and len(turns.ratios()) < _PILOT_PAIRS:
        turns.time_reference()
        turns.time_subject()
        elapsed_s = time.perf_counter() - start
    pairs = turns.result().pairs
    return pairs_needed(turns.ratios(), (time.perf_counter() - start) / pairs, wanted)


def pairs_needed(ratios: Sequence[float], pair_s: float, wanted: Wanted = IN_ONE_RUN) -> int:
    """Return how many pairs the wanted interval needs, at most what the time limit allows.

    The ends of a 99 % interval of the median lie 2.6 sqrt(n) / 2 ranks from it. Half of n pilot ratios lie within
    their quartiles, so near the median n / 2 ranks cover about as much: the ends are 2.6 / sqrt(n) quartile distances
    away. Quartiles ignore outliers, as the median does.

    Args:
        ratios: of a pilot.
        pair_s: mean seconds of a pair, outliers included.
        wanted: how precise the ratio should be.
    """
    if len(ratios) < 4:
        spread = math.inf
    else:
        lower, _, upper = statistics.quantiles(map(math.log, ratios), n=4)
        spread = upper - lower
    needed = (2.6 * spread / wanted.half_width) ** 2
    affordable = int(max(wanted.limit_s / pair_s, min(LEAST_PAIRS, _LONGEST_S / pair_s)))
    return max(1, min(affordable, max(LEAST_PAIRS, math.ceil(min(needed, 1e9)))))


def median_ratio(ratios: Sequence[float]) -> Ratio:
    """Return the median with the innermost order statistics that hold it with `CONFIDENCE`, whatever the distribution.

    Args:
        ratios: of the pairs, at least one.
    """
    median = statistics.median(ratios)
    # The interval does not depend on q, the quantile's value under the null hypothesis.
    interval: Any = quantile_test(ratios, q=median, p=0.5).confidence_interval(CONFIDENCE)
    low, high = float(interval.low), float(interval.high)  # NaN where there are too few pairs
    return Ratio(median, None, None) if math.isnan(low) else Ratio(median, low, high)


def _warm_up(turns: Turns) -> None:
    for call in (turns.subject, turns.reference):
        start = time.perf_counter()
        for _ in range(_WARM_UPS):
            call()
            if time.perf_counter() - start > _WARM_UP_S:
                break


def _time(seconds: Stopwatch, call: Call) -> float:
    with undisturbed():
        return seconds(call)
