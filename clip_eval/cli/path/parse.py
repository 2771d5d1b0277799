"""`clip-eval path parse`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING

import click

from clip_eval.cli.path.printing import Printer, compiled, ended, lines_of, printing

if TYPE_CHECKING:
    from clip_eval.cli.path.answers import Asked

__all__ = ["parse"]


@click.command()
@click.argument("template")
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option("--given", metavar="NAME=TEXT", multiple=True, help="A known value, as it stands in a path.")
@click.option("--usual", is_flag=True, help="Assume what holds in most pixiv datasets.")
@click.option("--id", "only_id", is_flag=True, help="Read the id only.")
@click.option("--folder", is_flag=True, help="The paths have no extension.")
@printing
def parse(
    template: str,
    paths: tuple[str, ...],
    given: tuple[str, ...],
    usual: bool,
    only_id: bool,
    folder: bool,
    *,
    printer: Printer,
) -> int:
    """Read the record back from each PATH.

    Without a PATH, or for -, paths are read from standard input: one a line, or JSON objects with `path` and, where
    values are known, `given`. A line of JSON has `path` and `record` or `id`; else `error` (mismatch, or ambiguous with
    `candidates`) and `what`.

    --usual means: there is a user; a series has number, title and order, or none of them; the title of a series does
    not begin with a digit.

    Example: clip-eval path parse '{user}/{title}_{id}' 'Mira/red_7.jpg'
    """
    from clip_eval.cli.path.answers import Answer, Asked, answer, given_values

    rule = compiled(template)
    values = given_values(rule, given)
    count = failed = 0
    with _asked(paths) as questions:
        for question in printer.counted(questions, "paths"):
            asked = Asked(question.path, {**values, **question.given})
            result = answer(rule, asked, only_id=only_id, usual=usual, folder=folder)
            count += 1
            failed += result.error is not None
            if printer.table:
                for head, text in result.rows():
                    printer.row(head, text)
            else:
                printer.entry(**{part.name: getattr(result, part.name) for part in fields(Answer)})
    return ended(printer, failed, count, "paths have no single record")


@contextmanager
def _asked(paths: tuple[str, ...]) -> Iterator[Iterator[Asked]]:
    """The paths given as arguments, or those on standard input."""
    from clip_eval.cli.path.answers import Asked, asked_lines

    if paths and paths != ("-",):
        yield map(Asked, paths)
        return
    with lines_of("-" if paths else None, "paths") as stream:
        yield asked_lines(stream)
