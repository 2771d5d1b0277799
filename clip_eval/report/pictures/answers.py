"""The answers of a zero-shot task: which class is taken for which, and whether the model is as sure as it is right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from clip_eval.report.pictures.canvas import Colour, Picture, area, canvas, svg
from clip_eval.report.pictures.intervals import Row, intervals_svg, number_of
from clip_eval.verdict.plain_values import Json

__all__ = ["calibration_picture", "confusions_picture"]

_MOST = 10  # confusions
_SIDE = 300.0  # pixels


def confusions_picture(details: Mapping[str, Json], other: Mapping[str, Json] | None = None) -> Picture | None:
    """The most frequent confusions; with another checkpoint's details those that moved most.

    Args:
        details: of a task; `confusions` has `class`, `taken_for` and `images`.
        other: of the same task on the same samples.

    Returns:
        None where there is none, or none that moved.
    """
    now = dict(_confusions(details))
    before = {} if other is None else dict(_confusions(other))
    rows = [
        Row(name=name, outcome="", value=now.get(name, 0.0), mark=None if other is None else before.get(name, 0.0))
        for name in dict.fromkeys((*now, *before))
    ]
    if other is not None:
        rows = [replace(row, outcome="worse" if row.change > 0 else "better") for row in rows if row.change]
        rows.sort(key=lambda row: -abs(row.change))
    if not rows:
        return None
    said = "Classes that are taken for another, and in how many images"
    if other is not None:
        said += ", where that moved most: the upright line and the number in brackets are the other checkpoint's"
    return Picture(intervals_svg(rows[:_MOST], "Confusions", origin=0.0), f"{said}.")


def calibration_picture(details: Mapping[str, Json], other: Mapping[str, Json] | None = None) -> Picture | None:
    """Share of hits over confidence, in bins; None where the details have none.

    Args:
        details: of a task; `calibration` has `confidence`, `hits` and `images` of each bin.
        other: of another checkpoint.
    """
    now, before = list(_bins(details)), list(_bins(other or {}))
    if not now:
        return None
    with canvas(_SIDE) as figure:
        axes = area(figure, left=48, right=14, top=8, bottom=38)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="confidence", ylabel="share of hits")
        axes.grid(True)
        axes.plot([0, 1], [0, 1], color=Colour.SOFT, linestyle=(0, (4, 3)), linewidth=1)
        for bins, colour in ((before, Colour.SOFT), (now, Colour.BAR)):
            most = max((images for _, _, images in bins), default=1)
            axes.plot([x for x, _, _ in bins], [y for _, y, _ in bins], color=colour, linewidth=1, alpha=0.6)
            for x, y, images in bins:
                axes.plot([x], [y], "o", markersize=4 + 10 * (images / most) ** 0.5, color=colour, alpha=0.75)
        drawn = svg(figure, "How sure the answers are, and how often right")
    said = (
        "Share of right answers among those that are about as sure, a larger dot for more of them: on the dashed line"
    )
    said += " the model is as sure as it is right, below it surer."
    return Picture(drawn, said + (" Grey is the other checkpoint." if before else ""))


def _confusions(details: Mapping[str, Json]) -> Iterator[tuple[str, float]]:
    for entry in _entries(details, "confusions"):
        count = number_of(entry.get("images"))
        if count is not None:
            yield f"{entry.get('class')} \u2192 {entry.get('taken_for')}", count


def _bins(details: Mapping[str, Json]) -> Iterator[tuple[float, float, float]]:
    for entry in _entries(details, "calibration"):
        x, y, images = (number_of(entry.get(name)) for name in ("confidence", "hits", "images"))
        if x is not None and y is not None and images is not None and 0 <= x <= 1 and 0 <= y <= 1 and images > 0:
            yield x, y, images


def _entries(details: Mapping[str, Json], name: str) -> Iterator[Mapping[str, Json]]:
    found = details.get(name)
    return (entry for entry in found if isinstance(entry, Mapping)) if isinstance(found, (list, tuple)) else iter(())
