"""Positions in the small drawings of the HTML report, in per cent of a drawing's width. The templates draw them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from clip_eval.verdict.measurement import Measurement

__all__ = [
    "BOUND_PERCENT",
    "ErrorBar",
    "IntervalBar",
    "error_bar",
    "interval_bar",
]

# The drawn range of error over bound. Healthy float32 runs lie within four decades below the bound.
_DECADES_BELOW = 4
_DECADES_ABOVE = 2

BOUND_PERCENT = 100 * _DECADES_BELOW / (_DECADES_BELOW + _DECADES_ABOVE)
_LEAST_PERCENT = 1.5  # so that an error of zero is still visible


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBar:
    """Error over bound on a logarithmic scale; `beyond` is True if it does not fit the drawing."""

    fill: float
    beyond: bool
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalBar:
    """A value with its interval and the value it is compared with."""

    low: float
    high: float
    value: float
    mark: float | None


def error_bar(measurement: Measurement) -> ErrorBar | None:
    """The bar of a measurement; None without a number."""
    ratio = measurement.ratio
    if ratio is None:
        return None
    decades = math.log10(ratio) if 0 < ratio < math.inf else math.copysign(math.inf, ratio - 1)
    percent = 100 * (decades + _DECADES_BELOW) / (_DECADES_BELOW + _DECADES_ABOVE)
    fill = min(100.0, max(_LEAST_PERCENT, percent))
    return ErrorBar(fill=round(fill, 1), beyond=percent > 100, passed=measurement.passed)


def interval_bar(
    *, low: float | None, value: float | None, high: float | None, mark: float | None
) -> IntervalBar | None:
    """The drawing of an interval, scaled so that everything drawn fills 80 % of the width.

    Args:
        low: lower end of the interval.
        value: the estimate.
        high: upper end of the interval.
        mark: what it is compared with; None draws no mark.

    Returns:
        None where the interval is unknown or not finite.
    """
    if low is None or value is None or high is None or not all(map(math.isfinite, (low, value, high))):
        return None
    shown = [low, value, high] + ([mark] if mark is not None and math.isfinite(mark) else [])
    span = (max(shown) - min(shown)) or 1.0
    low_at, value_at, high_at, *mark_at = [round(10 + 80 * (item - min(shown)) / span, 1) for item in shown]
    return IntervalBar(low=low_at, high=high_at, value=value_at, mark=mark_at[0] if mark_at else None)
