"""Untrusted files: what may be opened, how much of it is read, and safe parsers of JSON and TOML.

A path can lead to a pipe that never answers, to a device without end, or to a file of a terabyte. Only regular files
are opened, links followed, and only below a size limit for each kind. Content can be nested too deeply, or hold numbers
too long, for later steps: that is refused by the parsers.

Raises OSError and ValueError only; callers turn them into errors for users.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "LINE_BYTES",
    "REVIEWED_BYTES",
    "SMALL_BYTES",
    "complaint",
    "largest_bytes",
    "lines_of",
    "opened",
    "parse_json",
    "parse_toml",
    "read_bytes",
    "shown",
]

_MIB = 1 << 20

SMALL_BYTES = 16 * _MIB
"""JSON files without a limit of their own. A config has kilobytes, a pack's surface 150 kB, an index of 50,000 tensors
5 MB."""

REVIEWED_BYTES = _MIB
"""Policies, acceptances and settings, which people write and review; TOML is parsed at about a megabyte a second."""

LINE_BYTES = _MIB
"""One line of JSON Lines, which is one record. Tokenizers cut its caption after some hundred bytes."""

_LARGEST_BYTES: Mapping[str, int] = {
    # CLIP's 49,408 tokens take 2 to 4 MB, those of the largest multilingual CLIPs 17 MB.
    "tokenizer.json": 32 * _MIB,
    "vocab.json": 32 * _MIB,
    "merges.txt": 32 * _MIB,
    # A line of 330 bytes for each weight: the largest published CLIP takes 400 kB.
    "pack.json": 4 * _MIB,
    # 4.4 MB for a gate of some nine hundred checks.
    "run.json": 32 * _MIB,
    # Five texts and images with their last states: 25 MB for the largest published CLIPs.
    "record.safetensors": 256 * _MIB,
    # An answer with its sample's id, some 40 bytes, for each image.
    "tasks.json": 64 * _MIB,
}

# Eight levels are the deepest that this package or transformers writes; recursion ends at about a thousand.
_DEEPEST = 100
# tomllib's work grows with the square of the parts of a key.
_KEY_PARTS = 32
# A float holds at most 309, and Python writes no integer of more than 4,300.
_DIGITS = 300

# Only from the start of a word: else the search in one long word would take quadratic time.
_PART = r"(?:(?<![A-Za-z0-9_-])[A-Za-z0-9_-]+|\"[^\"\n]*\"|'[^'\n]*')"
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_LONG_KEY = re.compile(rf"{_PART}(?:[ \t]*\.[ \t]*{_PART}){{{_KEY_PARTS}}}")
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a directory",
}


class _Unread(ValueError):
    """A text of the right form with something in it that is not read here; the message follows the file's name."""


def complaint(problem: ValueError, form: str) -> str:
    """Return what is wrong with a text that was refused, to follow what the text is, such as "is not JSON (...)".

    Args:
        problem: what `parse_json` or `parse_toml` raised.
        form: JSON or TOML.
    """
    return str(problem) if isinstance(problem, _Unread) else f"is not {form} ({problem})"


def largest_bytes(path: str | Path) -> int:
    """Return the size limit of files of this name, in bytes."""
    return _LARGEST_BYTES.get(os.path.basename(path), SMALL_BYTES)  # noqa: PTH119 - a Path refuses some names


def opened(path: str | Path, *, limit_bytes: int | None = None) -> BinaryIO:
    """Open a regular file for reading. Nothing else is opened, so this cannot block.

    Args:
        path: links are followed.
        limit_bytes: the largest size; None for any.

    Raises:
        OSError: the file does not exist, is not a regular file, is too large, or its name is invalid; see `strerror`.
    """
    try:
        # Opening a device can have effects, so check the path first, then the opened file again.
        _require_regular(os.stat(path), path, limit_bytes)  # noqa: PTH116 - a Path refuses some names
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags)
    except ValueError as problem:  # a NUL, or a lone surrogate
        raise OSError(errno.EINVAL, "not a valid file name", str(path)) from problem
    try:
        _require_regular(os.fstat(descriptor), path, limit_bytes)
        return io.open(descriptor, "rb")  # noqa: UP020 - `open` would hide that this is a descriptor
    except BaseException:
        os.close(descriptor)
        raise


def _require_regular(status: os.stat_result, path: str | Path, limit_bytes: int | None) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", str(path))
    if limit_bytes is not None and status.st_size > limit_bytes:
        raise OSError(errno.EFBIG, _too_large(f"{status.st_size:,}", limit_bytes), str(path))


def _too_large(size: str, limit_bytes: int) -> str:
    return f"it has {size} bytes, and the limit is {limit_bytes:,}"


def read_bytes(path: str | Path, *, limit_bytes: int | None = None) -> bytes:
    """Return the content of a regular file.

    Args:
        path: links are followed.
        limit_bytes: the largest size; None for that of files of this name.

    Raises:
        OSError: as `opened`; also where the file grows beyond the limit while it is read.
    """
    limit = largest_bytes(path) if limit_bytes is None else limit_bytes
    with opened(path, limit_bytes=limit) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(size + 1)  # Python makes room for what it is asked to read, not for what there is
        if len(data) > size:
            data += file.read(limit + 1 - len(data))
    if len(data) > limit:  # it grew, or has no size, like files in /proc
        raise OSError(errno.EFBIG, _too_large(f"more than {limit:,}", limit), str(path))
    return data


def lines_of(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a stream unchanged; of a line longer than `LINE_BYTES` the first `LINE_BYTES` + 1 bytes."""
    while line := stream.readline(LINE_BYTES + 1):
        if len(line) > LINE_BYTES:
            rest = line
            while rest and not rest.endswith(b"\n"):
                rest = stream.readline(LINE_BYTES)
        yield line


def parse_json(text: str, *, own: bool = False) -> Any:
    """Return the value of a JSON text.

    Args:
        text: the text.
        own: the file is one that this package writes: refuse duplicate keys, NaN, infinities and lone surrogates.

    Raises:
        ValueError: it is not JSON, nested more than 100 deep, or holds a number of more than 300 digits; see
            `complaint`.
    """
    rules: dict[str, Any] = {"parse_int": _integer}
    if own:
        rules |= {"object_pairs_hook": _without_duplicates, "parse_constant": _no_number, "parse_float": _finite}
    try:
        value = json.loads(text, **rules)
    except RecursionError:
        raise _Unread(f"is nested more than {_DEEPEST} deep") from None
    _require_shallow(value)
    if own and _HALF.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise _Unread("holds a lone surrogate") from None
    return value


def parse_toml(text: str) -> dict[str, Any]:
    """Return the table of a TOML text. A byte order mark, which TOML forbids, is named in the error.

    Raises:
        ValueError: it is not TOML, nested more than 100 deep, or holds a number of more than 300 digits or a key of
            more than 32 parts; see `complaint`.
    """
    if text.startswith("\ufeff"):
        raise ValueError("it begins with a byte order mark; save it without one")
    if _LONG_KEY.search(text):
        raise _Unread(f"holds a key of more than {_KEY_PARTS} parts")
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise _Unread(f"is nested more than {_DEEPEST} deep") from None
    except OverflowError as problem:
        raise ValueError(str(problem)) from problem
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # of Python, which reads no integer of more than 4,300 digits
        raise _Unread(f"holds a number of more than {_DIGITS} digits") from None
    for value in _require_shallow(table):
        if isinstance(value, int) and abs(value) >= 10**_DIGITS:
            raise _Unread(f"holds a number of more than {_DIGITS} digits")
    return table


def shown(value: object, limit: int = 80) -> str:
    """Return the value's repr in at most `limit` characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, or deeply nested lists
        return f"a {type(value).__name__} that is too long to write"
    return text if len(text) <= limit else f"{text[: limit - 4]} ..."


def _require_shallow(value: object) -> list[object]:
    """Refuse values nested too deeply; return all leaves."""
    level, plain = [value], []
    for _ in range(_DEEPEST + 1):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
            else:
                plain.append(item)
        if not inner:
            return plain
        level = inner
    raise _Unread(f"is nested more than {_DEEPEST} deep")


def _integer(text: str) -> int:
    if (digits := len(text.lstrip("-"))) > _DIGITS:
        raise _Unread(f"holds a number of {digits:,} digits, and {_DIGITS} are the most")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:
        raise _Unread(f"holds the number {text[:40]}, which is too large")
    return number


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise _Unread(f"holds the key {twice[:80]} twice")
    return table
