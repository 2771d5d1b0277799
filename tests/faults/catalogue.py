"""All faults, from the modules of this package that define some."""

from __future__ import annotations

from faults import config, heads, options, outputs, processor, towers, weights
from faults.fault import Fault

__all__ = ["ESSENTIAL", "FAULTS", "KINDS", "by_id"]

_MODULES = (towers, heads, outputs, options, weights, config, processor)

KINDS = tuple(module.__name__.rpartition(".")[2] for module in _MODULES)

FAULTS: tuple[Fault, ...] = tuple(
    value for module in _MODULES for value in vars(module).values() if isinstance(value, Fault)
)


def by_id(identity: str) -> Fault:
    """Return the fault of an id. Raises KeyError where there is none."""
    return {fault.id: fault for fault in FAULTS}[identity]


def _essential() -> tuple[Fault, ...]:
    kept: list[Fault] = []
    seen: set[str] = set()
    for fault in FAULTS:
        if not seen.issuperset(fault.seen_by):
            kept.append(fault)
            seen.update(fault.seen_by)
    return tuple(kept)


ESSENTIAL = _essential()
"""Enough faults that every check has at least one: what the ordinary tests run. The whole catalogue takes minutes."""
