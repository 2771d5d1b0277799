"""Memory: what repeated calls leak, and the most that one call needs while it runs."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from pathlib import Path

import psutil

from clip_eval.throughput.clock import Call

__all__ = ["kept_mb", "peak_mb"]

_WARM_UPS = 3
_BLOCKS, _CALLS = 5, 4
_MB = 1e6

_PROCESS = Path("/proc/self")


def kept_mb(call: Call, device: str) -> float:
    """Return the MB that each call leaks: the least growth over a few blocks of calls, divided by the calls in a block.

    On a CPU it is the largest growth of pages touched, pages mapped and bytes that malloc has handed out, since
    free room in the heap hides growth from the first two. On CUDA it is what the allocator has handed out. 0 if memory
    shrinks.
    """
    reading = _reading(device)
    for _ in range(_WARM_UPS):
        call()
    gc.collect()
    gc.freeze()  # objects that exist already are not scanned again, so collecting after each block is quick
    try:
        grown = [_growth(call, reading) for _ in range(_BLOCKS)]
    finally:
        gc.unfreeze()
    return max(0.0, min(grown) / _CALLS / _MB)


def peak_mb(call: Call, device: str) -> float | None:
    """Return the peak MB of one call above what the process holds already; None if the system does not report it."""
    call()
    gc.collect()
    if device.startswith("cuda"):
        return _cuda_peak(call, device) / _MB
    if hasattr(psutil, "heap_trim"):
        psutil.heap_trim()  # else the call uses free room in the heap, which does not show
    try:
        (_PROCESS / "clear_refs").write_text("5", encoding="ascii")  # "5" resets the peak to what is held now
    except OSError:
        return None
    before, *_ = _held()
    call()
    return max(0, _largest() - before) / _MB


def _growth(call: Call, reading: Callable[[], list[int]]) -> int:
    """The bytes by which a block of calls makes the process grow."""
    gc.collect()
    before = reading()
    for _ in range(_CALLS):
        call()
    gc.collect()
    return max(now - then for now, then in zip(reading(), before, strict=True))


def _reading(device: str) -> Callable[[], list[int]]:
    """A function that reads the bytes held now."""
    if device.startswith("cuda"):
        import torch

        return lambda: [torch.cuda.memory_allocated(device)]
    return _held


def _held() -> list[int]:
    """Bytes of the pages touched, of those mapped, and of what malloc has handed out, if the system reports them."""
    pages = psutil.Process().memory_info()
    heap = sum(psutil.heap_info()[:2]) if hasattr(psutil, "heap_info") else 0
    return [pages.rss, getattr(pages, "data", 0), heap]


def _largest() -> int:
    """The most bytes that were resident since `clear_refs` was written. psutil does not know it."""
    text = (_PROCESS / "status").read_text(encoding="ascii")
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", text, re.MULTILINE)
    if peak is None:
        raise OSError("/proc/self/status has no VmHWM")
    return int(peak[1]) * 1024


def _cuda_peak(call: Call, device: str) -> int:
    import torch

    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device)) - before
