"""Error over bound of every check on one axis, so that a margin that shrinks is seen before it is gone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from clip_eval.report.pictures.canvas import WIDTH, Colour, Picture, area, canvas, decades, label, svg
from clip_eval.report.text import by_chapter, title
from clip_eval.verdict.measurement import Measurement, worst
from clip_eval.verdict.run_record import CheckResult, RunRecord

__all__ = ["Margin", "closest", "margins_of", "margins_picture"]

_ROW, _LEFT, _RIGHT, _BELOW = 22.0, 128.0, 22.0, 34.0  # pixels
_LEAST, _MOST = 0.001, 1e6  # what lies beyond is drawn at the edge
_NEAR = 5.0  # pixels: marks that are nearer lie one above the other
_LIFTS = (0.0, -0.14, 0.14, -0.28, 0.28, -0.42, 0.42)  # of a row
_MARKS: dict[str, dict[str, Any]] = {
    "passed": {"marker": "o", "markersize": 4, "markerfacecolor": Colour.BAR, "markeredgecolor": Colour.CARD},
    "deviation": {"marker": "D", "markersize": 4, "markerfacecolor": Colour.OPEN, "markeredgecolor": Colour.CARD},
    "failed": {"marker": "X", "markersize": 8, "markerfacecolor": Colour.BAD, "markeredgecolor": Colour.CARD},
}


@dataclass(frozen=True, slots=True)
class Margin:
    """The worst measurement of a check, of those with a bound above 0."""

    check: CheckResult
    measurement: Measurement

    @property
    def ratio(self) -> float:
        """Error over bound."""
        return self.measurement.ratio or 0.0

    @property
    def kind(self) -> str:
        """How it is marked: failed, as a declared deviation, or passed."""
        if not self.measurement.passed:
            return "failed"
        return "deviation" if self.check.outcome == "deviation" else "passed"


def margins_of(checks: Iterable[CheckResult]) -> list[Margin]:
    """The margin of each check that has one, in their order."""
    found = ((check, worst(one for one in check.measurements if one.bound)) for check in checks)
    return [Margin(check, one) for check, one in found if one is not None and one.ratio is not None]


def closest(record: RunRecord, count: int = 5) -> list[Margin]:
    """The least margins of what holds, the least first; one check, and one number, stands for others like it."""
    holding = [one for one in margins_of(record.checks) if one.measurement.passed and one.ratio > 0]
    first: dict[object, Margin] = {}
    for one in sorted(holding, key=lambda one: -one.ratio):
        if one.ratio not in first:
            first.setdefault(one.check.id, one)
        first[one.ratio] = one
    return [one for key, one in first.items() if isinstance(key, str)][:count]


def margins_picture(record: RunRecord) -> Picture | None:
    """A mark for each check with a bound, by chapter; None where no check has one."""
    found = margins_of(record.checks)
    if not found:
        return None
    chapters = [chapter.name for chapter in by_chapter([one.check for one in found])]
    low, high = _limits([one.ratio for one in found])
    with canvas(_ROW * len(chapters) + _BELOW) as figure:
        axes = area(figure, left=_LEFT, right=_RIGHT, top=0, bottom=_BELOW)
        decades(axes, low, high, beyond=any(one.ratio < low for one in found))
        axes.set(ylim=(len(chapters) - 0.5, -0.5), xlabel="error over bound")
        axes.set_yticks(range(len(chapters)), [label(title(name), 22) for name in chapters])
        axes.grid(axis="y")
        axes.axvspan(1, high, color=Colour.BAD, alpha=0.07, linewidth=0)
        axes.axvline(1, color=Colour.INK, linewidth=1.2)
        failing = {one.check.chapter for one in found if one.kind == "failed"}
        for text, name in zip(axes.get_yticklabels(), chapters, strict=True):
            text.set(fontsize=11, color=Colour.BAD if name in failing else Colour.INK)
        placed = list(_placed(found, chapters, low, high))
        for kind, style in _MARKS.items():
            marks = [place for one, place in zip(found, placed, strict=True) if one.kind == kind]
            axes.plot([x for x, _ in marks], [y for _, y in marks], linestyle="none", markeredgewidth=0.6, **style)
        return Picture(svg(figure, "Error over bound of every check"), _caption(record, found))


def _limits(ratios: Sequence[float]) -> tuple[float, float]:
    """Ends of the axis: powers of ten around the ratios and around 1."""
    shown = [ratio for ratio in ratios if _LEAST < ratio < _MOST]
    low = math.floor(math.log10(min(shown, default=0.1)))
    high = math.ceil(math.log10(max(shown, default=1.0)))
    return 10.0 ** min(low, -1), 10.0 ** max(high, 1)


def _placed(found: Sequence[Margin], chapters: Sequence[str], low: float, high: float) -> Iterator[tuple[float, float]]:
    """Where the mark of each margin lies: its ratio, and the row of its chapter, above or below others near it."""
    width = (WIDTH - _LEFT - _RIGHT) / math.log10(high / low)  # pixels of a power of ten
    taken: dict[tuple[str, int], int] = {}
    for one in found:
        x = min(max(one.ratio, low), high)
        place = (one.check.chapter, round(math.log10(x) * width / _NEAR))
        taken[place] = taken.get(place, 0) + 1
        yield x, chapters.index(one.check.chapter) + _LIFTS[(taken[place] - 1) % len(_LIFTS)]


def _caption(record: RunRecord, found: Sequence[Margin]) -> str:
    kinds = [one.kind for one in found]
    failed, deviations = kinds.count("failed"), kinds.count("deviation")
    said = [
        "Each mark is the worst measurement of a check that allows rounding: left of the line at 1 it holds.",
        f"{failed} of {len(found)} lie beyond it, each a cross." if failed else f"All {len(found)} hold.",
    ]
    said += [f"Diamonds: {deviations} declared deviation{'s'[: deviations > 1]}."] if deviations else []
    exact = len({check.name for check in record.checks if check.measurements}) - len(found)
    said += [f"Not drawn: {exact} that compare{'s'[exact > 1 :]} exactly."] if exact else []
    return " ".join(said)
