"""Locks on report folders: a folder belongs to one run at a time, and holds that run's files or none.

The owner holds a lock file in the folder with `flock`. The kernel releases it when the last process that inherited it
is gone, however it ended, so a leftover file blocks nobody. A child inherits the lock, which lock libraries do not
offer: if a gate's parent is killed, its child still owns the folder. Without `flock` (some systems and file systems)
the existence of the file is the lock; it names its owner, and on the same machine a dead owner does not count.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from clip_eval.errors import OutputError
from clip_eval.files.read_write import make_directory, writable_directory

__all__ = ["LOCK", "Lease", "clear", "owned", "reserved"]

LOCK = ".clip-eval.lock"
"""The lock file's name."""

_TOKEN = "CLIP_EVAL_RUN"
_PATIENCE_S, _PAUSE_S = 5.0, 0.05
_TAKEN = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)
_NAMED = {"pid": "process", "host": "on", "started": "since"}


@dataclass(frozen=True, slots=True)
class Lease:
    """The locks that a run passes to its child, which then owns the same folders.

    Attributes:
        token: identifies the run.
        descriptors: the locks, for `pass_fds`.
    """

    token: str
    descriptors: tuple[int, ...]

    def environment(self) -> dict[str, str]:
        """Return the environment variable that passes the token to the child."""
        return {_TOKEN: self.token}


@contextlib.contextmanager
def owned(*directories: str | Path, patience_s: float = 0.0) -> Iterator[Lease]:
    """Own folders for the length of the block; folders made for it are removed again if they stay empty.

    A folder that the parent process owns and passed on with `Lease.environment` is owned already.

    Args:
        directories: folders; the same one may be named twice.
        patience_s: how long to wait for a folder that another run owns, in seconds.

    Raises:
        OutputError: another run owns a folder, or it cannot be written.
    """
    token = os.environ.get(_TOKEN) or secrets.token_hex(16)
    with contextlib.ExitStack() as stack:
        targets = {writable_directory(directory) for directory in directories}
        descriptors = [stack.enter_context(_held(target / LOCK, token, patience_s)) for target in sorted(targets)]
        yield Lease(token, tuple(descriptor for descriptor in descriptors if descriptor is not None))


@contextlib.contextmanager
def reserved(path: str | Path) -> Iterator[None]:
    """Own a path that does not exist yet for the length of the block; the lock file is beside it.

    Raises:
        OutputError: another run is about to make it, or it cannot be written.
    """
    target = Path(os.path.realpath(path))
    writable_directory(target)
    with _held(target.with_name(f".{target.name}{LOCK}"), secrets.token_hex(16), 0.0):
        yield


def clear(directory: Path, names: Collection[str]) -> None:
    """Remove the files of an earlier run, and the temporary files that a killed process left.

    Args:
        directory: owned by this run.
        names: of the files.

    Raises:
        OutputError: one of them cannot be removed; the others may be gone.
    """
    try:
        for name in names:
            for file in (directory / name, *directory.glob(f".{name}.{'?' * 16}.tmp")):
                file.unlink(missing_ok=True)
    except OSError as problem:
        what = f"a report of an earlier run cannot be removed ({problem.strerror})"
        raise OutputError(what, where=problem.filename or directory, fix="Name another directory") from problem


@contextlib.contextmanager
def _held(file: Path, token: str, patience_s: float) -> Iterator[int | None]:
    """Hold the lock and yield its descriptor; None if the parent holds it."""
    made = [step for step in file.parents if not step.exists()]
    make_directory(file.parent)
    if _holder(file).get("token") == token:
        yield None
        return
    descriptor = _taken(file, patience_s)
    try:
        _sign(descriptor, token)
        yield descriptor
    finally:
        with contextlib.suppress(OSError):  # a leftover file is not a lock
            file.unlink()
        os.close(descriptor)
        for step in made:
            with contextlib.suppress(OSError):  # not empty
                step.rmdir()


def _taken(file: Path, patience_s: float) -> int:
    """Take the lock, or raise an error that names its owner."""
    end = time.monotonic() + patience_s
    while True:
        descriptor = _attempt(file)
        if descriptor is not None:
            return descriptor
        if time.monotonic() >= end:
            raise _refusal(file)
        time.sleep(_PAUSE_S)


def _attempt(file: Path) -> int | None:
    """Try once. If another run removed the file meanwhile, its lock is worthless: open a new one."""
    for _ in range(int(_PATIENCE_S / _PAUSE_S)):
        try:
            descriptor = _opened(file)
        except FileNotFoundError:  # a run that has just ended removed the folder
            make_directory(file.parent)
            continue
        except OSError as problem:
            reason = (problem.strerror or str(problem)).lower()
            raise OutputError(f"the lock file cannot be used ({reason})", where=file, fix="Remove it") from problem
        free = _locked(descriptor, file)
        if free and _is_still(descriptor, file):
            return descriptor
        os.close(descriptor)
        if not free:
            return None
    return None


def _opened(file: Path) -> int:
    """Open or create the lock file. A read-only one, left by another user, is locked and replaced."""
    flags = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        return os.open(file, os.O_RDWR | os.O_CREAT | flags, 0o644)
    except PermissionError:
        descriptor = os.open(file, os.O_RDONLY | flags)
    try:
        if _locked(descriptor, file) and _is_still(descriptor, file):
            file.unlink()
            return os.open(file, os.O_RDWR | os.O_CREAT | flags, 0o644)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _locked(descriptor: int, file: Path) -> bool:
    """Lock the open file if it is free; without `flock`, check whether the owner it names is alive."""
    is_free = _flock(descriptor)
    return not _lives(_holder(file)) if is_free is None else is_free


def _flock(descriptor: int) -> bool | None:
    """Whether the lock was free and is taken now; None if the system or the file system has no `flock`."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        return False if problem.errno in _TAKEN else None
    return True


def _is_still(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _sign(descriptor: int, token: str) -> None:
    """Write who owns the folder, for the error of other runs. On a full disk the lock counts without it."""
    started = datetime.now(tz=timezone.utc).isoformat(timespec="seconds")
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "started": started, "token": token}
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(holder).encode())


def _holder(file: Path) -> dict[str, object]:
    """The content of a lock file; empty if there is none, or it is not a lock file."""
    try:
        if not file.is_file():
            return {}
        with file.open("rb") as handle:
            holder = json.loads(handle.read(1 << 12))
    except (OSError, ValueError, RecursionError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _lives(holder: dict[str, object]) -> bool:
    """Whether the owner may still be running. On another machine, or if that cannot be found out, True."""
    pid = holder.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    if holder.get("host") != socket.gethostname() or os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _refusal(file: Path) -> OutputError:
    holder = _holder(file)
    details = ", ".join(f"{word} {holder[key]}" for key, word in _NAMED.items() if holder.get(key))
    stale = "" if _knows_locks(file) else f"; if that run is gone, remove {file}"
    return OutputError(
        f"another run is writing there{f' ({details})' if details else ''}",
        where=file.parent,
        fix=f"Name another directory, or wait until it has ended{stale}",
    )


def _knows_locks(file: Path) -> bool:
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except OSError:
        return True  # it has just ended
    try:
        return _flock(descriptor) is not None
    finally:
        os.close(descriptor)
