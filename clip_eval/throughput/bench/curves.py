"""Pictures of throughput by batch size and by text length, a line for each configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

from clip_eval.report.pictures.canvas import WIDTH, Colour, Picture, area, canvas, label, svg
from clip_eval.throughput.bench.results import Bench
from clip_eval.throughput.sweep import Point

__all__ = ["curves"]

_PLOT, _ABOVE, _BELOW, _LEFT, _RIGHT = 180.0, 12.0, 44.0, 56.0, 14.0  # pixels
_KEY = 17.0  # of a line of the key
_NAME_LIMIT = 48
_COLOURS = (Colour.BAR, Colour.INK, Colour.OPEN, Colour.BAD)
_DASHES = ("-", "--", ":", "-.", (0, (6, 1.5)))  # with the colours 20 lines that differ, four of them in both

Series = Mapping[str, Sequence[tuple[int, Point]]]


def curves(bench: Bench) -> tuple[Picture, ...]:
    """Return the pictures: images, texts and pairs by the rows of a batch; texts by their tokens, if lengths vary."""
    drawn = [
        _picture(
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
    return (*drawn, *((_picture("Texts a second", "tokens of a text", by_length),) if by_length else ()))


def _picture(what: str, by: str, series: Series) -> Picture:
    from matplotlib.ticker import StrMethodFormatter

    key = _KEY * len(series)
    with canvas(_ABOVE + _PLOT + _BELOW + key) as figure:
        axes = area(figure, left=_LEFT, right=_RIGHT, top=_ABOVE, bottom=_BELOW + key)
        for (name, line), colour, dashes in zip(series.items(), cycle(_COLOURS), cycle(_DASHES)):
            across, up = zip(
                *((place, point.per_s) for place, point in sorted(line, key=lambda one: one[0])), strict=True
            )
            axes.plot(
                across, up, color=colour, linestyle=dashes, marker="o", markersize=4, label=label(name, _NAME_LIMIT)
            )
        places = sorted({place for line in series.values() for place, _ in line})
        axes.set_xscale("log", base=2)
        axes.set_xticks(places, [f"{place:,}" for place in places])
        axes.minorticks_off()
        axes.set_xlabel(by)
        axes.set_ylim(bottom=0, top=1.05 * max(point.per_s for line in series.values() for _, point in line))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.grid(axis="y")
        figure.legend(
            loc="lower left", bbox_to_anchor=(_LEFT / WIDTH, 0), borderaxespad=0, labelspacing=0.3, handlelength=3
        )
        drawn = svg(figure, f"{what}, by {by}", "The table below holds the numbers.")
    return Picture(drawn, f"{what}, by {by}.")
