"""What the path commands share: output, input lines, and options."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import click

from clip_eval.cli.option_values import a_name
from clip_eval.cli.terminal import hanging, visible
from clip_eval.errors import DatasetError, UsageError
from clip_eval.files.untrusted import opened
from clip_eval.nearest import beside
from clip_eval.progress import counted

if TYPE_CHECKING:
    from clip_eval.paths import PathTemplate

__all__ = ["EXTENSION", "RECORDS", "Printer", "allowed", "compiled", "ended", "extension_of", "lines_of", "printing"]

_Item = TypeVar("_Item")

_FOUND, _BROKEN_PIPE = 1, 141  # 128 + SIGPIPE, as a shell reports it

# What a shell writes for <(...): a pipe with a writer, so opening it does not block.
_PIPED = re.compile(r"/dev/stdin|(?:/dev|/proc/self)/fd/[0-9]+")

RECORDS = click.option(
    "--records",
    callback=a_name,
    metavar="FILE",
    help="Records, one JSON object a line. Default: standard input, as for -.",
)
EXTENSION = click.option("--extension", metavar="EXT", help="Of records without a field `extension`, such as jpg.")


class Printer:
    """Prints results: a table at a terminal, else JSON Lines.

    Attributes:
        table: which of them.
    """

    def __init__(self, form: str | None) -> None:
        self._shown = sys.stdout.isatty()
        self.table = form == "table" or (form is None and self._shown)
        self._width = max(40, min(80, shutil.get_terminal_size().columns))
        self._stream = sys.stdout.buffer
        self._encoding = sys.stdout.encoding or "utf-8"

    def entry(self, **fields: object) -> None:
        """Write one line of JSON, in UTF-8, without the fields that are None."""
        known = {name: value for name, value in fields.items() if value is not None}
        try:
            line = json.dumps(known, ensure_ascii=False).encode()
        except UnicodeEncodeError:  # a name on disk may hold bytes that are not UTF-8
            line = json.dumps(known).encode()
        self._stream.write(line + b"\n")

    def row(self, head: str, text: str) -> None:
        """Write one row of the table, its last column folded."""
        shown = hanging(visible(head), visible(text), self._width)
        self._stream.write(shown.encode(self._encoding, "backslashreplace") + b"\n")
        if self._shown:
            self._stream.flush()

    def counted(self, items: Iterable[_Item], what: str) -> Iterable[_Item]:
        """Return the items, with their number on stderr now and then, unless results are shown at a terminal."""
        return items if self._shown else counted(items, what)

    def flush(self) -> None:
        """Flush the output."""
        self._stream.flush()


def printing(function: Callable[..., int]) -> Callable[..., int]:
    """Give a command its printer and the option for its form. A closed pipe, as after `head`, is not an error."""
    form = click.option(
        "--format", "form", type=click.Choice(["table", "jsonl"]), help="Default: table at a terminal, else jsonl."
    )

    @wraps(function)
    def printed(*arguments: Any, form: str | None, **options: Any) -> int:
        try:
            printer = Printer(form)
            code = function(*arguments, printer=printer, **options)
            printer.flush()
        except BrokenPipeError:
            with suppress(OSError, ValueError):  # what is left in buffers must not be written at exit
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _BROKEN_PIPE
        return code

    return form(printed)


def compiled(text: str) -> PathTemplate:
    """Return the template. Raises UsageError with the position and the nearest name."""
    from clip_eval.paths import PathTemplate, TemplateError

    try:
        return PathTemplate(text)
    except TemplateError as problem:
        raise UsageError(f"TEMPLATE has {problem}", fix="Correct it") from problem


def allowed(extension: str | None) -> str | None:
    """Return the extension. Raises UsageError with the nearest one if it is not allowed."""
    from clip_eval.paths import EXTENSIONS, ExtensionError, PathTemplate

    try:
        PathTemplate("x").render({}, extension=extension)
    except ExtensionError as problem:
        raise UsageError(f"--extension: {problem}", fix=f"Allowed are {', '.join(sorted(EXTENSIONS))}") from problem
    return extension


def extension_of(fields: Mapping[str, object], default: str | None) -> str | None:
    """Return the extension that a record names, else `default`. Raises RecordError if it is not text."""
    from clip_eval.paths import RecordError

    own = fields.get("extension")
    if own is not None and not isinstance(own, str):
        raise RecordError("must be text", "extension")
    return default if own is None else own


@contextmanager
def lines_of(source: str | None, what: str) -> Iterator[BinaryIO]:
    """Open a file of lines; "-", or no name if standard input is a pipe, is standard input.

    Raises:
        UsageError: there is no name, and standard input is a terminal.
        DatasetError: the file cannot be read.
    """
    if source == "-" or (source is None and not sys.stdin.isatty()):
        yield sys.stdin.buffer
        return
    if source is None:
        raise UsageError(f"there are no {what}", fix=f"Name them, or pipe them in; see {_command()} --help")
    try:
        with Path(source).open("rb") if _PIPED.fullmatch(source) else opened(source) as stream:
            yield stream
    except BrokenPipeError:
        raise
    except OSError as problem:
        fix = beside(source, "Name a file that is there and can be read, or pipe them in")
        raise DatasetError(f"the {what} cannot be read ({problem.strerror})", where=source, fix=fix) from problem


def ended(printer: Printer, failed: int, count: int, what: str) -> int:
    """Print on stderr how many lines failed, if any; return the exit code."""
    if not failed:
        return 0
    printer.flush()
    click.echo(f"clip-eval: {failed:,} of {count:,} {what}.", err=True)
    return _FOUND


def _command() -> str:
    return click.get_current_context().command_path
