"""How CLIP is called: the documented parameters in order, what became of a call, and whether two answers are the same.

Parameters and their order are those that transformers 4.57 documents
(https://huggingface.co/docs/transformers/v4.57.6/en/model_doc/clip), and on which callers by position rely.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["REFUSALS", "Answer", "ask"]


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


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else "no message"
