"""The machine, as far as speeds depend on it: what must be equal before two ratios may be compared."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

__all__ = ["cores", "cpu_model", "cpu_name"]

_CPU_INFO = Path("/proc/cpuinfo")


def cpu_name() -> str:
    """Return the processor's name for people."""
    return _cpu_info().get("model name") or platform.processor() or platform.machine()


def cpu_model() -> str:
    """Return the processor's name with family, model and stepping: hypervisors give several of them one name."""
    info = _cpu_info()
    numbers = "/".join(info.get(key, "?") for key in ("cpu family", "model", "stepping"))
    return f"{cpu_name()} ({numbers})" if info else cpu_name()


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _cpu_info() -> dict[str, str]:
    """What Linux says of the first core; empty elsewhere."""
    try:
        first, _, _ = _CPU_INFO.read_text(encoding="utf-8").partition("\n\n")
    except OSError:
        return {}
    lines = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}
