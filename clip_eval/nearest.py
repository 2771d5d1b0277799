"""The known name that was probably meant by a misspelt one, and the path that was probably meant by one that is not
there.
"""

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
"""What people call the dtypes; a float64 checkpoint is run as float32, which users load it as."""

_CUTOFF = 0.6  # of difflib's ratio; its own default
_FEW_ENTRIES = 2000  # of one directory that are looked at


def nearest(wanted: str, known: Iterable[str], aliases: Mapping[str, str] | None = None) -> str | None:
    """Return the name out of `known` that `wanted` is nearest to; None where none is near.

    Args:
        wanted: what the user wrote.
        known: the names that exist, the likelier first where several begin alike.
        aliases: other words for known names, in lower case.
    """
    names = list(known)
    word = wanted.strip().casefold().removeprefix("torch.")
    meant = (aliases or {}).get(word, word)
    if not meant:
        return None
    by_folded = {name.casefold(): name for name in reversed(names)}
    if meant in by_folded:
        return by_folded[meant]
    if begins := [name for name in names if name.casefold().startswith(meant)]:
        return begins[0]
    near = difflib.get_close_matches(meant, by_folded, n=1, cutoff=_CUTOFF)
    return by_folded[near[0]] if near else None


def listed(wanted: str, known: Iterable[str], aliases: Mapping[str, str] | None = None) -> str:
    """Return what to do about a name that cannot be used, without a full stop: the nearest one and the others."""
    names = list(known)
    near = None if wanted in names else nearest(wanted, names, aliases)
    others = ", ".join(name for name in names if name not in (near, wanted))
    if near is None:
        return f"Choose from {others}" if "," in others else f"There is only {others}"
    return f"The nearest is {near}; others are {others}" if others else f"The nearest is {near}"


def nearest_path(path: str | Path) -> Path | None:
    """Return a path that exists and differs from `path`, which does not, in the spelling of one name; None for none.

    The name is the first that is not there: what follows it must be there below the name that replaces it. A path that
    exists, and is wrong for another reason, is none.
    """
    wanted = Path(path)
    if os.path.lexists(wanted):
        return None
    for known in wanted.parents:
        if _is_directory(known):
            rest = wanted.relative_to(known).parts
            near = difflib.get_close_matches(rest[0], _names(known), n=3, cutoff=_CUTOFF)
            found = (known.joinpath(name, *rest[1:]) for name in near)
            return next((candidate for candidate in found if candidate.exists()), None)
    return None


def beside(path: str | Path, otherwise: str) -> str:
    """Return what to do about a path that is not there, without a full stop: the nearest that is, else `otherwise`."""
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
    except OSError:  # nobody may list it: then nothing is near
        return []
