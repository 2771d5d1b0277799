"""bench.json, bench.md and bench.html: each whole, none before all can be rendered, bench.json last."""

from __future__ import annotations

import json
from pathlib import Path

from clip_eval.errors import OutputError
from clip_eval.files.folder_lock import clear
from clip_eval.files.read_write import write_text
from clip_eval.report.page import page_environment
from clip_eval.throughput.bench.curves import curves
from clip_eval.throughput.bench.markdown import at_once_words, compiled_words, markdown, outcome_words
from clip_eval.throughput.bench.results import Bench
from clip_eval.verdict.measurement import format_number

__all__ = ["FILES", "write_bench"]

FILES = ("bench.html", "bench.md", "bench.json")


def write_bench(bench: Bench, out: Path) -> None:
    """Write the three files, all or none.

    Raises:
        OutputError: a file cannot be written.
    """
    data = json.dumps(bench.to_data(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    texts = (render_html(bench), markdown(bench), data)
    try:
        for name, text in zip(FILES, texts, strict=True):
            write_text(out / name, text)
    except OutputError:
        clear(out, FILES)
        raise


def render_html(bench: Bench) -> str:
    """Return the bench as one HTML file: nothing is fetched, the only script sorts its tables."""
    environment = page_environment("clip_eval.throughput.bench")
    environment.filters.update(number=format_number)
    return environment.get_template("bench.html.j2").render(
        bench=bench,
        curves=curves(bench),
        outcome_words=outcome_words,
        compiled_words=compiled_words,
        at_once_words=at_once_words,
    )
