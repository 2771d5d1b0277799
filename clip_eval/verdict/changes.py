"""Surface changes as people read them: by what they mean for users, and by what they follow from.

A group is a declared cause (`change_causes.py`) or, where none is declared, an area of the interface and the kind of
difference. Reports show groups, and an acceptance may name one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from clip_eval.verdict.change_causes import CHANGE_CAUSES, Consequence, declared_cause
from clip_eval.verdict.run_record import SurfaceChange

__all__ = ["CONSEQUENCES", "ChangeGroup", "area", "by_consequence", "consequence", "grouped"]

CONSEQUENCES: dict[Consequence, str] = {
    "values": "values differ",
    "calls": "calls that fail now",
    "types": "types or fields differ",
    "loading": "loading and saving",
    "internals": "additions and internals",
}
"""The kinds of difference, the gravest for users first."""

# a change belongs to the first that matches
_AREAS = {
    "files of the checkpoint": r"^(checkpoint|config)\.",
    "loading and saving": r"from_pretrained|save_pretrained\(|load_state_dict",
    "tokenizer": r"^tokenizer|^\w*Tokenizer\w*[.(]",
    "image processor": r"^image_processor|^\w*ImageProcessor\w*[.(]",
    "processor": r"^processor|^CLIPProcessor",
    "models in memory": r"^(model|vars)\b|named_modules|state_dict|parameters\(\)",
    "configs": r"Config\(",
    "names and signatures": r"^(transformers|bases|PreTrainedModel|ProcessorMixin|PushToHubMixin|signature)\b|^Auto",
    "outputs and calls": r"^(CLIP\w*Model\w*|CLIPForImageClassification|get_\w+_features)\b",
}
_OTHERS = "others"

_FAILS = re.compile(r"\braises\b|\bno such class\b|^none taken")
_GONE = ("absent", "nothing", "no module of its own")
_VALUES = re.compile(r"\.levels$|input_ids$|\bdtype\[")
_OTHER_VALUES = re.compile(r"other values|otherwise|on white|\(ids ")
_INTERNAL = ("names and signatures", "models in memory")
_DIGEST_LENGTH = 16
_READABLE = 160  # characters of both values


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeGroup:
    """Changes that are told, and may be accepted, together.

    Attributes:
        name: id of the declared cause, or area and kind of difference, such as "tokenizer: values differ".
        consequence: what it means for users.
        sentence: of a declared cause, the consequence in words; else empty.
        upstream: of a declared cause, the address of an issue or pull request; else empty.
        declared: whether it is a declared cause.
        changes: in the order of the record; at least one.
    """

    name: str
    consequence: Consequence
    sentence: str
    upstream: str
    declared: bool
    changes: tuple[SurfaceChange, ...]

    @property
    def label(self) -> str:
        """The name below a heading that says the consequence."""
        return self.name if self.declared else self.name.removesuffix(f": {CONSEQUENCES[self.consequence]}")

    @property
    def open(self) -> tuple[SurfaceChange, ...]:
        """The changes without an acceptance."""
        return tuple(change for change in self.changes if change.accepted is None)

    @property
    def worst(self) -> SurfaceChange:
        """The change that tells most: what is open, short enough to read, worked before, and is gravest now."""
        return min(
            self.changes,
            key=lambda change: (
                change.accepted is not None,
                len(change.before) + len(change.after) > _READABLE,
                _FAILS.search(change.before) is not None,
                _gravity(consequence(change)),
            ),
        )

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits over id, before and after of every change, for acceptances."""
        states = sorted((change.id, change.before, change.after) for change in self.changes)
        return hashlib.sha256(json.dumps(states).encode()).hexdigest()[:_DIGEST_LENGTH]


def grouped(changes: Iterable[SurfaceChange]) -> tuple[ChangeGroup, ...]:
    """The changes by what they follow from: the gravest consequence first, then what nobody declared, then declared
    causes in the order of their table.
    """
    members: dict[str, list[SurfaceChange]] = {}
    for change in changes:
        members.setdefault(_group_of(change), []).append(change)
    groups = [_group(name, tuple(group)) for name, group in members.items()]
    places = {cause.id: place for place, cause in enumerate(CHANGE_CAUSES)}
    return tuple(sorted(groups, key=lambda group: (_gravity(group.consequence), places.get(group.name, -1))))


def by_consequence(groups: Sequence[ChangeGroup]) -> dict[Consequence, list[ChangeGroup]]:
    """The groups by consequence, the gravest first, without consequences that no group has."""
    found = {kind: [group for group in groups if group.consequence == kind] for kind in CONSEQUENCES}
    return {kind: members for kind, members in found.items() if members}


def area(change: SurfaceChange) -> str:
    """The part of the interface that a change's id belongs to."""
    return next((name for name, pattern in _AREAS.items() if re.search(pattern, change.id)), _OTHERS)


def consequence(change: SurfaceChange) -> Consequence:
    """What a change means for users, by its id and its values alone."""
    before_fails, after_fails = (_FAILS.search(value) is not None for value in (change.before, change.after))
    if after_fails and not before_fails:
        return "calls"
    if _VALUES.search(change.id) or _OTHER_VALUES.search(change.after):
        return "values"
    if area(change) in ("loading and saving", "files of the checkpoint"):
        return "loading"
    added = before_fails or change.before in _GONE
    return "internals" if added or area(change) in _INTERNAL or change.id.endswith((".*", "[*]")) else "types"


def _gravity(kind: Consequence) -> int:
    return list(CONSEQUENCES).index(kind)


def _group_of(change: SurfaceChange) -> str:
    if change.cause is not None and declared_cause(change.cause) is not None:
        return change.cause
    return f"{area(change)}: {CONSEQUENCES[consequence(change)]}"


def _group(name: str, changes: tuple[SurfaceChange, ...]) -> ChangeGroup:
    cause = declared_cause(changes[0].cause)
    return ChangeGroup(
        name=name,
        consequence=consequence(changes[0]) if cause is None else cause.consequence,
        sentence="" if cause is None else cause.sentence,
        upstream="" if cause is None else cause.upstream,
        declared=cause is not None,
        changes=changes,
    )
