"""Whether records with different ids always have different paths."""

from __future__ import annotations

from collections.abc import Sequence

from clip_eval.paths.cleaning import fold
from clip_eval.paths.grammar import Segment

__all__ = ["identifies"]


def _stays(segment: Segment) -> bool:
    """Return whether the segment is never empty."""
    empty = segment.join({slot.name: "" for slot in segment.slots})
    return bool(empty.strip()) or any(slot.kind.required for slot in segment.slots)


def _begins_apart(segment: Segment, index: int, glue: frozenset[str]) -> bool:
    """Return whether slot `index` is followed by nothing, or by literal text that cannot continue its value."""
    for after in segment.slots[index + 1 :]:
        if not after.before or _outer(after.before, 0) in glue:
            return False
        if after.before_empty or after.kind.required:
            return True
        # a separator is left out with its empty field; what follows then must be apart too
    return not segment.tail or _outer(segment.tail, 0) not in glue


def _outer(literal: str, end: int) -> str:
    """Return the first (0) or last (-1) character of `literal` that file systems compare; a digit if there is none."""
    return (fold(literal) or "0")[end]


def _is_apart(segment: Segment, index: int) -> bool:
    slot = segment.slots[index]
    glue = slot.kind.identity
    if glue is None:
        return False
    if index == 0 and _begins_apart(segment, index, glue.after):
        return True
    ends_apart = index == 0 or _outer(slot.before, -1) not in glue.before
    return index + 1 == len(segment.slots) and ends_apart


def identifies(segments: Sequence[Segment]) -> bool:
    """Return True only if records with different identities have different paths, also after `fold`.

    That holds if the identity is at the start or end of a segment that always has the same place from the start or end
    of the path, and the literal text on its other side cannot be taken for a part of it.
    """
    for place, segment in enumerate(segments):
        fixed = all(map(_stays, segments[:place])) or all(map(_stays, segments[place + 1 :]))
        if fixed and any(_is_apart(segment, index) for index in range(len(segment.slots))):
            return True
    return False
