"""A history as one HTML page: for each model its trends and its runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clip_eval.history.listing import when
from clip_eval.history.runs import Run
from clip_eval.history.trends import LAST, by_subject, trends_of
from clip_eval.report.page import page_environment
from clip_eval.report.trends import Trend, drawn, words
from clip_eval.verdict.measurement import format_number

if TYPE_CHECKING:
    from clip_eval.report.trends import Drawn

__all__ = ["render_history"]


@dataclass(frozen=True, slots=True)
class _Model:
    """One model's part of the page."""

    title: str
    runs: tuple[Run, ...]
    trends: tuple[Trend, ...]
    pictures: tuple[Drawn, ...]


def render_history(runs: Sequence[Run], *, called: str, note: str | None = None, last: int = LAST) -> str:
    """Return the page.

    Args:
        runs: of the history.
        called: its name, for the heading.
        note: what to know of the file.
        last: so many runs of each model are drawn.
    """
    environment = page_environment("clip_eval.history")
    environment.filters.update(number=format_number)
    environment.globals.update(when=when, trend_words=words)
    models = [_model(members, last) for members in by_subject(runs).values()]
    return environment.get_template("history.html.j2").render(models=models, called=called, note=note, count=len(runs))


def _model(runs: Sequence[Run], last: int) -> _Model:
    trends = trends_of(runs, last)
    title = ", ".join(part for part in runs[-1].subject if part)
    return _Model(title, tuple(reversed(runs)), trends, tuple(drawn(trends)))
