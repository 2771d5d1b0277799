"""Text for a terminal: widths in columns, lines that are not too long, and nothing that a terminal would obey."""

from __future__ import annotations

import unicodedata

__all__ = ["columns", "folded", "hanging", "visible"]

# After these a line may end: words end at a space, names of paths at the others.
_BREAKS = " /,_"


def columns(text: str) -> int:
    """Return how many columns of a terminal `text` takes (Unicode Standard Annex 11; marks take none)."""
    return len(text) if text.isascii() else sum(map(_character_columns, text))


def _character_columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def visible(text: str) -> str:
    """Return `text` with everything that a terminal would obey, or could not show, written as an escape."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or unicodedata.category(character) == "Zs" else ascii(character)[1:-1]
        for character in text
    )


def folded(text: str, width: int) -> list[str]:
    """Return `text` in lines of at most `width` columns, broken behind a separator where there is one.

    Joined together the lines are `text`: nothing is added or left out, so that a path can be put together again.
    """
    lines: list[str] = []
    start = 0
    while start < len(text):
        end = _end(text, start, width)
        lines.append(text[start:end])
        start = end
    return lines or [""]


def _end(text: str, start: int, width: int) -> int:
    """Return where the line that starts at `start` ends."""
    taken, separator = 0, start
    for place in range(start, len(text)):
        taken += _character_columns(text[place])
        if taken > width:
            # Half a line at least is filled, or a name of one separator early on would leave it nearly empty.
            end = separator if separator - start > width // 3 else place
            return max(end, start + 1)
        if text[place] in _BREAKS:
            separator = place + 1
    return len(text)


def hanging(head: str, text: str, width: int) -> str:
    """Return `head`, then `text` beside it, folded to `width` columns in all; what is folded hangs below its start."""
    indent = columns(head)
    lines = folded(text, max(width - indent, 20))
    return "\n".join([head + lines[0], *(" " * indent + line for line in lines[1:])])
