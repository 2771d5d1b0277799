"""Every way to divide one name between the slots of one segment.

The readings are a superset: rendering them again shows which are right.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from clip_eval.paths.cleaning import ELLIPSIS, narrow
from clip_eval.paths.fields import compiled
from clip_eval.paths.grammar import Segment, Slot
from clip_eval.paths.parsing.assumptions import NOTHING, Assumptions
from clip_eval.paths.parsing.search import Effort, sequences

__all__ = ["BLANK", "Known", "Reading", "Settled"]

# white space that was stripped from the edge of a name; an empty text would have removed its separator
BLANK = " "


@dataclass(frozen=True, slots=True)
class Known:
    """The known texts of a record before its path is read.

    Args:
        texts: cleaned texts by field name.
        assumed: further assumptions.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    assumed: Assumptions = NOTHING

    def may_be_empty(self, slot: Slot) -> bool:
        """Return whether the field of `slot` can be empty."""
        return not (slot.kind.required or slot.name in self.assumed.present or self.texts.get(slot.name))


@dataclass(frozen=True, slots=True)
class Step:
    """One slot read: where in the name its text ends, and its text."""

    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Settled:
    """The only reading of a name whose segment has no unknown field: its texts, in the order of the slots."""

    only: tuple[str, ...]

    def texts(self, effort: Effort) -> Iterator[tuple[str, ...]]:
        """Yield the texts of the slots of the one reading."""
        yield self.only

    def spans(self, index: int) -> set[str]:
        """Return the text of slot number `index`."""
        return {self.only[index]}


class Reading:
    """All readings of `name`, finished or not, as `segment`.

    Literal and known texts match whatever the width of their dots, since `finish` widens some.
    """

    def __init__(self, segment: Segment, name: str, known: Known) -> None:
        self.segment = segment
        self.name = name
        self.known = known
        self._narrow = narrow(name)

    def _literal(self, text: str, start: int) -> int | None:
        """Return where literal `text` from `start` on ends, or None. White space at the edges of the name was
        stripped.
        """
        text = narrow(text.lstrip() if start == 0 else text)
        if self._narrow.startswith(text, start):
            return start + len(text)
        return len(self.name) if self._narrow[start:] == text.rstrip() else None

    @cached_property
    def _ends(self) -> list[list[int]]:
        """For each slot, then for the tail: the positions, ascending, from which the rest of the segment can be
        read.
        """
        positions = range(len(self.name) + 1)
        ends = [[start for start in positions if self._literal(self.segment.tail, start) == len(self.name)]]
        for slot in reversed(self.segment.slots):
            after = ends[0]
            ends.insert(0, [start for start in positions if any(self._steps(slot, start, after))] if after else [])
        return ends

    def _steps(self, slot: Slot, start: int, after: Sequence[int]) -> Iterator[Step]:
        """Yield the ways to read `slot` and the literal text before it from `start` to one of the positions `after`."""
        if self.known.may_be_empty(slot):
            end = self._literal(slot.before_empty, start)
            if end is not None and _holds(after, end):
                yield Step(end, "")
        begin = self._literal(slot.before, start)
        text = self.known.texts.get(slot.name)
        if begin is None or text == "":
            return
        yield from self._unknown(slot, begin, after) if text is None else self._given(slot, begin, after, text)

    def _unknown(self, slot: Slot, begin: int, after: Sequence[int]) -> Iterator[Step]:
        matches = compiled(slot.kind.pattern).fullmatch if slot.kind.pattern else None
        at_edge = begin in (0, len(self.name)) and slot.before != slot.before_empty
        if at_edge and matches is None and not slot.kind.required and _holds(after, begin):
            yield Step(begin, BLANK)
        for end in after[bisect_right(after, begin) :]:
            if matches is None or matches(self.name, begin, end):
                yield Step(end, self.name[begin:end])
            elif matches(self._narrow, begin, end):
                yield Step(end, self._narrow[begin:end])

    def _given(self, slot: Slot, begin: int, after: Sequence[int], text: str) -> Iterator[Step]:
        ends = set()
        text = narrow(text)
        for part in {text, text.lstrip() if begin == 0 else text}:
            if self._narrow.startswith(part, begin):
                ends.add(begin + len(part))
            if self._narrow[begin:] == part.rstrip():
                ends.add(len(self.name))
            if slot.kind.free:
                ends |= {end for end in self._cuts(begin) if part.startswith(self._narrow[begin : end - 1])}
        for end in sorted(ends):
            if _holds(after, end):
                yield Step(end, self.name[begin:end] or BLANK)

    def _cuts(self, begin: int) -> Iterator[int]:
        end = self.name.find(ELLIPSIS, begin) + 1
        while end:
            yield end
            end = self.name.find(ELLIPSIS, end) + 1

    def exists(self) -> bool:
        """Return whether there is any reading."""
        return _holds(self._ends[0], 0)

    def texts(self, effort: Effort) -> Iterator[tuple[str, ...]]:
        """Yield the texts of the slots, in the order of the slots, of each reading.

        Raises:
            SearchError: when the effort is spent.
        """
        slots = self.segment.slots
        first = [next(place for place, other in enumerate(slots) if other.name == slot.name) for slot in slots]

        def steps(made: list[Step]) -> Iterator[Step]:
            place = len(made)
            following = self._steps(slots[place], made[-1].end if made else 0, self._ends[place + 1])
            if first[place] == place:
                return following
            # in one name a field has one text, apart from stripped white space and the width of dots
            core = narrow(made[first[place]].text.strip())
            return (step for step in following if narrow(step.text.strip()) == core)

        if self.exists():
            for made in sequences(len(slots), steps, effort):
                yield tuple(step.text for step in made)

    def spans(self, index: int) -> set[str]:
        """Return every text that slot number `index` has in some reading."""
        starts = {0} if self.exists() else set()
        for number, slot in enumerate(self.segment.slots[:index]):
            after = self._ends[number + 1]
            starts = {step.end for start in starts for step in self._steps(slot, start, after)}
        slot, after = self.segment.slots[index], self._ends[index + 1]
        return {step.text for start in starts for step in self._steps(slot, start, after)}


def _holds(ascending: Sequence[int], number: int) -> bool:
    place = bisect_right(ascending, number)
    return place > 0 and ascending[place - 1] == number
