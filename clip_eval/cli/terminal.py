"""Text for a terminal: widths in columns, folding, and escapes for control characters."""

from __future__ import annotations

import unicodedata

__all__ = ["columns", "folded", "hanging", "visible"]

# A line may end after these: at a space between words, at the others in paths.
_BREAKS = " /,_"


def columns(text: str) -> int:
    """Return the width of `text` in terminal columns."""
    if text.isascii() and text.isprintable():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def visible(text: str) -> str:
    """Return `text` with control and unprintable characters as escapes."""
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
        line = _fitting(text[start : start + 4 * width], width)
        # Separators in the first third are ignored: the line would be nearly empty.
        end = 1 + max(line.rfind(mark) for mark in _BREAKS)
        if width // 3 < end and start + len(line) < len(text):
            line = line[:end]
        lines.append(line)
        start += len(line)
    return lines or [""]


def _fitting(text: str, width: int) -> str:
    """The beginning of `text` that fits into `width` columns, one character at least."""
    if columns(text) <= width:
        return text
    end = 1
    while columns(text[: end + 1]) <= width:  # not the sum of its characters: some are joined
        end += 1
    return text[:end]


def hanging(head: str, text: str, width: int) -> str:
    """Return `head`, then `text` beside it, folded to `width` columns in all; what is folded hangs below its start."""
    indent = columns(head)
    lines = folded(text, max(width - indent, 20))
    return "\n".join([head + lines[0], *(" " * indent + line for line in lines[1:])])
