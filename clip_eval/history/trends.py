"""What moved over the last runs of one model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from clip_eval.history.runs import Run
from clip_eval.report.trends import HEADINGS, Point, Trend, TrendKind

__all__ = ["LAST", "by_subject", "trends_of"]

LAST = 30  # runs of one picture
_CLOSEST = 5  # checks whose margins are drawn


def by_subject(runs: Iterable[Run]) -> dict[tuple[str, str | None, str | None], list[Run]]:
    """The runs of each model, dtype and kind of device; those of the latest run first."""
    found: dict[tuple[str, str | None, str | None], list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.number):
        found[run.subject] = [*found.pop(run.subject, []), run]
    return dict(reversed(found.items()))


def trends_of(runs: Sequence[Run], last: int = LAST) -> tuple[Trend, ...]:
    """The trends of one model: scores, margins of the checks that are nearest to their bound now, ratios of time.

    Args:
        runs: of one subject, in the order in which they were added.
        last: so many of them are shown.

    Returns:
        Those of the latest numbers of each kind, scores first. A margin of 0, or beyond any bound, is left out.
    """
    if not runs:
        return ()
    shown = runs[-last:]
    names: list[tuple[TrendKind, str]] = [(kind, name) for kind in HEADINGS for name in _named(shown, kind)]
    found = (Trend(kind, name, tuple(_points(shown, kind, name))) for kind, name in names)
    return tuple(trend for trend in found if trend.points)


def _named(runs: Sequence[Run], kind: TrendKind) -> list[str]:
    """The names of a kind that are drawn: those of the latest run that has some; of margins the cases nearest to their
    bound, one of a check.
    """
    numbers = next((found for run in reversed(runs) if (found := run.of(kind))), {})
    if kind != "margin":
        return list(numbers)
    nearest: dict[str, str] = {}
    for name in sorted(numbers, key=lambda name: -(numbers[name].value or 0.0)):
        nearest.setdefault(name.partition("[")[0], name)
    return list(nearest.values())[:_CLOSEST]


def _points(runs: Iterable[Run], kind: TrendKind, name: str) -> Iterable[Point]:
    for run in runs:
        found = run.measured.get((kind, name))
        if found is None or found.value is None or not math.isfinite(found.value):
            continue
        if kind != "margin" or found.value > 0:
            yield Point(run.number, run.started, run.verdict, found.value, found.low, found.high)
