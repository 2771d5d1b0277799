"""The known name nearest to a misspelt one, and the existing path nearest to one that does not exist."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["DTYPE_ALIASES", "beside", "listed", "nearest", "nearest_path"]

DTYPE_ALIASES: Mapping[str, str] = {
    **dict.fromkeys(("fp32", "f32", "float", "single", "fp64", "f64", "float64", "double", "32"), "float32"),
    **dict.fromkeys(("fp16", "f16", "half", "16"), "float16"),
    **dict.fromkeys(("bf16", "bfp16", "brain", "bfloat"), "bfloat16"),
}
"""Other names of dtypes; a float64 checkpoint runs as float32, as users load it."""

_CUTOFF = 0.6  # of difflib's ratio; its own default
_FEW_ENTRIES = 2000  # of one directory


def nearest(wanted: str, known: Iterable[str], aliases: Mapping[str, str] | None = None) -> str | None:
    """Return the name in `known` nearest to `wanted`, or None.

    Args:
        wanted: the user's text.
        known: the names that exist; of several with the same beginning, the first is taken.
        aliases: other words for known names, in lower case.
    """
    names = list(known)
    word = wanted.strip().casefold().removeprefix("torch.")
    name_or_alias = (aliases or {}).get(word, word)
    if not name_or_alias:
        return None
    by_folded = {name.casefold(): name for name in reversed(names)}
    if name_or_alias in by_folded:
        return by_folded[name_or_alias]
    if begins := [name for name in names if name.casefold().startswith(name_or_alias)]:
        return begins[0]
    near = difflib.get_close_matches(name_or_alias, by_folded, n=1, cutoff=_CUTOFF)
    return by_folded[near[0]] if near else None


def listed(wanted: str, known: Iterable[str], aliases: Mapping[str, str] | None = None) -> str:
    """Return advice about an invalid name, without a full stop: the nearest one and the others."""
    names = list(known)
    near = None if wanted in names else nearest(wanted, names, aliases)
    others = ", ".join(name for name in names if name not in (near, wanted))
    if near is None:
        return f"Choose from {others}" if "," in others else f"There is only {others}"
    return f"The nearest is {near}; others are {others}" if others else f"The nearest is {near}"


def nearest_path(path: str | Path) -> Path | None:
    """Return an existing path that differs from `path`, which does not exist, in the spelling of one name, or None.

    The name is the first that does not exist; the rest of the path must exist below its replacement. None for a path
    that exists.
    """
    target = Path(path)
    if os.path.lexists(target):
        return None
    for parent in target.parents:
        if _is_directory(parent):
            rest = target.relative_to(parent).parts
            near = difflib.get_close_matches(rest[0], _names(parent), n=3, cutoff=_CUTOFF)
            candidates = (parent.joinpath(name, *rest[1:]) for name in near)
            return next((candidate for candidate in candidates if candidate.exists()), None)
    return None


def beside(path: str | Path, otherwise: str) -> str:
    """Return advice about a path that does not exist, without a full stop: the nearest one, else `otherwise`."""
    near = nearest_path(path)
    return otherwise if near is None else f"The nearest name is {near}"


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # such as a name that is too long
        return False


def _names(directory: Path) -> list[str]:
    try:
        return sorted(entry.name for _, entry in zip(range(_FEW_ENTRIES), directory.iterdir(), strict=False))
    except OSError:  # not readable
        return []
