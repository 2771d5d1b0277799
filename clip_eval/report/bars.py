"""Positions in the small drawings of the HTML report, in per cent of a drawing's width. The templates draw them."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["IntervalBar", "interval_bar"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalBar:
    """A value with its interval and the value it is compared with."""

    low: float
    high: float
    value: float
    mark: float | None


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
