"""The outcome of a call: what it returned, or the exception that it was refused with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["REFUSALS", "Answer", "ask"]


REFUSALS: tuple[type[Exception], ...] = (TypeError, ValueError, IndexError, RuntimeError)
"""The exceptions that refuse a call: Python's for a wrong argument, torch's for one that does not fit."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call returned, or the exception that it was refused with."""

    value: Any = None
    refusal: Exception | None = None

    @property
    def outcome(self) -> str:
        """In words."""
        if self.refusal is None:
            return f"returns {type(self.value).__name__}"
        return f"raises {type(self.refusal).__name__}: {_first_line(self.refusal)}"


def ask(call: Callable[[], Any], *more: type[Exception]) -> Answer:
    """Return the outcome of a call. Exceptions beyond `REFUSALS` and `more`, and out-of-memory errors, propagate."""
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
