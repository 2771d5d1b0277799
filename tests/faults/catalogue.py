"""All faults, from the modules of this package that define some."""

from __future__ import annotations

from clip_eval.run.declared_checks import declared_checks
from faults import (
    alone,
    attention,
    calling,
    classes,
    config,
    conversions,
    handling,
    heads,
    interpolating,
    invariants,
    localisation,
    making,
    options,
    outputs,
    patterns,
    persistence,
    picture_modes,
    pixel_inputs,
    pixels,
    processor,
    refused,
    rows,
    surface,
    token_batches,
    token_files,
    tokens,
    towers,
    weights,
)
from faults.fault import Fault

__all__ = ["ESSENTIAL", "FAULTS", "KINDS", "by_id", "reach"]

_MODULES = (
    towers,
    attention,
    heads,
    outputs,
    options,
    weights,
    config,
    conversions,
    processor,
    tokens,
    token_batches,
    token_files,
    patterns,
    rows,
    invariants,
    localisation,
    persistence,
    pixels,
    picture_modes,
    pixel_inputs,
    surface,
    calling,
    refused,
    interpolating,
    handling,
    classes,
    making,
    alone,
)

KINDS = tuple(module.__name__.rpartition(".")[2] for module in _MODULES)

FAULTS: tuple[Fault, ...] = tuple(
    value for module in _MODULES for value in vars(module).values() if isinstance(value, Fault)
)


_PROCESSING = frozenset({"pixels", "pixel_inputs", "pixel_options", "processor", "tokenizer", "token_batches"})
"""The chapters on image processors and tokenizers, which no fault of the models reaches."""

_OF_PROCESSING = (processor, tokens, token_batches, token_files, patterns, pixels, picture_modes, pixel_inputs)
"""The modules whose faults reach nothing else: the other chapters make their inputs without transformers."""

_OF_MODELS = (
    towers, attention, heads, outputs, options, rows, invariants, localisation, persistence, calling, refused,
    interpolating, handling, classes,
)  # fmt: skip
"""The modules whose faults lie in the models' own code. What else there is can be seen anywhere."""


def reach(fault: Fault) -> frozenset[str]:
    """Return the chapters of the suite that can see a fault at all."""
    # no fault is run on a dataset, so the scores, which are chapters too, are not asked
    every = frozenset(check.id.partition(".")[0] for check in declared_checks() if check.scope != "tasks")
    kinds = {module.__name__.rpartition(".")[2] for module in _OF_PROCESSING}
    if fault.kind in kinds:
        return _PROCESSING | fault.chapters
    models = {module.__name__.rpartition(".")[2] for module in _OF_MODELS}
    return (every - _PROCESSING) | fault.chapters if fault.kind in models else every


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
"""Enough faults that every check has at least one: what the ordinary runs under 4.57 and 5 apply together. The whole
catalogue takes minutes.
"""
