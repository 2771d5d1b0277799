"""The release gate for CLIP models: the functions `gate`, `record`, `evaluate`, `bench` and `embed` do what
the commands of these names do, and `render` what `report` does.

Each raises a kind of `ClipEvalError` for what a user can mend: one paragraph that says what, where and what to do.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from clip_eval.version import __version__

if TYPE_CHECKING:
    from clip_eval.api import bench, embed, evaluate, gate, record, render
    from clip_eval.errors import (
        CheckpointError,
        ClipEvalError,
        DatasetError,
        OutputError,
        PackError,
        ProcessError,
        UsageError,
    )

__all__ = [
    "CheckpointError",
    "ClipEvalError",
    "DatasetError",
    "OutputError",
    "PackError",
    "ProcessError",
    "UsageError",
    "__version__",
    "bench",
    "embed",
    "evaluate",
    "gate",
    "record",
    "render",
]


_COMMANDS = ("bench", "embed", "evaluate", "gate", "record", "render")


def __getattr__(name: str) -> Any:
    """Load what is asked for on first use: the plugin imports this package in every pytest run, which must stay
    light.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("clip_eval.api" if name in _COMMANDS else "clip_eval.errors"), name)


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *__all__})
