"""Which family a checkpoint belongs to. A new family is one line here."""

from __future__ import annotations

import copyreg
from collections.abc import Mapping
from types import MappingProxyType

from clip_eval.families.clip.family import CLIP
from clip_eval.families.family import EntryPoint, Family

__all__ = ["DEFAULT", "ENTRY_POINTS", "FAMILIES", "entry_point", "family_of"]

FAMILIES: Mapping[str, Family] = MappingProxyType({family.model_type: family for family in (CLIP,)})
"""By the model_type of config.json."""

DEFAULT = CLIP
"""Whose reader refuses what belongs to no family, and whose entry points the ids of checks are spelled with."""

ENTRY_POINTS = DEFAULT.entry_points
"""What the checks ask through, whatever family the candidate is of: its own classes fill the roles."""


def family_of(model_type: object) -> Family:
    """Return the family of a model_type; the default one for an unknown one, whose reader says what is wrong."""
    return FAMILIES.get(model_type, DEFAULT) if isinstance(model_type, str) else DEFAULT


copyreg.pickle(Family, lambda family: (family_of, (family.model_type,)))  # its functions do not travel, its name does


def entry_point(model_class: str, method: str = "forward") -> EntryPoint:
    """Return the way in by this method of the class of this role."""
    return next(entry for entry in ENTRY_POINTS if (entry.model_class, entry.method) == (model_class, method))
