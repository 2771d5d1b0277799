"""Reading and writing files: a file is written whole or not at all.

Every write goes to a temporary file beside its target, is flushed to the disk, and is renamed. If that fails, an
`OutputError` has the path and the system's reason.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from clip_eval.errors import ClipEvalError, OutputError
from clip_eval.files import untrusted as foreign
from clip_eval.nearest import beside

__all__ = [
    "lacks_room",
    "make_directory",
    "new_directory",
    "read_json",
    "read_text",
    "replacing",
    "writable_directory",
    "write_bytes",
    "write_json",
    "write_text",
]

_NO_ROOM = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
_TRIES = 100  # of making a directory that other runs remove at the same time
_COPY_AGAIN = "Copy it again from its source"


def writable_directory(path: str | Path) -> Path:
    """Return the absolute path after showing that files can be written there; call it before long work.

    Missing directories are made for the test and always removed again.

    Raises:
        OutputError: the directory cannot be made, is a file, or takes no files.
    """
    target = _resolved(path)
    with _output_errors("the directory cannot be written", target), _made(target, keep=False):
        with _new_file(trial := _temporary_beside(target / "trial")):
            pass
        trial.unlink()
    return target


def make_directory(path: Path) -> None:
    """Make a directory and its parents, even if another run removes them at the same time.

    Raises:
        OSError: it cannot be made.
    """
    for _ in range(_TRIES):
        # Removed before its child is made: FileNotFoundError. Removed before `mkdir` checks is_dir: FileExistsError.
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            path.mkdir(parents=True, exist_ok=True)
            return
    path.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that replaces `path` when the block succeeds, and is removed when it fails.

    Missing parent directories are made. An OSError in the block counts as a failure to write.

    Raises:
        OutputError: the file cannot be written.
    """
    target = _resolved(path)
    temporary = _temporary_beside(target)
    with _output_errors("the file cannot be written", target), _made(target.parent, keep=True):
        try:
            with _new_file(temporary) as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(target.parent)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Replace the file's content, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    with replacing(path) as handle:
        handle.write(data)


def write_text(path: str | Path, text: str) -> None:
    """Replace the file's content by `text` in UTF-8, line ends unchanged; a lone surrogate is escaped.

    Raises:
        OutputError: the file cannot be written.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: str | Path, value: object) -> None:
    """Replace the file's content by `value` as JSON, indented by two spaces, in the order of its keys.

    Raises:
        OutputError: the file cannot be written.
        TypeError: something in `value` has no form in JSON.
        ValueError: a float in `value` is not finite, which JSON cannot hold; the caller must encode it.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextlib.contextmanager
def new_directory(path: str | Path) -> Iterator[Path]:
    """A temporary directory that becomes `path` when the block succeeds, and is removed when it fails.

    An OSError in the block counts as a failure to write; raise another error for a failure to read.

    Raises:
        OutputError: `path` exists and is not an empty directory, or cannot be written.
    """
    target = _resolved(path)
    with _output_errors("the directory cannot be written", target), _made(target.parent, keep=True):
        if target.is_dir() and any(target.iterdir()):
            raise OutputError("the directory is not empty", where=target, fix="Name a new directory")
        writable_directory(target)
        temporary = _temporary_beside(target)
        try:
            make_directory(temporary)
            yield temporary
            for written in (*temporary.rglob("*"), temporary):
                _sync(written)
            temporary.replace(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _sync(target.parent)


def read_text(path: str | Path, *, error: type[ClipEvalError], limit_bytes: int | None = None) -> str:
    """The text of a regular file in UTF-8; every line ends in a line feed.

    Args:
        path: links are followed.
        error: the class of the error.
        limit_bytes: the largest size; None for the limit of files of this name (see `clip_eval.files.untrusted`).

    Raises:
        error: the file does not exist, is not a regular file, is too large, or cannot be read as text.
    """
    try:
        text = foreign.read_bytes(path, limit_bytes=limit_bytes).decode()
    except OSError as problem:
        fix = beside(path, "Name a file that is there and can be read")
        raise error(f"the file cannot be read ({_reason(problem)})", where=path, fix=fix) from problem
    except UnicodeDecodeError as problem:
        raise error("the file is not UTF-8 text", where=path, fix=_COPY_AGAIN) from problem
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: str | Path, *, error: type[ClipEvalError]) -> object:
    """The file's JSON value, nested at most 100 deep, without integers too large for a float.

    Raises:
        error: as `read_text`, or it is not such JSON; the message says where in the file.
    """
    text = read_text(path, error=error)
    try:
        return foreign.parse_json(text)
    except ValueError as problem:
        raise error(f"the file {foreign.complaint(problem, 'JSON')}", where=path, fix=_COPY_AGAIN) from problem


def lacks_room(problem: BaseException) -> bool:
    """Whether an error, or one of its causes, is a full disk or quota; libraries word it differently."""
    chain: BaseException | None = problem
    while chain is not None:
        if isinstance(chain, OSError) and chain.errno in _NO_ROOM:
            return True
        if type(chain).__name__ == "SafetensorError" and any(
            f"(os error {number})" in str(chain) for number in _NO_ROOM
        ):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


def _resolved(path: str | Path) -> Path:
    """The target of symbolic links, so that a rename replaces the target and not the link."""
    return Path(os.path.realpath(path))


def _temporary_beside(target: Path) -> Path:
    return target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}.tmp")


def _new_file(path: Path) -> BinaryIO:
    """Create a file; its directory is made again if another run has just removed it."""
    for _ in range(_TRIES):
        make_directory(path.parent)
        with contextlib.suppress(FileNotFoundError):
            return path.open("xb")
    return path.open("xb")


def _reason(problem: OSError) -> str:
    return (problem.strerror or type(problem).__name__).lower()


@contextlib.contextmanager
def _output_errors(what: str, target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        fix = "Make room there, or name another place" if lacks_room(problem) else "Name another place"
        raise OutputError(f"{what} ({_reason(problem)})", where=target, fix=fix) from problem


@contextlib.contextmanager
def _made(directory: Path, *, keep: bool) -> Iterator[None]:
    """Make a directory for the block; remove what was made for it on failure, or always unless `keep`."""
    missing = [step for step in (directory, *directory.parents) if not os.path.lexists(step)]
    keep_it = False
    try:
        make_directory(directory)
        yield
        keep_it = keep
    finally:
        for step in () if keep_it else missing:
            with contextlib.suppress(OSError):
                step.rmdir()


def _sync(path: Path) -> None:
    """Flush a file or directory, without which a rename may not survive a power cut. Directories only on POSIX."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
