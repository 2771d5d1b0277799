"""All faults, from the modules of this package that define some."""

from __future__ import annotations

from faults import (
    calling,
    config,
    handling,
    heads,
    interpolating,
    invariants,
    localisation,
    options,
    outputs,
    persistence,
    pixel_inputs,
    pixels,
    processor,
    refused,
    rows,
    surface,
    tokens,
    towers,
    weights,
)
from faults.fault import Fault

__all__ = ["ESSENTIAL", "FAULTS", "KINDS", "by_id"]

_MODULES = (
    towers,
    heads,
    outputs,
    options,
    weights,
    config,
    processor,
    tokens,
    rows,
    invariants,
    localisation,
    persistence,
    pixels,
    pixel_inputs,
    surface,
    calling,
    refused,
    interpolating,
    handling,
)

KINDS = tuple(module.__name__.rpartition(".")[2] for module in _MODULES)

FAULTS: tuple[Fault, ...] = tuple(
    value for module in _MODULES for value in vars(module).values() if isinstance(value, Fault)
)


def by_id(identity: str) -> Fault:
    """Return the fault of an id. Raises KeyError where there is none."""
    return {fault.id: fault for fault in FAULTS}[identity]


def _essential() -> tuple[Fault, ...]:
    """A small set in which each check has to see some fault: always the one that adds the most checks, the first
    of equals.
    """
    kept: list[Fault] = []
    missing = {check for fault in FAULTS for check in fault.seen_by}
    while missing:
        kept.append(max(FAULTS, key=lambda fault: len(missing & set(fault.seen_by))))
        missing -= set(kept[-1].seen_by)
    return tuple(kept)


ESSENTIAL = _essential()
"""Enough faults that every check has at least one: what ordinary runs apply. The whole catalogue takes minutes."""
