"""Which family a checkpoint belongs to. A new family is one line here."""

from __future__ import annotations

import copyreg
from collections.abc import Mapping
from types import MappingProxyType

from clip_eval.families.clip.family import CLIP
from clip_eval.families.family import EntryPoint, Family

__all__ = ["DEFAULT", "ENTRY_POINTS", "FAMILIES", "entry_point", "family_of"]

_KNOWN = (CLIP,)

FAMILIES: Mapping[str, Family] = MappingProxyType({family.model_type: family for family in _KNOWN})
"""By the model_type of config.json."""

_BY_TOWER = {kind: family for family in _KNOWN for kind in family.tower_types}

DEFAULT = CLIP
"""The family whose reader refuses unknown model types, and whose entry points are in the ids of checks."""

ENTRY_POINTS = DEFAULT.entry_points
"""The entry points of the checks, by role, for candidates of every family."""


def family_of(model_type: object) -> Family:
    """Return the family of a model_type, a tower's too. For an unknown one return the default, whose reader raises."""
    return {**_BY_TOWER, **FAMILIES}.get(model_type, DEFAULT) if isinstance(model_type, str) else DEFAULT


copyreg.pickle(Family, lambda family: (family_of, (family.model_type,)))  # its functions do not travel, its name does


def entry_point(model_class: str, method: str = "forward") -> EntryPoint:
    """Return the entry point of a role's class and method."""
    return next(entry for entry in ENTRY_POINTS if (entry.model_class, entry.method) == (model_class, method))
