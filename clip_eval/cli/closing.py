"""What `gate` prints of its run record when it has ended, where that was asked for."""

from __future__ import annotations

from pathlib import Path

import click

from clip_eval.errors import OutputError
from clip_eval.files.read_write import read_text
from clip_eval.report.margins import margins
from clip_eval.report.text import paragraph
from clip_eval.verdict.measurement import format_number
from clip_eval.verdict.run_record import RunRecord, load

__all__ = ["print_closing"]

_SHOWN = 20


def print_closing(out: Path, *, headline: bool, table: bool) -> None:
    """Print of the record in `out` the verdict in one line, and a table of margins, if wanted.

    Raises:
        OutputError: the record cannot be read.
    """
    record = load(read_text(out / "run.json", error=OutputError), where=out / "run.json")
    if headline:
        click.echo(paragraph(record.headline))
    if table:
        _print_margins(record)


def _print_margins(record: RunRecord) -> None:
    """The checks that come nearest to their bounds, or are farthest beyond, the first one worst."""
    from rich.console import Console
    from rich.table import Table

    found = sorted(margins(record).items(), key=lambda one: -one[1])
    table = Table("check", title=f"error over bound, the largest {min(_SHOWN, len(found))} of {len(found)}", box=None)
    table.add_column("of bound", justify="right")
    for name, ratio in found[:_SHOWN]:
        table.add_row(name, format_number(ratio, digits=2))
    Console(markup=False, highlight=False).print(table)
