"""Differences between two surfaces, each with an id for acceptances. Nothing here judges them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeGuard

from clip_eval.baseline.pack import Surface
from clip_eval.verdict.plain_values import Json, plain
from clip_eval.verdict.run_record import SurfaceChange

__all__ = ["ABSENT", "SURFACE_CHECK", "change", "changes", "merged"]

SURFACE_CHECK = "baseline.surface_is_approved"
"""The check that reports them."""

ABSENT = "absent"

_REPEATED = (  # changes of several things that are merged into one: group 2 may differ, groups 1 and 3 must be the same
    re.compile(r"^()((?:CLIP\w*Model\w*\.)?(?:get_(?:text|image)_features|CLIP\w*Model\w*))((?:\(| with ).*)$"),
    re.compile(r"^([^=\[]*\(\w+=)([^=]*)(\).*)$"),
    re.compile(r"^([^\[]*\[)(.*)(\][^\]]*)$"),
)

_WORDS = (
    (r"\.state_dict\(\)$", "the list of weights in memory"),
    (r"\.parameters\(\)$", "the order of the parameters"),
    (r"\.dtype\[", "the dtype on load where none is asked for"),
    (r"from_pretrained\(case\)|\(arguments\)|load_state_dict", "what becomes of it"),
    (r"from_pretrained\([^)]*\)$", "the class that is loaded"),
    (r"save_pretrained\(\)", "what is written"),
    (r"named_modules\(\)", "the class of the module"),
    (r"input_ids|decode\(\)", "what the tokenizer makes of it"),
    (r"^transformers\.CLIP", "the class that the name stands for"),
    (r"^bases\.", "the classes it derives from"),
    (r"^model\.|^vars\(", "what a loaded model says"),
    (r"\(\)\.to_dict\(\)", "the default"),
    (r"^transformers\.models|^(PreTrainedModel|ProcessorMixin|PushToHubMixin|Auto\w+)\.", "the signature or value"),
    (r"^(tokenizer|image_processor|processor|\w+Config\(\))\.", "the signature or value"),
)


def changes(before: Surface, after: Surface) -> tuple[SurfaceChange, ...]:
    """Return one change for each id whose value differs or that only one side has, sorted by id.

    Of two lists only the items missing from the other are shown. Of two mappings, the keys that only one of them has
    are one change, and each key with two values is one, with the key in place of the asterisk in its id.
    """
    differences = (change for identity in {*before, *after} for change in _differences(identity, before, after))
    return merged(sorted(differences, key=lambda change: change.id))


def merged(changes: Iterable[SurfaceChange]) -> tuple[SurfaceChange, ...]:
    """Return the changes, sorted by id, with equal changes of several things merged.

    Merged are the same call of several classes, several values of one argument, and several keys in brackets, if all
    have the same values before and after: CLIPModel|CLIPTextModel(use_cache=True|False).
    """
    for pattern in _REPEATED:
        changes = _merged_by(pattern, changes)
    return tuple(sorted(changes, key=lambda change: change.id))


def _merged_by(pattern: re.Pattern[str], changes: Iterable[SurfaceChange]) -> Iterator[SurfaceChange]:
    """Join what group 2 of the pattern matches if everything around it, before and after are the same."""
    groups: dict[tuple[str, ...], dict[str, SurfaceChange]] = {}
    for entry in changes:
        start, middle, end = parts.groups() if (parts := pattern.match(entry.id)) else (entry.id, "", "")
        groups.setdefault((start, end, entry.before, entry.after), {})[middle] = entry
    for (start, end, *_), group in groups.items():
        yield replace(next(iter(group.values())), id=f"{start}{'|'.join(sorted(group))}{end}")


def change(identity: str, what: str, before: str, after: str) -> SurfaceChange:
    """Return a difference without an acceptance."""
    return SurfaceChange(id=identity, what=what, before=before, after=after, check=SURFACE_CHECK, accepted=None)


def _differences(identity: str, before: Surface, after: Surface) -> Iterator[SurfaceChange]:
    one, other = before.get(identity, ABSENT), after.get(identity, ABSENT)
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        if identity not in before or identity not in after or plain(one) != plain(other):
            yield _difference(identity, one, other)
        return
    gone, new = [key for key in one if key not in other], [key for key in other if key not in one]
    if gone or new:
        yield change(identity, f"the names that {identity} stands for", _listed(sorted(gone)), _listed(sorted(new)))
    for key in one:
        if key in other and plain(one[key]) != plain(other[key]):
            yield _difference(identity.replace("*", key), one[key], other[key])


def _difference(identity: str, one: Json, other: Json) -> SurfaceChange:
    if _is_list(one) and _is_list(other):
        gone, new = [item for item in one if item not in other], [item for item in other if item not in one]
        if gone or new:  # else the same items in another order
            return change(identity, _what(identity), _listed(gone), _listed(new))
    return change(identity, _what(identity), _spelled(one), _spelled(other))


def _what(identity: str) -> str:
    """The subject of an id, for a sentence."""
    if identity.startswith("config."):
        return f"{identity.removeprefix('config.')} in config.json"
    return next((words for pattern, words in _WORDS if re.search(pattern, identity)), "the returned value")


def _is_list(value: Json) -> TypeGuard[Sequence[Json]]:
    return isinstance(value, (list, tuple))


def _spelled(value: Json) -> str:
    """A list or the names of a mapping by their items, any other value unchanged."""
    if isinstance(value, Mapping):
        return _listed(sorted(value))
    return _listed(value) if _is_list(value) else str(value)


def _listed(items: Iterable[Json]) -> str:
    return ", ".join(map(str, items)) or "nothing"
