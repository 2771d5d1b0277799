"""Policies: a reviewed file with a team's demands on a gate beyond its own rules.

require = ["baseline", "throughput"]  # scopes that must be judged; else the verdict is inconclusive

[throughput]
least_efficiency = 0.6  # time of the plain torch forward over the subject's, where no pack knows this machine
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
_FORM = "A policy holds require, a list of scopes, and [throughput] with least_efficiency, a number from 0.001 to 1000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Demands beyond the gate's own rules.

    Attributes:
        require: scopes that must be judged.
        least_efficiency: least time of the plain torch forward over the subject's; None if only a pack judges speed.
    """

    require: tuple[Scope, ...] = ()
    least_efficiency: float | None = None


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
    require, speed = data.pop("require", []), data.pop("throughput", {})
    if data:
        _refuse(f"the policy has an unknown key, {next(iter(data))}", file)
    policy = Policy(require=_scopes(require, file), least_efficiency=_least_efficiency(speed, file))
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


def _refuse(what: str, file: str | Path) -> NoReturn:
    raise UsageError(what, where=file, fix=_FORM)
