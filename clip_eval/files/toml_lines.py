"""Where a key stands in a TOML text, which neither tomllib nor tomlkit says.

The line is found by parsing beginnings of the text: the shortest that has the key ends with the statement that gives
it its value. Quoted and dotted keys, inline tables and values over several lines need no rule of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clip_eval.files.untrusted import parse_toml

__all__ = ["line_of"]

_MOST_BYTES = 100_000  # read a hundred times in two seconds
_MOST_TRIES = 100


def line_of(text: str, path: Sequence[str | int]) -> int | None:
    """Return the line, from 1, where the statement begins that first gives a key a value.

    Args:
        text: a TOML text that `parse_toml` takes.
        path: keys of tables and places of entries, such as ("accepted", 1, "reason").

    Returns:
        None where the text does not have the key, or is too long to look for it.
    """
    lines = text.splitlines(keepends=True)
    if len(text) > _MOST_BYTES or not _has(text, path):
        return None
    # The first `low` lines are a text without the key; from `gap` lines on it is there, or half of its value.
    low, gap = 0, len(lines)
    for _ in range(_MOST_TRIES):
        if gap - low < 2:
            return low + 1
        middle = end = (low + gap) // 2
        while end < gap and (found := _has("".join(lines[:end]), path)) is None:
            end += 1
        if end == gap or found:
            gap = middle if end == gap else end
        else:
            low = end
    return None


def _has(text: str, path: Sequence[str | int]) -> bool | None:
    """Whether a text has a key; None if it ends inside of a statement."""
    try:
        value: Any = parse_toml(text)
    except ValueError:
        return None
    try:
        for step in path:
            value = value[step]
    except (KeyError, IndexError, TypeError):
        return False
    return True
