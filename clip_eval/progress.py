"""Progress of a long command on stderr: the current activity, the steps done, the estimated time left.

In a terminal one live line; in a log a line at the start and one now and then. A child
writes to the stderr of the command that started it, through an inherited descriptor: its own stderr is for errors.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, TypeVar

__all__ = ["HandedOn", "Progress", "counted", "handed_on", "hushed", "is_handed_on", "say", "seconds_left"]

_Item = TypeVar("_Item")

_DESCRIPTOR = "CLIP_EVAL_PROGRESS"
_EVERY_S = 20.0
_QUIET_S = 5.0  # of a command with an unknown number of steps
_SURE_AFTER = 0.05  # of all steps, before which there is no estimate
_LIVE = "{desc}: {n_fmt} of {total_fmt}, {elapsed} gone{postfix}"
_LIVE_WITHOUT_TOTAL = "{desc}: {n_fmt}, {elapsed} gone{postfix}"


@dataclass(frozen=True, slots=True)
class HandedOn:
    """Access to this command's stderr for a child: a descriptor for `pass_fds`, and an environment variable."""

    descriptors: tuple[int, ...] = ()

    def environment(self) -> dict[str, str]:
        """Return the variable that names the descriptor; empty if the child must be quiet."""
        return {_DESCRIPTOR: "".join(map(str, self.descriptors))}


@contextlib.contextmanager
def handed_on(wanted: bool = True) -> Iterator[HandedOn]:
    """A descriptor of this command's stderr for a child; none if not wanted, or if the system cannot pass one."""
    stream = _stream() if wanted and os.name == "posix" else None
    try:
        descriptor = None if stream is None else os.dup(stream.fileno())
    except (OSError, ValueError):
        descriptor = None
    try:
        yield HandedOn(() if descriptor is None else (descriptor,))
    finally:
        if descriptor is not None:
            if os.isatty(descriptor):
                os.write(descriptor, b"\r\033[K")  # the rest of a killed child's line
            os.close(descriptor)


def is_handed_on() -> bool:
    """Whether the process that started this one shows its progress."""
    return bool(os.environ.get(_DESCRIPTOR))


@contextlib.contextmanager
def hushed(wanted: bool = True) -> Iterator[None]:
    """Show no progress in the block, neither of this process nor of its children; nothing changes if not wanted."""
    before = os.environ.get(_DESCRIPTOR)
    if wanted:
        os.environ[_DESCRIPTOR] = ""
    try:
        yield
    finally:
        if before is not None:
            os.environ[_DESCRIPTOR] = before
        elif wanted:
            del os.environ[_DESCRIPTOR]


def say(line: str) -> None:
    """Write one line to the progress stream."""
    stream = _stream()
    if stream is not None:
        _write(stream, f"clip-eval: {line}\n")


def counted(items: Iterable[_Item], what: str) -> Iterator[_Item]:
    """Yield the items; if that takes more than a few seconds, print their number now and then.

    Args:
        items: any number.
        what: they are, such as "records".
    """
    due = time.monotonic() + _QUIET_S
    for done, item in enumerate(items, start=1):
        yield item
        if (now := time.monotonic()) >= due:
            due = now + _EVERY_S
            say(f"{done:,} {what}")


class Progress:
    """Progress over a number of steps, with the current activity.

    Args:
        what: the steps, such as "checks of my-clip".
        total: number of steps; None where nobody knows.
        with_rate: show steps a second, too.
    """

    def __init__(self, what: str, total: int | None, *, with_rate: bool = False) -> None:
        self.what, self.total, self.done = what, total, 0
        self._with_rate = with_rate
        self._stream = _stream()
        self._told = self._since = time.monotonic()
        self._before = 0
        self._doing = ""
        self._bar: Any = None
        if self.is_live:
            from tqdm import tqdm

            # refreshed once a step: a thread would disturb timings
            self._bar = tqdm(
                desc=what,
                total=total,
                file=self._stream,
                leave=False,
                dynamic_ncols=True,
                bar_format=_LIVE if total is not None else _LIVE_WITHOUT_TOTAL,
                mininterval=0,
            )
        elif self._stream is not None:
            _write(self._stream, f"clip-eval: {what if total is None else f'{total} {what}'}\n")

    @property
    def is_live(self) -> bool:
        """Whether there is a live line, as in a terminal."""
        return self._stream is not None and self._stream.isatty() and os.environ.get("TERM") != "dumb"

    def shares(self, descriptor: int) -> bool:
        """Whether another descriptor is the same file, so that lines would mix."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream is not None and os.path.sameopenfile(descriptor, self._stream.fileno())
        return False

    def doing(self, text: str) -> None:
        """Set the current activity."""
        if text != self._doing:
            self._doing = text
            self._show()

    def settle(self) -> None:
        """Start the estimate of the remaining time anew."""
        self._before, self._since = self.done, time.monotonic()

    def step(self) -> None:
        """Count one step."""
        self.reach(self.done + 1)

    def reach(self, done: int) -> None:
        """Set the number of steps done."""
        self.done = done
        self._show()

    def close(self) -> None:
        """Remove the live line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show(self) -> None:
        now = time.monotonic()
        done, elapsed_s = self.done - self._before, now - self._since
        left = "" if self.total is None else seconds_left(done, self.total - self._before, elapsed_s)
        if self._with_rate and done and elapsed_s:
            left = ", ".join(filter(None, (f"{done / elapsed_s:,.0f} a second", left)))
        if self._bar is not None:
            self._bar.n = self.done
            self._bar.set_description_str(self._doing or self.what, refresh=False)
            self._bar.set_postfix_str(left, refresh=False)
            with contextlib.suppress(OSError, ValueError):
                self._bar.refresh()
        elif self._stream is not None and now - self._told >= _EVERY_S:
            self._told = now
            count = f"{self.done}" if self.total is None else f"{self.done} of {self.total}"
            parts = [count, self._doing, left]
            _write(self._stream, f"clip-eval: {', '.join(part for part in parts if part)}\n")


def seconds_left(done: int, total: int, elapsed_s: float) -> str:
    """Return about how long the rest takes, in words; empty if unknown."""
    if done < max(total * _SURE_AFTER, 1) or done >= total:
        return ""
    left_s = elapsed_s / done * (total - done)
    return f"about {left_s / 60:.0f} min left" if left_s >= 90 else f"about {max(left_s, 1):.0f} s left"


def _stream() -> IO[str] | None:
    """The stderr of the command: this process's or an inherited one."""
    named = os.environ.get(_DESCRIPTOR)
    if named is None:
        return sys.stderr
    return _opened(named)


def _opened(named: str) -> IO[str] | None:
    if named not in _OPENED:
        try:
            _OPENED[named] = os.fdopen(int(named), "w", encoding="utf-8", errors="replace", closefd=False)
        except (OSError, ValueError):
            _OPENED[named] = None
    return _OPENED[named]


_OPENED: dict[str, IO[str] | None] = {}


def _write(stream: IO[str], text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # the stream is closed; continue
        stream.write(text)
        stream.flush()
