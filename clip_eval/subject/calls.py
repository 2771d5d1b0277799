"""Calls of a subject as they were made, kept so that a script can repeat one that failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["MOST_CALLS", "Call", "kept"]

MOST_CALLS = 16
"""How many of the last calls are kept; enough for the check that runs."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call.

    Attributes:
        model_class: the class that was called.
        method: "forward" or the name of a method.
        arguments: by position, tensors as they were before the call.
        keywords: by name, the same.
        attention: an implementation other than the subject's; None for its own.
        gradients: whether it was recorded for differentiation.
        answer: what it returned.
    """

    model_class: str
    method: str
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    attention: str | None
    gradients: bool
    answer: Any


def kept(value: Any) -> Any:
    """Return a copy of a tensor with its strides, safe from later changes in place; anything else as it is."""
    if not hasattr(value, "detach"):
        return value
    tensor = value.detach()
    copy = tensor.new_empty_strided(tensor.shape, tensor.stride()).copy_(tensor)
    return copy.requires_grad_(value.requires_grad)
