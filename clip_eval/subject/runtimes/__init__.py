"""The runtimes, one file each. Only transformers has the capabilities of `clip_eval.subject.runtime`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from clip_eval.subject.runtime import Runtime
from clip_eval.subject.runtimes.transformers import Subject

__all__ = ["RUNTIMES"]

RUNTIMES: Mapping[str, Callable[..., Runtime]] = {"transformers": Subject}
"""By name, what opens a checkpoint: called with checkpoint, dtype, device and attention, and the keyword `calls`."""
