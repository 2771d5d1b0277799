"""How numbers of a model moved over its last runs, as pictures and a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from clip_eval.report.pictures.canvas import WIDTH, Colour, canvas, label, svg
from clip_eval.verdict.measurement import format_number

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

__all__ = ["HEADINGS", "Drawn", "Point", "Trend", "TrendKind", "drawn", "picture", "words"]

TrendKind = Literal["score", "margin", "ratio"]

HEADINGS: dict[TrendKind, str] = {
    "score": "Scores",
    "margin": "Error over bound of the checks that are nearest to it",
    "ratio": "Time over the reference's",
}
"""Kinds of numbers, in the order of a page."""

_PANEL, _ABOVE, _BELOW = 62.0, 20.0, 18.0  # pixels: of one trend, above its line, below all
_SIDE, _NUMBERS = 10.0, 62.0  # pixels: left of the lines, right of them for the last number
_COLOURS = {"pass": Colour.GOOD, "fail": Colour.BAD, "inconclusive": Colour.OPEN}


@dataclass(frozen=True, slots=True)
class Point:
    """One run's number; the interval is None where there is none."""

    run: int
    started: str
    verdict: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Trend:
    """One number over runs, the oldest first; at least one point."""

    kind: TrendKind
    name: str
    points: tuple[Point, ...]

    @property
    def last(self) -> float:
        """The latest number."""
        return self.points[-1].value


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture of the trends of one kind, with its heading."""

    heading: str
    svg: Markup


def drawn(trends: Sequence[Trend]) -> list[Drawn]:
    """Draw a picture of each kind of trend that there is."""
    by_kind = {kind: [trend for trend in trends if trend.kind == kind] for kind in HEADINGS}
    return [Drawn(HEADINGS[kind], picture(those)) for kind, those in by_kind.items() if those]


def words(trend: Trend) -> str:
    """What became of a number, such as "0.9612 after 0.9583, from 0.9583 to 0.9612 in 3 runs"."""
    values = [point.value for point in trend.points]
    last, least, most = (format_number(value, digits=4) for value in (values[-1], min(values), max(values)))
    if len(values) == 1:
        return f"{last} in one run"
    before = format_number(values[-2], digits=4)
    return f"{last} after {before}, from {least} to {most} in {len(values)} runs"


def picture(trends: Sequence[Trend]) -> Markup:
    """Draw trends of one kind below each other, each with its own axis; a dot is a run, in the colour of its verdict.

    Raises:
        ValueError: there is none.
    """
    kind = trends[0].kind
    height = (_PANEL + _ABOVE) * len(trends) + _BELOW
    runs = [point.run for trend in trends for point in trend.points]
    with canvas(height) as figure:
        for place, trend in enumerate(trends):
            top = height - place * (_PANEL + _ABOVE) - _ABOVE
            area = (_SIDE / WIDTH, (top - _PANEL) / height, (WIDTH - _SIDE - _NUMBERS) / WIDTH, _PANEL / height)
            axes = figure.add_axes(area)
            axes.set_xlim(min(runs) - 0.5, max(runs) + 0.5)
            _panel(axes, trend)
        axes.set_xticks(sorted({min(runs), max(runs)}), [f"run {run}" for run in sorted({min(runs), max(runs)})])
        told = "; ".join(f"{trend.name}: {words(trend)}" for trend in trends)
        return svg(figure, f"{HEADINGS[kind]} over the last runs", told)


def _panel(axes: Axes, trend: Trend) -> None:
    runs, values = [point.run for point in trend.points], [point.value for point in trend.points]
    axes.set_title(label(trend.name, 52), color=Colour.INK, pad=4)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.set_yticks([])
    if trend.kind == "margin":
        axes.set_yscale("log")
        axes.minorticks_off()
        axes.set_yticks([])
    if trend.kind != "score":
        axes.axhline(1, color=Colour.SOFT, linewidth=0.8)
    bounded = [point for point in trend.points if point.low is not None and point.high is not None]
    if bounded:
        low, high = [point.low or 0.0 for point in bounded], [point.high or 0.0 for point in bounded]
        axes.vlines([point.run for point in bounded], low, high, color=Colour.TRACK, linewidth=4)
    axes.plot(runs, values, color=Colour.BAR)
    for verdict, colour in _COLOURS.items():
        those = [point for point in trend.points if point.verdict == verdict]
        axes.plot([point.run for point in those], [point.value for point in those], "o", color=colour, markersize=5)
    axes.margins(y=0.15)
    axes.annotate(
        format_number(trend.last, digits=4), (1.03, 0.5), xycoords="axes fraction", va="center", color=Colour.INK
    )
