"""Checks of values that a user gave for an option."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from clip_eval.errors import UsageError
from clip_eval.nearest import DTYPE_ALIASES, listed

__all__ = ["DTYPES", "named", "require_dtype", "require_utf8"]

DTYPES = ("float32", "bfloat16", "float16")


def named(value: object, option: str) -> str:
    """Return the text of a path, id or name from the user.

    Args:
        value: a text or a path.
        option: as the user writes it.

    Raises:
        UsageError: it is something else, empty, or not a valid file name. An empty text, such as an unset shell
            variable, would name the working directory.
    """
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        what = f"{option} takes a text or a path, and this is of type {type(value).__name__}"
        raise UsageError(what, fix="Give the path or the name itself")
    if not value.strip():
        raise UsageError(f"{option} is empty", fix="Give it a value; a shell variable in its place may be unset")
    if problem := _unheard_of(value):
        raise UsageError(f"{option} is not a valid file name ({problem})", where=value[:80].replace("\0", "\\0"))
    return value


def _unheard_of(value: str) -> str | None:
    """Why no file system accepts a name; None if it could, whether or not the file exists."""
    try:
        os.lstat(value)
    except ValueError:
        return "it holds a NUL character"
    except OSError as problem:
        return "it is too long" if problem.errno == errno.ENAMETOOLONG else None
    return None


def require_dtype(dtype: object) -> None:
    """Raise UsageError, with the nearest name, unless `dtype` is one of `DTYPES`."""
    if not isinstance(dtype, str):
        what = f"a dtype is given by its name, and this is of type {type(dtype).__name__}"
        raise UsageError(what, where=dtype, fix=listed(str(dtype), DTYPES, DTYPE_ALIASES))
    if dtype not in DTYPES:
        raise UsageError(f"there is no dtype {dtype!r} to run in", fix=listed(dtype, DTYPES, DTYPE_ALIASES))


def require_utf8(values: Iterable[object]) -> None:
    """Raise UsageError unless every text of `values` can be written to a report.

    Names on disk may hold bytes that are not UTF-8, which Python keeps as surrogates.
    """
    for value in values:
        if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
            shown = value.encode("utf-8", "backslashreplace").decode()
            fix = "Rename it, or name a symbolic link to it"
            raise UsageError("a name that is not UTF-8 cannot be written to a report", where=shown, fix=fix)
