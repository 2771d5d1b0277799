"""How CLIP is called: the documented parameters in order, what became of a call, and whether two answers are the same.

Parameters and their order are those that transformers 4.57 documents
(https://huggingface.co/docs/transformers/v4.57.6/en/model_doc/clip), and on which callers by position rely.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from clip_eval.compare import Compare, to_array

__all__ = ["INPUTS", "PARAMETERS", "REFUSALS", "Answer", "as_tuple", "ask", "expect_same", "parts", "same"]

_TEXT = ("input_ids", "attention_mask", "position_ids", "output_attentions", "output_hidden_states")
_IMAGE = ("pixel_values", "output_attentions", "output_hidden_states", "interpolate_pos_encoding")

PARAMETERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "CLIPModel": (
            "input_ids",
            "pixel_values",
            "attention_mask",
            "position_ids",
            "return_loss",
            "output_attentions",
            "output_hidden_states",
            "interpolate_pos_encoding",
        ),
        "CLIPTextModel": _TEXT,
        "CLIPVisionModel": _IMAGE,
        "CLIPTextModelWithProjection": _TEXT,
        "CLIPVisionModelWithProjection": _IMAGE,
        "CLIPForImageClassification": ("pixel_values", "labels", "output_attentions", "output_hidden_states"),
        "get_text_features": _TEXT[:3],
        "get_image_features": ("pixel_values", "interpolate_pos_encoding"),
    }
)
"""Parameters by entry point, in the order in which they may be given by position."""

INPUTS: Mapping[str, int] = MappingProxyType(
    {
        "CLIPModel": 5,
        "CLIPTextModel": 3,
        "CLIPVisionModel": 1,
        "CLIPTextModelWithProjection": 3,
        "CLIPVisionModelWithProjection": 1,
        "CLIPForImageClassification": 2,
        "get_text_features": 3,
        "get_image_features": 2,
    }
)
"""How many of them come before the options that say what else is to be returned."""

REFUSALS: tuple[type[Exception], ...] = (TypeError, ValueError, IndexError, RuntimeError)
"""What a call is refused with: Python's own kinds for a wrong argument, and torch's for one that does not fit."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a call: what it returned, or the exception that it was refused with."""

    value: Any = None
    refusal: Exception | None = None

    @property
    def outcome(self) -> str:
        """In words."""
        if self.refusal is None:
            return f"returns {type(self.value).__name__}"
        return f"raises {type(self.refusal).__name__}: {_first_line(self.refusal)}"


def ask(call: Callable[[], Any], *more: type[Exception]) -> Answer:
    """Return what became of a call. Exceptions other than `REFUSALS` and `more` go through; a lack of memory too."""
    refusals: tuple[type[Exception], ...] = (*REFUSALS, *more)
    try:
        return Answer(value=call())
    except refusals as refusal:
        if type(refusal).__name__ == "OutOfMemoryError":
            raise
        return Answer(refusal=refusal)


def parts(output: Any, name: str = "") -> dict[str, Any]:
    """Return an answer and everything in it by path, in order: tensors as they are, all else as text.

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
    """Say whether two answers have the same types, keys and shapes everywhere, and every bit of every tensor."""
    found, wanted = parts(observed), parts(expected)
    if _structure(found) != _structure(wanted):
        return False
    tensors = {path: part for path, part in wanted.items() if hasattr(part, "detach")}
    return all(bool((to_array(found[path]) == to_array(part)).all()) for path, part in tensors.items())


def expect_same(compare: Compare, observed: Any, expected: Any, name: str) -> None:
    """Demand that an answer has the types, keys and shapes of another everywhere, and every bit of every tensor."""
    __tracebackhide__ = True
    found, wanted = parts(observed), parts(expected)
    if _structure(found) != _structure(wanted):
        path = next(path for path in {**wanted, **found} if _told(found, path) != _told(wanted, path))
        compare.fail(_told(found, path), _told(wanted, path), name=f"{name}{path}")
    tensors = [path for path, part in wanted.items() if hasattr(part, "detach")]
    if not tensors:
        compare.fail("no tensor", "at least one tensor to compare", name=name)
    for path in tensors:
        compare.equal(found[path], wanted[path], name=f"{name}{path}")


def as_tuple(value: Any) -> Any:
    """Return the fields of an output as nested tuples, made without the library's own method."""
    return tuple(as_tuple(item) for item in value.values()) if hasattr(value, "items") else value


def _structure(found: Mapping[str, Any]) -> dict[str, str]:
    return {path: _told(found, path) for path in found}


def _told(found: Mapping[str, Any], path: str) -> str:
    part = found.get(path, "nothing")
    return f"{part.dtype} {tuple(part.shape)}" if hasattr(part, "detach") else str(part)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else "no message"
