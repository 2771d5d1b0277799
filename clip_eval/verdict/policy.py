"""Policies: a reviewed file with a team's demands on a gate beyond its own rules.

require = ["baseline", "throughput"]  # scopes that must be judged; else the verdict is inconclusive

[throughput]
least_efficiency = 0.6  # time of the plain torch forward over the subject's, where no pack knows this machine

[surface]
uses = ["CLIPModel", "get_image_features", "AutoProcessor"]  # changes of other things are left out
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from clip_eval.errors import UsageError
from clip_eval.files.read_write import read_text
from clip_eval.files.untrusted import REVIEWED_BYTES, complaint, parse_toml, shown
from clip_eval.verdict.run_record import SCOPES, Scope

__all__ = ["Policy", "read_policy"]

# outside, a subject would be a thousand times slower, or faster, than the same computation in plain torch
_LEAST, _MOST = 0.001, 1_000
_FORM = (
    "A policy holds require, a list of scopes, [throughput] with least_efficiency, a number from 0.001 to 1000, and "
    "[surface] with uses, a list of names"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Demands beyond the gate's own rules.

    Attributes:
        require: scopes that must be judged.
        least_efficiency: least time of the plain torch forward over the subject's; None if only a pack judges speed.
        uses: names of the interface that the team's code uses; empty for all of it.
    """

    require: tuple[Scope, ...] = ()
    least_efficiency: float | None = None
    uses: tuple[str, ...] = ()


def read_policy(file: str | Path) -> Policy:
    """Read a policy.

    Raises:
        UsageError: the file cannot be read, is not TOML, is empty, or has an unknown key.
    """
    text = read_text(file, error=UsageError, limit_bytes=REVIEWED_BYTES)
    try:
        data = parse_toml(text)
    except ValueError as problem:
        raise UsageError(f"the policy {complaint(problem, 'TOML')}", where=file, fix=_FORM) from problem
    require, speed, surface = data.pop("require", []), data.pop("throughput", {}), data.pop("surface", {})
    if data:
        _refuse(f"the policy has an unknown key, {next(iter(data))}", file)
    policy = Policy(
        require=_scopes(require, file), least_efficiency=_least_efficiency(speed, file), uses=_uses(surface, file)
    )
    if policy == Policy():
        _refuse("the policy is empty", file)
    return policy


def _scopes(require: object, file: str | Path) -> tuple[Scope, ...]:
    if not isinstance(require, list):
        _refuse("the policy's require is not a list", file)
    for name in require:
        if name not in SCOPES:
            _refuse(f"the policy requires {shown(name)}, and the scopes are {', '.join(SCOPES)}", file)
    return tuple(require)


def _least_efficiency(speed: object, file: str | Path) -> float | None:
    if not isinstance(speed, Mapping) or set(speed) - {"least_efficiency"}:
        _refuse("the policy's [throughput] has other keys than least_efficiency", file)
    least = speed.get("least_efficiency")
    if least is None:
        return None
    if isinstance(least, bool) or not isinstance(least, (int, float)) or not _LEAST <= least <= _MOST:
        _refuse(f"the policy's least_efficiency is {shown(least)}", file)
    return float(least)


def _uses(surface: object, file: str | Path) -> tuple[str, ...]:
    if not isinstance(surface, Mapping) or set(surface) - {"uses"}:
        _refuse("the policy's [surface] has other keys than uses", file)
    names = surface.get("uses", [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        _refuse(f"the policy's uses is {shown(names)}", file)
    return tuple(names)


def _refuse(what: str, file: str | Path) -> NoReturn:
    raise UsageError(what, where=file, fix=_FORM)
