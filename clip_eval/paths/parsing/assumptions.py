"""Assumptions about records, as a path alone rarely shows where a text ends and the next begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from clip_eval.paths.fields import compiled
from clip_eval.paths.grammar import Segment

__all__ = ["NOTHING", "USUAL", "Assumptions"]


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Facts about all records of a dataset. A wrong assumption can make parsing return a wrong record.

    Args:
        present: fields that always have a value.
        together: groups of fields that have values all together or not at all.
        whole: fields that take as much of the path as they can.
    """

    present: frozenset[str] = frozenset()
    together: tuple[frozenset[str], ...] = ()
    whole: frozenset[str] = frozenset()

    def names(self) -> frozenset[str]:
        """Return the names of all fields in the assumptions."""
        return self.present.union(self.whole, *self.together)

    def hold(self, segments: Sequence[Segment], texts: Mapping[str, str]) -> bool:
        """Return whether a record with `texts`, by field, as they are in its path, fits the assumptions."""
        has = {name for name, text in texts.items() if text}
        known = [group & texts.keys() for group in self.together]
        if not has.issuperset(self.present & texts.keys()) or any(group & has not in (set(), group) for group in known):
            return False
        return not any(
            self._is_torn(segment, index, texts) for segment in segments for index in range(len(segment.slots))
        )

    def _is_torn(self, segment: Segment, index: int, texts: Mapping[str, str]) -> bool:
        """Return whether the text of slot `index` could go on with the text of a slot directly after it."""
        slot = segment.slots[index]
        if slot.name not in self.whole or not texts[slot.name]:
            return False
        touching = takewhile(lambda after: not after.before_empty, segment.slots[index + 1 :])
        after = next((after for after in touching if texts[after.name]), None)
        if after is None or after.before:
            return False
        return compiled(slot.kind.pattern).fullmatch(texts[slot.name] + texts[after.name][0]) is not None


NOTHING = Assumptions()

# For pixiv datasets. The last assumption is wrong for a series whose title begins with a digit: such digits are then
# read as the end of the series' number.
USUAL = Assumptions(
    present=frozenset({"user"}),
    together=(frozenset({"series_id", "series_title", "series_order"}),),
    whole=frozenset({"series_id"}),
)
