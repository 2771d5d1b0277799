"""Everything in a model's answer, by path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clip_eval.verdict.compare import to_array

__all__ = ["as_tuple", "described", "parts", "present_fields", "same", "structure", "tensors_of"]


def parts(output: Any, name: str = "") -> dict[str, Any]:
    """Return an answer and everything in it by path, in order: tensors as they are, everything else as text.

    A container is described by its type and keys or length; None is "None".
    """
    if hasattr(output, "detach"):
        return {name: output}
    if hasattr(output, "items"):
        inside = [(f"{name}.{key}", item) for key, item in output.items()]
        own = f"{type(output).__name__}: {', '.join(output)}"
    elif isinstance(output, (tuple, list)):
        inside = [(f"{name}[{index}]", item) for index, item in enumerate(output)]
        own = f"{type(output).__name__} of {len(output)}"
    else:
        return {name: repr(output)}
    return {name: own, **{path: part for inner, item in inside for path, part in parts(item, inner).items()}}


def same(observed: Any, expected: Any) -> bool:
    """Return whether two answers have the same types, keys and shapes everywhere, and bitwise equal tensors."""
    observed_parts, expected_parts = parts(observed), parts(expected)
    if structure(observed_parts) != structure(expected_parts):
        return False
    tensors = {path: part for path, part in expected_parts.items() if hasattr(part, "detach")}
    return all(bool((to_array(observed_parts[path]) == to_array(part)).all()) for path, part in tensors.items())


def as_tuple(value: Any) -> Any:
    """Return the fields of an output as nested tuples, without transformers' own `to_tuple`."""
    return tuple(as_tuple(item) for item in value.values()) if hasattr(value, "items") else value


def structure(found: Mapping[str, Any]) -> dict[str, str]:
    """Return path to description for the result of `parts`: dtype and shape of a tensor, else its text."""
    return {path: described(found, path) for path in found}


def described(found: Mapping[str, Any], path: str) -> str:
    """Return dtype and shape of the tensor at a path, else its text; "nothing" if there is none."""
    part = found.get(path, "nothing")
    return f"{part.dtype} {tuple(part.shape)}" if hasattr(part, "detach") else str(part)


def tensors_of(output: Any, name: str) -> dict[str, Any]:
    """Return every tensor of a model output by dotted name: of nested outputs and tuples too, in order.

    Args:
        output: a model output, a tuple, a tensor, or None, which has none.
        name: what the output itself is called.
    """
    if hasattr(output, "detach"):
        return {name: output}
    items = output.items() if hasattr(output, "items") else enumerate(output) if isinstance(output, tuple) else ()
    return {key: tensor for part, item in items for key, tensor in tensors_of(item, f"{name}.{part}").items()}


def present_fields(output: Any) -> dict[str, Any]:
    """Return the fields of a model output that are not None, by name and in order."""
    return dict(output.items())
