"""Pure renderers of a run record: the same record always gives the same text. They decide nothing."""

from __future__ import annotations

from clip_eval.report.ctrf import render_ctrf
from clip_eval.report.failure_text import terminal_failure
from clip_eval.report.html import render_html
from clip_eval.report.junit import render_junit
from clip_eval.report.markdown import render_markdown

__all__ = [
    "render_ctrf",
    "render_html",
    "render_junit",
    "render_markdown",
    "terminal_failure",
]
