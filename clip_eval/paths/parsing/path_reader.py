"""From a path back to the records that render to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, product
from typing import NamedTuple

from clip_eval.paths.cleaning import (
    ELLIPSIS,
    SEGMENT_BYTES,
    clean,
    finish,
    has_clean_characters,
    narrow,
    size_bytes,
    unfinished,
)
from clip_eval.paths.errors import LengthError, MismatchError
from clip_eval.paths.grammar import Segment
from clip_eval.paths.parsing.pieces import Pieces, renders, standing_texts
from clip_eval.paths.parsing.search import Effort
from clip_eval.paths.parsing.segment_reader import BLANK, Known, Reading, Settled
from clip_eval.paths.render import EXTENSIONS, Name, fitted

__all__ = ["PathReader", "split_extension"]

# a grapheme too long for any name: a text that continues with it is shortened to the part before it
_HUGE = "x" + "\u0301" * 255
_STEPS_OF_A_CANDIDATE = 20  # cost of rendering and reading a candidate again, in steps of the search


def split_extension(path: str, folder: bool) -> tuple[str, str]:
    """Return `path` without its extension, and the dotted extension: "" for a folder or an unknown extension."""
    stem, dot, extension = path.rpartition(".")
    return (path, "") if folder or extension not in EXTENSIONS else (stem, dot + extension)


class _Taken(NamedTuple):
    """One segment read: how many names it takes, none or one, and the texts of its slots."""

    names: int
    texts: tuple[str, ...]


class PathReader:
    """One path, read as the segments of a template with the known values of its record.

    Raises:
        MismatchError: the path cannot come from any template.
    """

    def __init__(self, segments: Sequence[Segment], path: str, known: Known, folder: bool) -> None:
        self.segments = segments
        self.path = path
        self.known = known
        stem, self.dot = split_extension(path, folder)
        self.names = stem.split("/")
        self.effort = Effort(path)
        room_bytes = [SEGMENT_BYTES] * (len(self.names) - 1) + [SEGMENT_BYTES - len(self.dot)]
        for name, limit_bytes in zip(self.names, room_bytes, strict=True):
            fits = size_bytes(name) <= limit_bytes if has_clean_characters(name) else False
            if not name or not fits or finish(name) != name:
                raise MismatchError(f"{name!r} cannot be a part of a rendered path: {path!r}")
        self._readings: dict[tuple[int, int], Sequence[Reading | Settled]] = {}

    def _vanishes(self, index: int) -> bool:
        """Return whether the segment can be empty as a whole."""
        segment = self.segments[index]
        known = self.known
        blank = all(known.may_be_empty(slot) or known.texts.get(slot.name, "").isspace() for slot in segment.slots)
        return blank and not segment.join({slot.name: "" for slot in segment.slots}).strip()

    def readings(self, index: int, number: int) -> Sequence[Reading | Settled]:
        """Return the readings of name `number` as segment `index`, for each text that `finish` may have turned into
        it.
        """
        key = (index, number)
        if key not in self._readings:
            settled = all(slot.name in self.known.texts for slot in self.segments[index].slots)
            self._readings[key] = self._settled(index, number) if settled else self._unsettled(index, number)
        return self._readings[key]

    def _settled(self, index: int, number: int) -> list[Settled]:
        segment = self.segments[index]
        limit_bytes = SEGMENT_BYTES - (len(self.dot) if number + 1 == len(self.names) else 0)
        try:
            name = fitted(Name(index, finish(segment.join(self.known.texts)), self.known.texts), segment, limit_bytes)
        except LengthError:
            return []
        texts = tuple(name.texts[slot.name] for slot in segment.slots)
        return [Settled(texts)] if name.text == self.names[number] else []

    def _unsettled(self, index: int, number: int) -> list[Reading]:
        readings = [Reading(self.segments[index], text, self.known) for text in unfinished(self.names[number])]
        return [reading for reading in readings if reading.exists()]

    @cached_property
    def _rest_fits(self) -> set[tuple[int, int]]:
        """The pairs of a segment and a name from which all further segments can match all further names."""
        last, end = len(self.segments), len(self.names)
        fits = {(last, end)}
        for index in reversed(range(last)):
            for number in range(end + 1):
                gone = (index + 1, number) in fits and self._vanishes(index)
                if gone or ((index + 1, number + 1) in fits and self.readings(index, number)):
                    fits.add((index, number))
        return fits

    def _next(self, index: int, number: int) -> Iterator[int]:
        """Yield how many names segment `index` can take from name `number` on: none, or one."""
        if (index + 1, number) in self._rest_fits and self._vanishes(index):
            yield 0
        if (index + 1, number + 1) in self._rest_fits and self.readings(index, number):
            yield 1

    def _options(self, index: int, number: int, pieces: Pieces) -> Iterator[_Taken]:
        """Yield the ways to read segment `index` from name `number` on, which agree with those before it."""
        for count in self._next(index, number):
            slots = self.segments[index].slots
            texts_of_name: Iterator[tuple[str, ...]] = iter([("",) * len(slots)])
            if count:
                texts_of_name = chain.from_iterable(
                    reading.texts(self.effort) for reading in self.readings(index, number)
                )
            for texts in texts_of_name:
                self.effort.spend()
                if pieces.agree(slots, texts):
                    yield _Taken(count, texts)

    def _assignments(self) -> Iterator[dict[str, str]]:
        """Yield the texts by field of every reading; a field with several places has them merged."""
        if (0, 0) not in self._rest_fits:
            return
        pieces, number = Pieces(), 0
        made: list[_Taken] = []
        open_options = [self._options(0, 0, pieces)]
        while open_options:
            taken = next(open_options[-1], None)
            if taken is not None:
                pieces.add(self.segments[len(made)].slots, taken.texts)
                made.append(taken)
                number += taken.names
                if len(made) < len(self.segments):
                    open_options.append(self._options(len(made), number, pieces))
                    continue
                yield pieces.merged()
            else:
                open_options.pop()
            if made:
                last = made.pop()
                number -= last.names
                pieces.remove(self.segments[len(made)].slots, last.texts)

    def candidates(self) -> Iterator[dict[str, str]]:
        """Yield, once each, the texts by field as they are in the path, of every record of this path that fits the
        assumptions.

        Raises:
            SearchError: too many steps since the last accepted candidate.
        """
        seen = set()
        for texts in self._assignments():
            self.effort.spend(_STEPS_OF_A_CANDIDATE)
            whole = self._whole(texts)
            if whole is not None:
                standing = standing_texts(self.segments, whole, self.dot)
                key = tuple(standing.values())
                if key not in seen and self.known.assumed.hold(self.segments, standing):
                    seen.add(key)
                    yield standing

    def _whole(self, texts: Mapping[str, str]) -> Mapping[str, str] | None:
        """Return the texts that render to the path: those read, or the known ones in full, of which the path may have
        only a part.
        """
        if all(clean(text) == text for text in texts.values()):
            for whole in (texts, {**texts, **self.known.texts}):
                if renders(self.segments, whole, self.dot, self.path):
                    return whole
        return None

    def agrees(self, standing: Mapping[str, str]) -> bool:
        """Return whether the known texts render to the path, with `standing` for all others."""
        return renders(self.segments, {**standing, **self.known.texts}, self.dot, self.path)

    def agrees_cut(self, standing: Mapping[str, str]) -> bool:
        """Return whether the known texts render to the path with longer unknown texts, which were shortened to
        `standing`.

        Shortened texts of one name share its room: the length of a known text shows that of the others.
        """
        longer = {}
        for slot in (slot for segment in self.segments for slot in segment.slots if slot.kind.free):
            stem, cut, after = standing[slot.name].rpartition(ELLIPSIS)
            if cut and not after and slot.name not in self.known.texts:
                # A dropped item can leave a blank first item, of which the path has nothing; dots that
                # `finish` widened count as the dots they were; a text may end so by itself, too.
                stems = dict.fromkeys((stem, stem.replace("．", ".", 1), narrow(stem)))
                items = [(each or BLANK) + slot.kind.separator + _HUGE for each in stems]
                longer[slot.name] = (*(each + _HUGE for each in stems), *items, standing[slot.name])
        for texts in product(*longer.values()) if longer else ():
            whole = {**standing, **dict(zip(longer, texts, strict=True)), **self.known.texts}
            if renders(self.segments, whole, self.dot, self.path):
                return True
        return False

    def spans(self, field: str) -> set[str]:
        """Return every text that `field` may have, a superset of those that fit in all places of the field at once."""
        texts: list[set[str]] = []
        starts = {0} if (0, 0) in self._rest_fits else set()
        for index, segment in enumerate(self.segments):
            for place, slot in enumerate(segment.slots):
                if slot.name == field:
                    numbers = [number for number in starts if (index + 1, number + 1) in self._rest_fits]
                    readings = chain.from_iterable(self.readings(index, number) for number in numbers)
                    texts.append(set().union(*(reading.spans(place) for reading in readings)))
            starts = {number + count for number in starts for count in self._next(index, number)}
        return set.intersection(*texts) if texts else set()
