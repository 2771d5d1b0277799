"""Errors that a user can fix. Each says what is wrong, where, and what to do, in one paragraph."""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "CheckpointError",
    "ClipEvalError",
    "DatasetError",
    "Finding",
    "NotApplicable",
    "NotAskable",
    "OutputError",
    "PackError",
    "ProcessError",
    "UsageError",
]


_LONGEST = 2_000  # characters; nobody reads more


class ClipEvalError(Exception):
    """A problem that is not a bug of this package. The command line prints it without a traceback and exits with
    `exit_code`.

    Args:
        what: what is wrong, a clause without a full stop.
        where: the file, option or hub id.
        fix: what the user can do, a sentence without a full stop.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, what: str, *, where: object = None, fix: str | None = None) -> None:
        self.what = _readable(what)
        self.where = None if where is None else _readable(str(where))
        self.fix = None if fix is None else _readable(fix)
        parts = [self.what if where is None else f"{self.what}: {self.where}", self.fix]
        super().__init__(" ".join(f"{part.rstrip('.')}." for part in parts if part))

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling: pytest-xdist and multiprocessing send errors between processes."""
        return (_rebuild, (type(self), self.what, self.where, self.fix))


def _readable(text: str) -> str:
    """Return one line that can be printed and written: names may hold bytes that are not text, or be very long."""
    if not text.isprintable():
        kept = (character if character.isprintable() else ascii(character)[1:-1] for character in text.strip())
        text = "".join(kept)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


def _rebuild(kind: type[ClipEvalError], what: str, where: str | None, fix: str | None) -> ClipEvalError:
    return kind(what, where=where, fix=fix)


class CheckpointError(ClipEvalError):
    """The checkpoint cannot be found, read, or is not a CLIP."""


class Finding(ClipEvalError):
    """A defect that no number describes: the check fails, and this paragraph is its reason."""


class DatasetError(ClipEvalError):
    """The evaluation set cannot be read."""


class NotApplicable(ClipEvalError):
    """A check asks for what the runtime of this checkpoint does not give; the check becomes not_applicable."""


class NotAskable(ClipEvalError):
    """A check cannot run because of a defect that another check judges.

    The check that raises this becomes not_run, with a reference to the other one.

    Args:
        what: what is broken, a clause without a full stop.
        finding: `chapter.name[case]` of the check that judges it.
        where: the file or class.
        fix: what the user can do.
    """

    def __init__(self, what: str, *, finding: str, where: object = None, fix: str | None = None) -> None:
        super().__init__(what, where=where, fix=fix)
        self.finding = finding

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling, with the finding."""
        return (_rebuild_not_askable, (self.what, self.finding, self.where, self.fix))


def _rebuild_not_askable(what: str, finding: str, where: str | None, fix: str | None) -> NotAskable:
    return NotAskable(what, finding=finding, where=where, fix=fix)


class OutputError(ClipEvalError):
    """A file cannot be written."""


class PackError(ClipEvalError):
    """The baseline pack cannot be read or compared."""


class ProcessError(ClipEvalError):
    """The process that runs the checks died: nothing was judged."""

    exit_code = 3


class UsageError(ClipEvalError):
    """An option or a combination of options is invalid."""
