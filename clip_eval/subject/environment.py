"""Where a run took place: versions, machine, and the settings that change numbers."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from clip_eval.subject.candidate import Candidate
from clip_eval.version import __version__

__all__ = ["attention_used", "cores", "cpu_model", "cpu_name", "provenance"]


def provenance(candidate: Candidate) -> dict[str, Any]:
    """Return versions, machine and settings of a run, as plain values that survive process boundaries.

    torch's settings are read only if this process has loaded it: an xdist controller has not.
    """
    return {**_versions(), **_machine(sys.modules.get("torch"), candidate)}


def attention_used(candidate: Candidate) -> str | None:
    """Return the attention implementation that the model really uses; None where it was not loaded."""
    runtime = vars(candidate).get("runtime")  # the cached property, where it was made
    return None if runtime is None else runtime.attention_used


def _versions() -> dict[str, str | None]:
    names = {
        "torch": "torch",
        "transformers": "transformers",
        "tokenizers": "tokenizers",
        "pillow": "pillow",
        "numpy": "numpy",
        "safetensors": "safetensors",
        "huggingface_hub": "huggingface_hub",
    }
    return {
        "clip_eval": __version__,
        "python": platform.python_version(),
        **{key: _version(name) for key, name in names.items()},
    }


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _machine(torch: Any, candidate: Candidate) -> dict[str, Any]:
    from clip_eval.probes.batches import SEED

    device = candidate.device
    on_gpu = torch is not None and device.startswith("cuda") and candidate.device_problem is None
    return {
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
        "threads": None if torch is None else torch.get_num_threads(),
        "tf32": None
        if torch is None
        else {
            "products": bool(torch.backends.cuda.matmul.allow_tf32),
            "convolutions": bool(torch.backends.cudnn.allow_tf32),
        },
        "seed": SEED,
        "git_revision": _git_revision(candidate.checkpoint.path),
    }


def _git_revision(directory: Path) -> str | None:
    """The revision of the git checkout that the checkpoint lies in, where it does."""
    command = ["git", "-C", str(directory), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


_CPU_INFO = Path("/proc/cpuinfo")


def cpu_name() -> str:
    """Return the processor's name."""
    return _cpu_info().get("model name") or platform.processor() or platform.machine()


def cpu_model() -> str:
    """Return the processor's name with family, model and stepping: hypervisors give several models one name."""
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
    """/proc/cpuinfo of the first core; empty on other systems than Linux."""
    try:
        first, _, _ = _CPU_INFO.read_text(encoding="utf-8").partition("\n\n")
    except OSError:
        return {}
    lines = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}
