"""Charts of throughput by batch size and by text length, as positions in a drawing of 640 by 260 for the template."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from clip_eval.throughput.bench.results import Bench
from clip_eval.throughput.sweep import Point

__all__ = ["Chart", "Line", "charts"]

_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 624.0, 16.0, 216.0
_TICKS = 4
_DASHES = ("", "7 4", "2 4", "9 4 2 4")  # lines can be distinguished without colour


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: its position and its label."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """One configuration: its line's points as SVG text, the single points, and its dash pattern."""

    name: str
    points: str
    marks: tuple[tuple[float, float], ...]
    dashes: str
    number: int


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart: title, label of the x axis, both axes, lines."""

    title: str
    below: str
    columns: tuple[Tick, ...]
    rows: tuple[Tick, ...]
    lines: tuple[Line, ...]


def charts(bench: Bench) -> tuple[Chart, ...]:
    """Return the charts: images, texts and pairs by batch size; texts by length, if lengths were tried."""
    drawn = [
        _chart(
            f"{kind.title()} a second", "rows of a batch",
            {one.name: [(point.rows, point) for point in one.points(kind)] for one in bench.configurations},
        )
        for kind in bench.configurations[0].kinds
    ]  # fmt: skip
    by_length = {
        one.name: [(point.tokens or 0, point) for point in (*one.lengths, one.best("texts"))]
        for one in bench.configurations
        if one.lengths
    }
    return (*drawn, *((_chart("Texts a second", "tokens of a text", by_length),) if by_length else ()))


def _chart(title: str, below: str, series: dict[str, list[tuple[int, Point]]]) -> Chart:
    places = sorted({x for line in series.values() for x, _ in line})
    most = _round_up(max(point.per_s for line in series.values() for _, point in line))
    return Chart(
        title=title,
        below=below,
        columns=tuple(Tick(_across(x, places), str(x)) for x in places),
        rows=tuple(Tick(_up(most * part / _TICKS, most), f"{most * part / _TICKS:,.4g}") for part in range(_TICKS + 1)),
        lines=tuple(
            _line(name, [(_across(x, places), _up(point.per_s, most)) for x, point in line], number)
            for number, (name, line) in enumerate(series.items())
        ),
    )


def _line(name: str, marks: Sequence[tuple[float, float]], number: int) -> Line:
    text = " ".join(f"{x:g},{y:g}" for x, y in marks)
    return Line(name, text, tuple(marks), _DASHES[number % len(_DASHES)], number % 6)


def _across(value: int, places: Sequence[int]) -> float:
    """Logarithmic: each doubling is as wide as the next."""
    low, high = math.log2(places[0]), math.log2(places[-1])
    part = (math.log2(value) - low) / (high - low) if high > low else 0.5
    return round(_LEFT + part * (_RIGHT - _LEFT), 1)


def _up(value: float, most: float) -> float:
    return round(_BOTTOM - value / most * (_BOTTOM - _TOP), 1)


def _round_up(value: float) -> float:
    """The next number of the form 1, 2, 2.5 or 5 times a power of ten, in which four ticks read well."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 4, 5, 8, 10) if step * power >= value)
