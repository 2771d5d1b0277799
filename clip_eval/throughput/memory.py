"""Memory: what repeated calls keep, and the most that one call needs while it runs."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from clip_eval.throughput.clock import Call

__all__ = ["kept_mb", "peak_mb"]

_WARM_UPS = 3
_BLOCKS, _CALLS = 5, 4
_MB = 1e6

_PROCESS = Path("/proc/self")


def kept_mb(call: Call, device: str) -> float:
    """Return the MB that each call keeps for good: the least growth of a few blocks of calls, over their number.

    On a CPU that is the process's memory, of which the largest growth counts: of the pages it has touched, of those it
    has asked for, or of what malloc has handed out, since a heap with room in it hides the others. On CUDA it is what
    the allocator has handed out. 0 where memory shrinks.
    """
    reading = _reading(device)
    for _ in range(_WARM_UPS):
        call()
    gc.collect()
    gc.freeze()  # what is there already is not looked at again: collecting after each block is quick then
    try:
        grown = [_growth(call, reading) for _ in range(_BLOCKS)]
    finally:
        gc.unfreeze()
    return max(0.0, min(grown) / _CALLS / _MB)


def peak_mb(call: Call, device: str) -> float | None:
    """Return the most MB that one call needs above what the process holds already; None where no system says it."""
    call()
    gc.collect()
    if device.startswith("cuda"):
        return _cuda_peak(call, device) / _MB
    _give_back()
    try:
        (_PROCESS / "clear_refs").write_text("5", encoding="ascii")  # "5" sets the peak back to what is held now
    except OSError:
        return None
    before = _status("VmRSS")
    call()
    return max(0, _status("VmHWM") - before) / _MB


def _give_back() -> None:
    """Let the heap give back what it holds and does not use, or a call would find room enough in it; malloc_trim(3)."""
    if sys.platform.startswith("linux") and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def _growth(call: Call, reading: Callable[[], list[int]]) -> int:
    """The bytes by which a block of calls makes the process grow."""
    gc.collect()
    before = reading()
    for _ in range(_CALLS):
        call()
    gc.collect()
    return max(now - then for now, then in zip(reading(), before, strict=True))


def _reading(device: str) -> Callable[[], list[int]]:
    """What reads the bytes that are held now."""
    if device.startswith("cuda"):
        import torch

        return lambda: [torch.cuda.memory_allocated(device)]
    if (_PROCESS / "statm").exists():
        return _pages
    return _largest_so_far


def _pages() -> list[int]:
    import resource

    fields = (_PROCESS / "statm").read_text(encoding="ascii").split()  # size resident shared text lib data dirty
    page = resource.getpagesize()
    return [int(fields[1]) * page, int(fields[5]) * page, *_handed_out()]


class _MallInfo(ctypes.Structure):
    """The struct mallinfo2 of glibc 2.33 and later, mallinfo(3)."""

    _fields_: ClassVar = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
        )
    ]  # fmt: skip


def _handed_out() -> list[int]:
    """The bytes that malloc has handed out and not got back, where the C library says it."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return []
    mallinfo.restype = _MallInfo
    found = mallinfo()
    return [int(found.uordblks) + int(found.hblkhd)]


def _largest_so_far() -> list[int]:
    """Where there is no /proc: the largest resident size so far, which a leak moves as well."""
    with contextlib.suppress(ImportError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit]
    raise NotImplementedError("this system does not say how much memory a process holds")


def _status(field: str) -> int:
    """A field of /proc/self/status in bytes."""
    text = (_PROCESS / "status").read_text(encoding="ascii")
    found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    if found is None:
        raise OSError(f"/proc/self/status has no {field}")
    return int(found[1]) * 1024


def _cuda_peak(call: Call, device: str) -> int:
    import torch

    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device)) - before
