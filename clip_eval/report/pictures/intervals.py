"""Values with their intervals, a row each on a common axis: scores and the baseline's, times over the reference's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clip_eval.report.pictures.canvas import Colour, Picture, area, canvas, label, svg
from clip_eval.verdict.measurement import format_number
from clip_eval.verdict.plain_values import Json
from clip_eval.verdict.run_record import RunRecord, TaskResult, ThroughputResult

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

__all__ = ["Row", "intervals_svg", "number_of", "score_rows", "scores_picture", "speeds_picture"]

_ROW, _ABOVE, _BELOW = 34.0, 6.0, 24.0  # pixels
_LARGEST = 1e9
_COLOURS = {"failed": Colour.BAD, "worse": Colour.BAD, "inconclusive": Colour.OPEN, "warned": Colour.OPEN}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A value with its interval.

    Attributes:
        name: what it is of.
        outcome: of its judgement, which its colour follows.
        value: the estimate.
        low: lower end of the interval; None without one.
        high: upper end.
        mark: what it is compared with; None without.
        edge: a limit, such as chance; None without.
        band: what is still allowed; None without.
        dots: single measurements.
    """

    name: str
    outcome: str
    value: float
    low: float | None = None
    high: float | None = None
    mark: float | None = None
    edge: float | None = None
    band: tuple[float, float] | None = None
    dots: tuple[float, ...] = ()

    @property
    def change(self) -> float:
        """The value less what it is compared with; 0 without."""
        return 0.0 if self.mark is None else self.value - self.mark

    @property
    def numbers(self) -> list[float]:
        """All that is drawn."""
        shown = (self.value, self.low, self.high, self.mark, self.edge, *(self.band or ()), *self.dots)
        return [number for number in shown if number is not None and can_be_drawn(number)]


def scores_picture(rows: Sequence[Row], other: str = "the baseline") -> Picture | None:
    """Every score with its interval, its chance and the score of something else; None without a score.

    Args:
        rows: one a score.
        other: what the scores are compared with.
    """
    if not rows:
        return None
    said = "The bar is the 95 % interval of a score, the dot the score"
    if any(row.mark is not None for row in rows):
        said += f", the upright line and the number in brackets {other}'s"
    said += ", the dotted line chance" if any(row.edge is not None for row in rows) else ""
    return Picture(intervals_svg(rows, "Scores with their intervals"), f"{said}.")


def score_rows(tasks: Iterable[TaskResult]) -> list[Row]:
    """The row of each score; tasks that did not run have none."""
    return [_score_row(task, task.score) for task in tasks if task.score is not None and can_be_drawn(task.score)]


def _score_row(task: TaskResult, score: float) -> Row:
    return Row(
        name=task.name,
        outcome=task.outcome,
        value=score,
        low=task.interval_low,
        high=task.interval_high,
        mark=task.reference,
        edge=number_of(task.details.get("chance")),
    )


def speeds_picture(record: RunRecord) -> Picture | None:
    """Every time over its reference's with the pairs it is the median of; None where nothing was timed."""
    timings = [timing for timing in record.throughput if timing.ratio is not None and can_be_drawn(timing.ratio)]
    rows = [_speed_row(timing) for timing in timings]
    if not rows:
        return None
    said = "Time over the reference's, 1 being as fast and more slower: the bar is the interval of the median pair"
    said += ", each small dot a pair" if any(row.dots for row in rows) else ""
    said += ", the band what is allowed" if any(row.band for row in rows) else ""
    said += ", the dotted line the time of the matrix products alone" if any(row.edge for row in rows) else ""
    return Picture(intervals_svg(rows, "Times over the reference's", line=1.0), f"{said}.")


def _speed_row(timing: ThroughputResult) -> Row:
    assert timing.ratio is not None, "only timings with a ratio are drawn"
    details = timing.details
    share, margin = number_of(details.get("share_of_products")), number_of(details.get("margin"))
    pairs = details.get("pairs")
    return Row(
        name=timing.name,
        outcome=timing.outcome,
        value=timing.ratio,
        low=timing.interval_low,
        high=timing.interval_high,
        edge=None if share is None else share * timing.ratio,
        band=None if margin is None else (1.0, 1 + margin),
        dots=tuple(number for pair in pairs if (number := number_of(pair))) if isinstance(pairs, (list, tuple)) else (),
    )


def number_of(value: Json) -> float | None:
    """A number of a record's details that can be drawn; None for anything else."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and can_be_drawn(value) else None


def can_be_drawn(number: float) -> bool:
    """Whether an axis can hold a number: it is finite, and no score or ratio of this world is larger."""
    return abs(number) <= _LARGEST


def intervals_svg(rows: Sequence[Row], title: str, *, line: float | None = None, origin: float | None = None) -> Markup:
    """Shares of 1 on one axis, other numbers on another below it.

    Args:
        rows: at least one.
        title: of the picture.
        line: drawn through all rows.
        origin: where the axis begins, the same for all rows.
    """
    shares = [row for row in rows if all(0 <= number <= 1 for number in row.numbers)]
    panels = [panel for panel in (shares, [row for row in rows if row not in shares]) if panel]
    panels = panels if line is None and origin is None else [list(rows)]
    height = sum(_height(panel) for panel in panels)
    above = 0.0
    with canvas(height) as figure:
        for panel in panels:
            above += _height(panel)
            axes = area(figure, left=10, right=10, top=above - _height(panel) + _ABOVE, bottom=height - above + _BELOW)
            _draw(axes, panel, line, origin)
        return svg(figure, title)


def _height(panel: Sequence[Row]) -> float:
    return _ROW * len(panel) + _ABOVE + _BELOW


def _draw(axes: Axes, panel: Sequence[Row], line: float | None, origin: float | None) -> None:
    numbers = [number for row in panel for number in row.numbers]
    numbers += [number for number in (line, origin) if number is not None]
    low, high = min(numbers), max(numbers)
    spare = max((high - low) * 0.02, max(1.0, abs(high)) * 0.001)
    axes.set(xlim=(low - spare, high + spare), ylim=(len(panel), 0))
    axes.set_yticks([])
    if all(number == round(number) for number in numbers):
        axes.locator_params(axis="x", integer=True)
    axes.grid(axis="x")
    axes.hlines(range(1, len(panel)), low - spare, high + spare, colors=Colour.LINE, linewidth=0.8)
    if line is not None:
        axes.axvline(line, color=Colour.INK, linewidth=1.2)
    for place, row in enumerate(panel):
        _draw_row(axes, row, place)


def _draw_row(axes: Axes, row: Row, place: int) -> None:
    """The name and the numbers, and below them what they look like."""
    y, colour = place + 0.72, _COLOURS.get(row.outcome, Colour.BAR)
    over = axes.get_yaxis_transform()
    axes.text(0, place + 0.34, label(row.name, 46), transform=over, color=Colour.INK)
    axes.text(1, place + 0.34, _words(row), transform=over, ha="right", color=colour)
    if row.band is not None:
        axes.fill_between(row.band, y - 0.2, y + 0.2, color=Colour.OPEN, alpha=0.25, linewidth=0)
    if row.low is not None and row.high is not None and can_be_drawn(row.low) and can_be_drawn(row.high):
        axes.plot([row.low, row.high], [y, y], color=colour, linewidth=5, alpha=0.45, solid_capstyle="butt")
    if row.dots:
        lifts = [y + lift for lift in _lifts(len(row.dots))]
        axes.plot(row.dots, lifts, "o", markersize=3, color=Colour.SOFT, markeredgewidth=0, alpha=0.5)
    if row.edge is not None:
        axes.plot([row.edge] * 2, [y - 0.22, y + 0.22], color=Colour.SOFT, linestyle=":")
    if row.mark is not None and can_be_drawn(row.mark):
        axes.plot([row.mark] * 2, [y - 0.22, y + 0.22], color=Colour.INK, linewidth=2, solid_capstyle="butt")
    axes.plot([row.value], [y], "o", markersize=6, color=colour, markeredgecolor=Colour.CARD, markeredgewidth=0.8)


def _lifts(count: int) -> Iterator[float]:
    """Heights that scatter single measurements, the same for the same count: the golden ratio's multiples."""
    return ((number * 0.618 % 1 - 0.5) * 0.4 for number in range(count))


def _words(row: Row) -> str:
    value = format_number(row.value, digits=4)
    return value if row.mark is None else f"{value} ({format_number(row.mark, digits=4)})"
