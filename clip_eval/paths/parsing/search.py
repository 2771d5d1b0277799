"""Bounded depth-first search without recursion, so that a long template cannot exhaust the stack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from clip_eval.paths.errors import SearchError

__all__ = ["Effort", "sequences"]

Choice = TypeVar("Choice")

# About a second. Real paths take a thousandth of it.
_LIMIT = 300_000


class Effort:
    """The steps of a search since its last result."""

    __slots__ = ("_left", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._left = _LIMIT

    def spend(self, steps: int = 1) -> None:
        """Count steps.

        Raises:
            SearchError: there were too many.
        """
        self._left -= steps
        if self._left < 0:
            raise SearchError(f"{self._path!r} can be read in too many ways to try them all; more given values help")

    def renew(self) -> None:
        """Reset the count: there was a result."""
        self._left = _LIMIT


def sequences(
    depth: int, choices: Callable[[list[Choice]], Iterator[Choice]], effort: Effort
) -> Iterator[tuple[Choice, ...]]:
    """Yield every sequence of `depth` choices; `choices` takes those made so far and yields those that can follow.

    Raises:
        SearchError: when the effort is spent.
    """
    made: list[Choice] = []
    if depth == 0:
        yield ()
        return
    open_choices = [choices(made)]
    while open_choices:
        for choice in open_choices[-1]:
            effort.spend()
            made.append(choice)
            if len(made) < depth:
                open_choices.append(choices(made))
                break
            yield tuple(made)
            made.pop()
        else:
            open_choices.pop()
            if made:
                made.pop()
