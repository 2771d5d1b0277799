"""A conversion against its original: every tensor, and every value of the config."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clip_eval.checkpoint.checkpoint import Checkpoint
from clip_eval.checkpoint.dtypes import NUMPY_DTYPES, ROUNDED_DTYPES, round_values
from clip_eval.checkpoint.original import Original
from clip_eval.checkpoint.tensor_files import TensorEntry, read_values, value_chunks
from clip_eval.families.config import ClipConfig
from clip_eval.families.family import Stated

__all__ = ["ConfigDifference", "TensorDifference", "config_differences", "holds", "tensor_differences"]

Kind = Literal["missing", "left over", "shape", "transposed", "another part", "rounded", "values"]


@dataclass(frozen=True, slots=True)
class TensorDifference:
    """A tensor that is not the original's.

    Attributes:
        name: the canonical name; of a tensor that is left over, the original's.
        kind: what is wrong with it.
        detail: more words, for this tensor; for some kinds the same for several.
        fields: of config.json, which its shape follows from.
    """

    name: str
    kind: Kind
    detail: str = ""
    fields: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ConfigDifference:
    """A field of config.json with another value than the original's.

    Attributes:
        field: its dotted name.
        value: what the classes that read it compute with.
        readers: those classes, for the report; empty for all.
        original: what the original's config says.
    """

    field: str
    value: object
    readers: str
    original: Stated


def config_differences(checkpoint: Checkpoint, stated: Mapping[str, Stated]) -> tuple[ConfigDifference, ...]:
    """The fields whose value in effect is another, in `CLIPModel` or in the classes of one tower.

    Fields of a tower that the checkpoint does not hold are left out.

    Args:
        checkpoint: the conversion.
        stated: dotted field to what the original says.
    """
    return tuple(
        difference
        for field, original in stated.items()
        if holds(checkpoint, field.rpartition(".")[0]) and (difference := _differs(checkpoint, field, original))
    )


def holds(checkpoint: Checkpoint, section: str) -> bool:
    """Whether the checkpoint has the tower of a section of config.json, or is a whole model for the section ""."""
    towers = (checkpoint.family.text, checkpoint.family.vision)
    prefix = next((f"{tower.module}." for tower in towers if tower.section == section), "logit_scale")
    return any(name.startswith(prefix) for name in checkpoint.tensors)


def _differs(checkpoint: Checkpoint, field: str, original: Stated) -> ConfigDifference | None:
    whole, alone = (_value(config, field) for config in (checkpoint.config, checkpoint.standalone_config))
    if whole != original.value:
        return ConfigDifference(field, whole, "", original)
    if alone != original.value:
        return ConfigDifference(field, alone, "the classes of one tower", original)
    return None


def _value(config: ClipConfig, field: str) -> object:
    section, _, name = field.rpartition(".")
    return getattr({"text_config": config.text, "vision_config": config.vision, "": config}[section], name)


def tensor_differences(checkpoint: Checkpoint, original: Original) -> Iterator[TensorDifference]:
    """Every tensor that is not the original's, rounded to the dtype that the conversion stores it in, bit for bit.

    Args:
        checkpoint: the conversion.
        original: opened for it.
    """
    axes = checkpoint.family.expected_tensors(checkpoint.config)
    yield from (TensorDifference(name, "missing") for name in original.missing)
    yield from (TensorDifference(name, "left over") for name in original.left_over)
    for name, stored in checkpoint.tensors.items():
        source = original.entry(name)
        if source is None:
            continue
        found = _compared(name, stored, source, original)
        if found is not None:
            fields = frozenset(field for axis in axes.get(name, ()) for field in axis.fields)
            yield replace(found, fields=fields)


def _compared(name: str, stored: TensorEntry, source: TensorEntry, original: Original) -> TensorDifference | None:
    transposed = original.origins[name].transposed
    shape = source.shape[::-1] if transposed else source.shape
    if math.prod(shape) == 1 == math.prod(stored.shape):
        shape = stored.shape  # logit_scale may be a number or a list of one
    if source.dtype not in NUMPY_DTYPES or shape != stored.shape:
        what = f"{name} is {stored.shape}, and the original's is {shape} of {source.dtype}"
        return TensorDifference(name, "shape", what)
    if _equal(stored, source, transposed=transposed):
        return None
    return _explained(name, stored, source, original)


def _equal(stored: TensorEntry, source: TensorEntry, *, transposed: bool = False, through: str = "float64") -> bool:
    """Whether the values are the source's, first rounded to `through`, then to the stored dtype; NaN equals NaN."""
    if transposed and len(source.shape) > 1:
        expected = _rounded(read_values(source, through).T, stored.dtype)  # the tensor's shape
        return np.array_equal(read_values(stored, "float64"), expected, equal_nan=True)
    chunks = zip(value_chunks(stored), value_chunks(source), strict=True)
    return all(
        np.array_equal(one, _rounded(_rounded(other, through), stored.dtype), equal_nan=True) for one, other in chunks
    )


def _rounded(
    values: NDArray[np.float64] | NDArray[np.float32], dtype: str
) -> NDArray[np.float64] | NDArray[np.float32]:
    return round_values(values, dtype) if dtype in ROUNDED_DTYPES else values


def _explained(name: str, stored: TensorEntry, source: TensorEntry, original: Original) -> TensorDifference:
    """The usual errors of conversions, else the first element that differs."""
    origin = original.origins[name]
    square = len(set(source.shape)) == 1 and len(source.shape) > 1
    if square and _equal(stored, source, transposed=not origin.transposed):
        return TensorDifference(name, "transposed")
    for other, place in original.origins.items():
        if place.name == origin.name and other != name:
            part = original.entry(other)
            if part is not None and part.shape == stored.shape and _equal(stored, part):
                return TensorDifference(name, "another part", _part_name(other))
    for dtype in ROUNDED_DTYPES:
        if dtype != stored.dtype and _equal(stored, source, transposed=origin.transposed, through=dtype):
            return TensorDifference(name, "rounded", dtype)
    return TensorDifference(name, "values", _first(name, stored, source, transposed=origin.transposed))


def _part_name(name: str) -> str:
    return name.split(".")[-2]


def _first(name: str, stored: TensorEntry, source: TensorEntry, *, transposed: bool) -> str:
    there = read_values(source, "float64")  # the source's shape
    expected = _rounded(there.T if transposed else there, stored.dtype).reshape(stored.shape)  # the tensor's shape
    observed = read_values(stored, "float64")  # the tensor's shape
    differs = (observed != expected) & ~(np.isnan(observed) & np.isnan(expected))  # the tensor's shape
    index = np.unravel_index(int(np.argmax(differs)), stored.shape) if stored.shape else ()
    place = f"[{', '.join(map(str, index))}]" if index else ""
    values = f"{name}{place} is {observed[index]:.9g}, and the original's is {expected[index]:.9g}"
    return f"{values} ({int(differs.sum())} of its {differs.size} elements)"
