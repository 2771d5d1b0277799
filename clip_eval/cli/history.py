"""The command `clip-eval history`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clip_eval.cli.option_values import a_name, a_place

if TYPE_CHECKING:
    from rich.table import Table

    from clip_eval.history.runs import Run

__all__ = ["history"]


@click.command()
@click.argument("file", callback=a_place)
@click.option("--model", callback=a_name, metavar="NAME", help="Only runs of this model.")
@click.option("--last", type=click.IntRange(min=1), default=30, show_default=True, metavar="N", help="So many runs.")
@click.option(
    "--compare", nargs=2, type=click.IntRange(min=1), metavar="A B", help="What moved between the runs of two numbers."
)
@click.option("--html", callback=a_place, metavar="FILE", help="Write a page with the trends of each model.")
def history(file: Path, model: str | None, last: int, compare: tuple[int, int] | None, html: Path | None) -> None:
    """List the runs of a history, and draw them.

    FILE is what `clip-eval gate --history FILE` adds a run to. Margin is the largest error over bound of any check,
    time the largest ratio to a reference.

    Example: clip-eval history clip-history.sqlite --html trends.html
    """
    from clip_eval.files.read_write import write_text
    from clip_eval.history.database import read
    from clip_eval.history.listing import run_of_number
    from clip_eval.history.page import render_history
    from clip_eval.report.text import paragraph

    found = read(file)
    if found.note:
        click.echo(paragraph(found.note, first="clip-eval: "), err=True)
    runs = [run for run in found.runs if model in (None, run.model)]
    if model is not None and not runs:
        _refuse_model(model, sorted({run.model for run in found.runs}), file)
    if compare is not None:
        _compare(*(run_of_number(found.runs, number) for number in compare))
    elif html is None:
        _list(runs, last)
    if html is not None:
        write_text(html, render_history(runs, called=file.name, note=found.note, last=last))
        click.echo(f"wrote {html}")


def _refuse_model(model: str, known: Sequence[str], file: Path) -> None:
    from clip_eval.errors import UsageError
    from clip_eval.nearest import listed

    fix = listed(model, known) if known else "It has no runs"
    raise UsageError(f"the history has no run of {model}", where=file, fix=fix)


def _list(runs: Sequence[Run], last: int) -> None:
    from clip_eval.history.listing import runs_table

    if not runs:
        click.echo("The history has no runs.")
        return
    _print(runs_table(runs[-last:]))
    if len(runs) > last:
        click.echo(f"{len(runs) - last} earlier runs are left out; --last {len(runs)} shows them.")


def _compare(before: Run, after: Run) -> None:
    from clip_eval.history.listing import moved_table, when
    from clip_eval.report.text import clip, paragraph

    for run in (before, after):
        click.echo(paragraph(clip(f"{when(run)} {run.headline}", limit=400), first=f"run {run.number}: ", rest="  "))
    table = moved_table(before, after)
    if not table.row_count:
        click.echo("No number moved.")
        return
    _print(table)


def _print(table: Table) -> None:
    """Print a table: to a file or a pipe in 80 columns, without colours."""
    from rich.console import Console

    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 80, highlight=False)
    with console.capture() as captured:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))
