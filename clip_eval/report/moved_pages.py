"""What moved between two runs, as Markdown and as one HTML page."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from clip_eval.report.markdown import literal, table
from clip_eval.report.moved import compare_runs
from clip_eval.report.moved_sections import Section, sections, sentence
from clip_eval.report.page import page_environment
from clip_eval.report.summary import name_of
from clip_eval.report.text import clip
from clip_eval.verdict.run_record import RunRecord

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render_moved_html", "render_moved_markdown"]

# GitHub takes 65,536 characters in a comment
_MOST, _ROOM = 64_000, 12_000
_CELL, _ROWS = 300, 25  # characters of a cell and rows of a table
_OPEN = 25  # rows of a table that are not folded in the page


def render_moved_markdown(before: RunRecord, after: RunRecord) -> str:
    """What moved from run A to run B, in less than 65,000 characters: rows that do not fit are counted."""
    moved = compare_runs(before, after)
    text = f"# {literal(sentence(moved), limit=1000)}\n"
    for section in sections(moved):
        text += _section(section, room=min(_ROOM, _MOST - len(text)))
    return text


def _section(section: Section, *, room: int) -> str:
    head = [f"\n## {section.title}{_count(section)}", ""]
    head += [section.note, ""] if section.note else []
    lines = table(section.columns, ([clip(cell, limit=_CELL) for cell in row] for row in section.rows))
    left = room - len("\n".join(head)) - 100  # the last line and line ends
    kept: list[str] = []
    for line in lines[: _ROWS + 2]:
        left -= len(line) + 1
        if left < 0:
            break
        kept.append(line)
    missing = len(lines) - len(kept)
    if len(kept) <= 2:  # not one row
        return "\n".join([*head, f"{len(section.rows)} rows are in the HTML page.", ""])
    more = ["", f"{missing} more {'row is' if missing == 1 else 'rows are'} in the HTML page."] if missing else []
    return "\n".join([*head, *kept, *more, ""])


def _count(section: Section) -> str:
    return "" if section.id == "runs" else f" ({len(section.rows) if section.count is None else section.count:,})"


def render_moved_html(before: RunRecord, after: RunRecord) -> str:
    """What moved from run A to run B as one HTML file, which fetches nothing; its script sorts tables."""
    moved = compare_runs(before, after)
    return (
        _environment()
        .get_template("moved.html.j2")
        .render(
            sentence=sentence(moved),
            names=[name_of(run.candidate) for run in (before, after)],
            verdict=after.verdict,
            sections=sections(moved),
            open_rows=_OPEN,
        )
    )


@cache
def _environment() -> Environment:
    environment = page_environment()
    environment.globals.update(count_of=_count)
    environment.filters.update(clip=clip)
    return environment
