"""`clip-eval path render`."""

from __future__ import annotations

import click

from clip_eval.cli.path.printing import (
    EXTENSION,
    RECORDS,
    Printer,
    allowed,
    compiled,
    ended,
    extension_of,
    lines_of,
    printing,
)

__all__ = ["render"]


@click.command()
@click.argument("template")
@RECORDS
@EXTENSION
@printing
def render(template: str, records: str | None, extension: str | None, *, printer: Printer) -> int:
    """Write the path of each record.

    A line of JSON has `line`, `id` and `path`, or `error` where the record has no path.

    Example: clip-eval path render '{user}/{id}' --records manifest.jsonl
    """
    from clip_eval.dataset.json_lines import read_lines
    from clip_eval.paths import PathError

    rule, extension = compiled(template), allowed(extension)
    count = failed = 0
    with lines_of(records, "records") as stream:
        for line in printer.counted(read_lines(stream), "records"):
            count += 1
            fields = line.fields or {}
            path, error = None, line.problem
            if error is None:
                try:
                    path = rule.render(fields, extension=extension_of(fields, extension))
                except PathError as problem:
                    error = str(problem)
            failed += error is not None
            if printer.table:
                if count == 1:
                    printer.row("  line  ", "path")
                printer.row(f"{line.number:>6}  ", path or f"no path: {error}")
            else:
                printer.entry(line=line.number, id=fields.get("id"), path=path, error=error)
    return ended(printer, failed, count, "records have no path")
