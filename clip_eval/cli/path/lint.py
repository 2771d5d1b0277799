"""`clip-eval path lint`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clip_eval.cli.option_values import a_place
from clip_eval.cli.path.printing import EXTENSION, RECORDS, Printer, allowed, compiled, lines_of, printing
from clip_eval.errors import DatasetError, UsageError
from clip_eval.nearest import beside
from clip_eval.progress import counted

if TYPE_CHECKING:
    from clip_eval.dataset.lint import DatasetLinter, Flaw
    from clip_eval.paths import PathTemplate

__all__ = ["lint"]


@click.command()
@click.argument("template", required=False)
@RECORDS
@click.option("--root", callback=a_place, metavar="DIR", help="Compare with the files below DIR, too.")
@click.option("--dataset", callback=a_place, metavar="DIR", help="A dataset: its rule, records, files.")
@EXTENSION
@click.option("--ignore", metavar="KIND", multiple=True, help="Leave findings of this kind out, such as 'shortened'.")
@printing
def lint(
    template: str | None,
    records: str | None,
    root: Path | None,
    dataset: Path | None,
    extension: str | None,
    ignore: tuple[str, ...],
    *,
    printer: Printer,
) -> int:
    """Find what is wrong with the files of a dataset.

    Of the records: no record, no path; same path; same file (where case, normalisation or invisible characters do not
    count); file and folder (one is the other); shortened (a name is too long and lost text). Of the files below --root:
    missing file; unnamed file, which no record names; unreadable folder. Hidden files do not count.

    A line of JSON has `kind`, `line`, `id`, `path` and `what`; `other_line` for two records that clash.

    Example: clip-eval path lint '{user}/{id}' --records manifest.jsonl --root .
    """
    from clip_eval.dataset.lint import DatasetLinter

    _check_kinds(ignore)
    if dataset is not None:
        if template is not None or records is not None or root is not None:
            raise UsageError("--dataset stands for TEMPLATE, --records and --root", fix="Leave these out")
        rule, records, root = _parts(dataset)
    elif template is None:
        raise UsageError("TEMPLATE is missing", fix="Give TEMPLATE and --records, or --dataset")
    else:
        rule = compiled(template)
    if root is not None and not os.path.isdir(root):  # noqa: PTH112 - a Path raises for a name that is too long
        fix = beside(root, "Name the directory that the files are below")
        raise DatasetError("the directory does not exist", where=root, fix=fix)
    linter = DatasetLinter(rule, root=root, extension=allowed(extension))
    counts: Counter[str] = Counter()
    for flaw in _flaws(linter, records):
        if flaw.kind not in ignore:
            if printer.table and not counts:
                printer.row("  line  finding            ", "path, and what is wrong")
            counts[flaw.kind] += 1
            _print(printer, flaw)
    if printer.table:
        printer.row("", _summary(linter, counts, root is not None))
    return 1 if counts else 0


def _check_kinds(kinds: tuple[str, ...]) -> None:
    from clip_eval.dataset.lint import KINDS

    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"--ignore: unknown kind {kind!r}", fix=f"The kinds are {', '.join(KINDS)}")


def _parts(dataset: Path) -> tuple[PathTemplate, str, Path]:
    from clip_eval.dataset.manifest import MANIFEST, SETTINGS
    from clip_eval.dataset.settings import read_settings

    if not dataset.is_dir():
        fix = beside(dataset, f"Name a directory with {SETTINGS} and {MANIFEST}")
        raise DatasetError("the dataset does not exist", where=dataset, fix=fix)
    settings = read_settings(dataset / SETTINGS)
    if not os.path.lexists(dataset / MANIFEST):
        what = f"the dataset has no {MANIFEST}, with which its files could be compared"
        fix = "Without one, a gate or an evaluation names each path that does not match the template"
        raise DatasetError(what, where=dataset, fix=fix)
    return settings.template, str(dataset / MANIFEST), dataset


def _flaws(linter: DatasetLinter, records: str | None) -> Iterator[Flaw]:
    from clip_eval.dataset.json_lines import read_lines

    with lines_of(records, "records") as stream:
        for line in counted(read_lines(stream), "records"):
            yield from linter.check(line)
    if not linter.records:
        raise DatasetError("there are no records", where=records or "-", fix="Write one JSON object a line")
    yield from linter.check_files(apart=[Path(records)] if records not in (None, "-") else [])


def _print(printer: Printer, flaw: Flaw) -> None:
    if printer.table:
        text = flaw.what if flaw.path is None else f"{flaw.path} {flaw.what}"
        printer.row(f"{flaw.line or '':>6}  {flaw.kind:<17}  ", text)
    else:
        printer.entry(
            kind=flaw.kind, line=flaw.line, other_line=flaw.other_line, id=flaw.id, path=flaw.path, what=flaw.what
        )


def _summary(linter: DatasetLinter, found: Counter[str], compared: bool) -> str:
    files = f" and {linter.files:,} files" if compared else ""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.items())
    return f"{linter.records:,} records{files}: {kinds or 'no finding'}"
