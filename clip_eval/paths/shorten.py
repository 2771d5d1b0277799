"""Shorten the free texts of a segment that is too long.

First whole tags are dropped from the end, all but the first. Then the longest texts are cut between graphemes, to a
common length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clip_eval.paths.cleaning import ELLIPSIS, cut, finish, head_length, size_bytes
from clip_eval.paths.errors import LengthError
from clip_eval.paths.grammar import Segment, Slot

__all__ = ["shorten"]


def _level_bytes(sizes_bytes: Sequence[int], budget_bytes: int) -> int:
    """Return the largest length such that the sizes, each cut to it, sum to at most the budget."""
    budget_left = budget_bytes
    for index, size in enumerate(sorted(sizes_bytes)):
        share = budget_left // (len(sizes_bytes) - index)
        if size > share:
            return share
        budget_left -= size
    return max(sizes_bytes)


def _drop_items(text: str, limit_bytes: int, separator: str) -> str:
    """Return the first items of `text` that fit in `limit_bytes` with an ellipsis, at least one."""
    end = text.rfind(separator, 1, head_length(text, limit_bytes - size_bytes(ELLIPSIS)) + 1)
    if end < 0:
        end = text.find(separator, 1)
    return text[:end].rstrip() + ELLIPSIS if end > 0 else text


def _shorter(slots: Sequence[Slot], texts: Mapping[str, str], over_bytes: int, by_items: bool) -> dict[str, str]:
    """Return `texts` with those of `slots` shortened by `over_bytes` in total, or as far as possible."""
    sizes = [size_bytes(texts[slot.name]) for slot in slots]
    level = _level_bytes(sizes, sum(sizes) - over_bytes)
    result = dict(texts)
    for slot, size in zip(slots, sizes, strict=True):
        if size > level:
            text = texts[slot.name]
            text = _drop_items(text, level, slot.kind.separator) if by_items else cut(text, level)
            if size_bytes(text) < size:
                result[slot.name] = text
    return result


def shorten(segment: Segment, texts: Mapping[str, str], limit_bytes: int) -> Mapping[str, str]:
    """Return `texts` with which `segment` fits in `limit_bytes`; fields that are not free are never changed.

    Raises:
        LengthError: shortening the free texts is not enough.
    """
    free = [slot for slot in segment.slots if slot.kind.free and texts[slot.name]]
    lists = [slot for slot in free if slot.kind.separator]
    for slots, by_items in ((lists, True), (free, False)):
        while slots and (over_bytes := size_bytes(finish(segment.join(texts))) - limit_bytes) > 0:
            shorter = _shorter(slots, texts, over_bytes, by_items)
            if shorter == texts:
                break
            texts = shorter
    name = finish(segment.join(texts))
    if size_bytes(name) > limit_bytes:
        what = f"a segment has {size_bytes(name)} bytes where all that can be was shortened; {limit_bytes} are allowed"
        raise LengthError(f"{what}: {name!r}")
    return texts
