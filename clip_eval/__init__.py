"""The release gate for CLIP models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clip_eval.api import gate

__all__ = ["__version__", "gate"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load `gate` on first use: the plugin imports this package in every pytest run, which must stay light."""
    if name == "gate":
        from clip_eval.api import gate

        return gate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
