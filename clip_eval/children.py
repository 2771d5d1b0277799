"""Running a child process to its end, whatever the user does to this one meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

__all__ = ["ChildEnd", "memory_file", "run_to_the_end", "said"]


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child ended: its exit code, negative for a signal, and whether the user interrupted it."""

    code: int
    interrupted: bool


def run_to_the_end(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    errors: IO[bytes],
    output: IO[bytes] | None,
    directory: str | None = None,
    descriptors: Sequence[int] = (),
) -> ChildEnd:
    """Run a child until it ends by itself.

    It has a session of its own, so that Ctrl-C reaches it once, from here: it then writes what it has and ends by
    itself. A shell that starts jobs in the background makes them, and so the child, deaf to it; the child must hear.

    Args:
        command: program and arguments.
        environment: the child's.
        errors: takes what it writes to stderr.
        output: takes what it writes to stdout; None for this process's.
        directory: its working directory; None for this process's.
        descriptors: files that it inherits, where the system knows such.

    Raises:
        OSError: the program cannot be started.
    """
    interrupted = False
    with _stopped_like_interrupted():
        with _hearing():
            child = subprocess.Popen(
                command, cwd=directory, env=dict(environment), stdout=output, stderr=errors, start_new_session=True,
                pass_fds=tuple(descriptors) if os.name == "posix" else (),
            )  # fmt: skip
        with child:
            try:
                while (code := _wait(child)) is None:
                    interrupted = True
            finally:
                child.kill()  # a child that has ended takes no notice
    return ChildEnd(code, interrupted)


def memory_file() -> IO[bytes]:
    """A file for what a child says; in memory where the system has such files, so that a full disk can be told."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("clip-eval"), "w+b")
    return tempfile.TemporaryFile()


def said(file: IO[bytes]) -> str:
    """Return what a child wrote."""
    file.seek(0)
    return file.read().decode(errors="replace").strip()


@contextlib.contextmanager
def _hearing() -> Iterator[None]:
    """What ignores a signal hands that on to a child, so in the block the interrupt is not ignored."""
    deaf = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if deaf:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if deaf:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _wait(child: subprocess.Popen[bytes]) -> int | None:
    """The child's exit code; None once it was interrupted, and has to be waited for again."""
    try:
        return child.wait()
    except KeyboardInterrupt:
        if os.name == "posix":  # elsewhere a console interrupts all its processes
            child.send_signal(signal.SIGINT)
        return None


@contextlib.contextmanager
def _stopped_like_interrupted() -> Iterator[None]:
    """A request to stop (SIGTERM) counts as Ctrl-C in the block: nobody else would tell the child."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread only
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
