"""All faults, from the modules of this package that define some."""

from __future__ import annotations

from faults import config, heads, options, outputs, processor, towers, weights
from faults.fault import Fault

__all__ = ["FAULTS", "KINDS"]

_MODULES = (towers, heads, outputs, options, weights, config, processor)

KINDS = tuple(module.__name__.rpartition(".")[2] for module in _MODULES)

FAULTS: tuple[Fault, ...] = tuple(
    value for module in _MODULES for value in vars(module).values() if isinstance(value, Fault)
)
