"""What times one call, and the state of the process in which it is timed.

On a CPU a subject is timed with one torch thread. With more, each parallel region waits for its slowest thread, and one
busy neighbour makes a small model a hundred times slower; with one, both cores of a loaded machine are as good as one.
Then the time that the call spent ready to run, in the queue for a core behind other processes, can be measured and
subtracted: it belongs to the neighbours. Time asleep or waiting for anything else is counted.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["Call", "Clock", "Stopwatch", "clock_of", "hold_heap", "torch_threads", "undisturbed"]

Call = Callable[[], object]
Stopwatch = Callable[[Call], float]

_QUEUE = "/proc/thread-self/schedstat"
"""Nanoseconds on a core, nanoseconds in the queue, turns: since Linux 2.6.24."""

_NO_MMAP, _NO_TRIM = (-4, 0), (-1, 2**31 - 1)  # M_MMAP_MAX, M_TRIM_THRESHOLD
_OTHERS = 0.01  # share of a call on other threads of this process, above which part of the queue is its own doing


@dataclass(frozen=True, slots=True)
class Clock:
    """A stopwatch and what it measures.

    Attributes:
        seconds: returns the seconds that a call takes.
        name: what is counted, for reports.
    """

    seconds: Stopwatch
    name: str


def clock_of(device: str) -> Clock:
    """Return the clock for calls on `device` by this thread: events of the stream on CUDA, else the wall clock.

    The time that the thread waited in the queue for a core is subtracted, if Linux reports it.
    """
    if device.startswith("cuda"):
        return Clock(_events(device), "CUDA events")
    queue = _open_queue()
    if queue is None:
        return Clock(_wall_clock, "wall clock")
    return Clock(_off_the_queue(queue), "wall clock without the queue for a core")


@contextlib.contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Set the number of torch's threads in the block, and keep the heap (`hold_heap`)."""
    import torch

    hold_heap()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def hold_heap() -> bool:
    """Stop malloc from returning memory to the system, for good; return whether the C library supports that.

    Depending on what was freed before, glibc returns large blocks at each free and maps them again at the next call:
    some thousand page faults a call, or none, which is a tenth of the time of a small model.

    Source: mallopt(3).
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(*setting) == 1 for setting in (_NO_MMAP, _NO_TRIM))


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage collection, tracer or profiler in the block: they would slow one side more than the other."""
    collecting, tracer, profiler = gc.isenabled(), sys.gettrace(), sys.getprofile()
    gc.disable()
    sys.settrace(None)
    sys.setprofile(None)
    try:
        yield
    finally:
        sys.settrace(tracer)
        sys.setprofile(profiler)
        if collecting:
            gc.enable()


def _wall_clock(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _off_the_queue(queued_ns: Callable[[], int]) -> Stopwatch:
    """Wall clock minus the time in the queue; the whole wall clock if other threads of this process computed too."""
    own = threading.get_ident()

    def seconds(call: Call) -> float:
        if threading.get_ident() != own:
            raise RuntimeError("the clock was made by another thread and reads that thread's queue only")
        others_s = time.process_time() - time.thread_time()
        start = time.perf_counter()
        queue_ns = queued_ns()  # inside of the wall clock: a turn in the queue between the readings would count twice
        call()
        queue_s = (queued_ns() - queue_ns) / 1e9
        wall_s = time.perf_counter() - start
        others_s = time.process_time() - time.thread_time() - others_s
        return wall_s if others_s > _OTHERS * wall_s else wall_s - queue_s

    return seconds


def _open_queue() -> Callable[[], int] | None:
    """A function that reads this thread's nanoseconds in the queue; None if the system does not report them."""
    try:
        # Held open: opening takes ten times as long as reading, and "self" is the thread that opened.
        descriptor = os.open(_QUEUE, os.O_RDONLY)
    except OSError:
        return None
    ran_ns, _, _ = os.pread(descriptor, 64, 0).split()
    if int(ran_ns) == 0:  # a kernel without accounting writes zeros
        os.close(descriptor)
        return None
    return lambda: int(os.pread(descriptor, 64, 0).split()[1])


def _events(device: str) -> Stopwatch:
    import torch

    def seconds(call: Call) -> float:
        with torch.cuda.device(device):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call] # torch's
            torch.cuda.synchronize()
            start.record()
            call()
            end.record()
            end.synchronize()
            return float(start.elapsed_time(end)) / 1000

    return seconds
