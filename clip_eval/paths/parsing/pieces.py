"""Texts as they are in a path: the form in which a record can be read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clip_eval.paths.cleaning import ELLIPSIS, narrow
from clip_eval.paths.errors import PathError
from clip_eval.paths.grammar import Segment, Slot
from clip_eval.paths.parsing.segment_reader import BLANK
from clip_eval.paths.render import Name, join_names, place

__all__ = ["Pieces", "renders", "standing_texts"]


def _pieces(segment: Segment, name: Name) -> dict[str, list[str]]:
    """Return the part of `name` for each slot, by field, in order.

    `finish` strips, then replaces single characters, then may add a suffix.
    """
    joined = segment.join(name.texts)
    lost = len(joined) - len(joined.lstrip())
    size = len(joined.strip())
    pieces: dict[str, list[str]] = {}
    end = -lost
    for slot in segment.slots:
        text = name.texts[slot.name]
        start = end + len(slot.before if text else slot.before_empty)
        end = start + len(text)
        stop = len(name.text) if end >= size > start else end
        piece = name.text[max(start, 0) : max(stop, 0)]
        pieces.setdefault(slot.name, []).append(piece or (BLANK if text else ""))
    return pieces


def merge(pieces: Sequence[str]) -> str:
    """Return the text that is in a path as each of `pieces`, stripped or shortened in some of them."""
    if len(set(pieces)) == 1:
        return pieces[0]
    if not any(piece.strip() for piece in pieces):
        return max(pieces, key=lambda piece: (len(piece), piece != BLANK))
    lead = max((piece[: len(piece) - len(piece.lstrip())] for piece in pieces), key=len)
    trail = max((piece[len(piece.rstrip()) :] for piece in pieces), key=len)
    return lead + _with_all_dots([piece.strip() for piece in pieces]) + trail


def _with_all_dots(cores: Sequence[str]) -> str:
    """Return the longest of texts with a common beginning, with a plain dot where any has one: `finish` widens some."""
    core = max(cores, key=len)
    dots = {index for other in cores for index, character in enumerate(other) if character == "."}
    return "".join("." if index in dots else character for index, character in enumerate(core))


class Pieces:
    """The parts of a path's names for each field, name by name. A field that occurs twice has one text.

    That text may be stripped at the edge of one name, shortened in another, and have wide dots in a third.
    """

    def __init__(self) -> None:
        # By field: its different pieces in order, with their counts.
        self._counts: dict[str, dict[str, int]] = {}

    def agree(self, slots: Sequence[Slot], texts: Sequence[str]) -> bool:
        """Return whether each text can be that of its field, given the pieces."""
        for slot, text in zip(slots, texts, strict=True):
            if any(not _may_be_one(text, other) for other in self._counts.get(slot.name, ())):
                return False
        return True

    def add(self, slots: Sequence[Slot], texts: Sequence[str]) -> None:
        """Add the texts of one segment."""
        for slot, text in zip(slots, texts, strict=True):
            counts = self._counts.setdefault(slot.name, {})
            counts[text] = counts.get(text, 0) + 1

    def remove(self, slots: Sequence[Slot], texts: Sequence[str]) -> None:
        """Remove the texts added last."""
        for slot, text in zip(slots, texts, strict=True):
            counts = self._counts[slot.name]
            counts[text] -= 1
            if not counts[text]:
                del counts[text]

    def merged(self) -> dict[str, str]:
        """Return one text for each field."""
        return {name: merge(tuple(counts)) for name, counts in self._counts.items()}


def _may_be_one(text: str, other: str) -> bool:
    core, other_core = narrow(text.strip()), narrow(other.strip())
    if core == other_core:
        return True
    return _is_cut(core, other_core) or _is_cut(other_core, core)


def _is_cut(short: str, whole: str) -> bool:
    return short.endswith(ELLIPSIS) and whole.startswith(short[: -len(ELLIPSIS)])


def renders(segments: Sequence[Segment], texts: Mapping[str, str], dot: str, path: str) -> bool:
    """Return whether `texts` render to `path`."""
    try:
        return join_names(place(segments, texts, dot), dot) == path
    except PathError:
        return False


def standing_texts(segments: Sequence[Segment], texts: Mapping[str, str], dot: str) -> dict[str, str]:
    """Return the texts as they are in the path of `texts`, if they render to the same path; else `texts` themselves.

    Raises:
        RecordError, LengthError: as `place` does.
    """
    names = place(segments, texts, dot)
    path = join_names(names, dot)
    by_index = {name.segment: name for name in names}
    pieces: dict[str, list[str]] = {field: [] for field in texts}
    for index, segment in enumerate(segments):
        if index in by_index:
            for field, parts in _pieces(segment, by_index[index]).items():
                pieces[field] += parts
        else:
            for slot in segment.slots:
                pieces[slot.name].append("")
    merged = {field: merge(parts) for field, parts in pieces.items()}
    if not renders(segments, merged, dot, path):
        merged = {field: merged[field] if len(set(pieces[field])) == 1 else texts[field] for field in texts}
    if not renders(
        segments, merged, dot, path
    ):  # cut texts would leave different room for a text that is whole elsewhere
        merged = dict(texts)
    for field in [field for field, text in merged.items() if text.isspace()]:
        without = {**merged, field: ""}
        if renders(segments, without, dot, path):
            merged = without
    return merged
