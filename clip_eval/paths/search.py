"""Depth-first search without recursion, so that a long template cannot exhaust the stack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

__all__ = ["sequences"]

Choice = TypeVar("Choice")


def sequences(depth: int, choices: Callable[[list[Choice]], Iterator[Choice]]) -> Iterator[tuple[Choice, ...]]:
    """Yield every sequence of `depth` choices; `choices` takes those made so far and yields those that can follow."""
    made: list[Choice] = []
    if depth == 0:
        yield ()
        return
    open_choices = [choices(made)]
    while open_choices:
        for choice in open_choices[-1]:
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
