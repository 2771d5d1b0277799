"""Differences between two surfaces, each with an id that an acceptance can name. Nothing here says which are wanted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeGuard

from clip_eval.baseline.pack import Surface
from clip_eval.measurement import Json, plain
from clip_eval.run_record import SurfaceChange

__all__ = ["ABSENT", "SURFACE_CHECK", "change", "changes"]

SURFACE_CHECK = "baseline.surface_is_approved"
"""The check that reports them."""

ABSENT = "absent"


def changes(before: Surface, after: Surface) -> tuple[SurfaceChange, ...]:
    """Return one change for each id whose value differs or that only one side has, sorted by id.

    Of two lists only the items are shown that the other one lacks.
    """
    return tuple(
        _difference(identity, before, after)
        for identity in sorted({*before, *after})
        if identity not in before or identity not in after or plain(before[identity]) != plain(after[identity])
    )


def change(identity: str, what: str, before: str, after: str) -> SurfaceChange:
    """Return a difference that nobody has accepted."""
    return SurfaceChange(id=identity, what=what, before=before, after=after, check=SURFACE_CHECK, accepted=None)


def _difference(identity: str, before: Surface, after: Surface) -> SurfaceChange:
    one, other = before.get(identity, ABSENT), after.get(identity, ABSENT)
    if _is_list(one) and _is_list(other):
        gone, new = [item for item in one if item not in other], [item for item in other if item not in one]
        if gone or new:  # else the same items in another order
            return change(identity, _what(identity), _listed(gone), _listed(new))
    return change(identity, _what(identity), _spelled(one), _spelled(other))


def _what(identity: str) -> str:
    """What an id speaks of, for a sentence."""
    if identity.startswith("config."):
        return f"{identity.removeprefix('config.')} in config.json"
    if identity.endswith(".state_dict()"):
        return "the list of weights in memory"
    if ".from_pretrained()" in identity:
        return "the dtype on load where none is asked for" if ".dtype[" in identity else "the class that is loaded"
    return "the returned value"


def _is_list(value: Json) -> TypeGuard[Sequence[Json]]:
    return isinstance(value, (list, tuple))


def _spelled(value: Json) -> str:
    return _listed(value) if _is_list(value) else str(value)


def _listed(items: Iterable[Json]) -> str:
    return ", ".join(map(str, items)) or "nothing"
