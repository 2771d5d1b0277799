"""Where a run took place: versions, machine, and the settings that change numbers."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from clip_eval import __version__
from clip_eval.machine import cpu_name
from clip_eval.session import Session

__all__ = ["facts"]


def facts(session: Session) -> dict[str, Any]:
    """Return provenance and the attention implementation really used, as plain values that survive process boundaries.

    torch is asked only where this process has loaded it already: an xdist controller has not.
    """
    torch = sys.modules.get("torch")
    return {"provenance": {**_versions(), **_machine(torch, session)}, "attention": _attention(session)}


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


def _machine(torch: Any, session: Session) -> dict[str, Any]:
    from clip_eval.probes import SEED

    device = session.settings.device
    on_gpu = torch is not None and device.startswith("cuda") and session.device_problem is None
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
        "git_revision": _git_revision(session.checkpoint.path),
    }


def _git_revision(directory: Path) -> str | None:
    """The revision of the git checkout that the checkpoint lies in, where it does."""
    command = ["git", "-C", str(directory), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _attention(session: Session) -> str | None:
    loaded = session.__dict__.get("clip")  # the cached property, where it was made
    return None if loaded is None or not session.subject.is_loaded else loaded.attention
