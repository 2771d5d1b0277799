"""A candidate against the pack: weights that differ, expected outputs, changes of the surface."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from clip_eval.baseline.pack import Environment, Pack, PackedTensor
from clip_eval.baseline.recorded_outputs import BY_NAME
from clip_eval.baseline.surface.diff import change, changes
from clip_eval.baseline.surface.snapshot import observe_surface
from clip_eval.checkpoint.checkpoint import Checkpoint
from clip_eval.checkpoint.dtypes import ROUNDED_DTYPES
from clip_eval.checkpoint.fingerprints import (
    config_fingerprint,
    image_processor_fields,
    output_options,
    tokenizer_fields,
)
from clip_eval.embedding.embed import unit
from clip_eval.families.config import ClipConfig
from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.subject.observations import Clip
from clip_eval.verdict.compare import Expected, to_array
from clip_eval.verdict.measurement import format_number
from clip_eval.verdict.plain_values import Json, plain
from clip_eval.verdict.run_record import SurfaceChange

__all__ = [
    "Baseline",
    "TensorDifference",
    "checkpoint_changes",
    "checkpoint_settings",
    "environment_of",
    "pack_tensors",
    "weight_differences",
]


@dataclass(frozen=True, slots=True)
class TensorDifference:
    """One weight that differs from the pack's: its canonical name, and how it differs."""

    name: str
    what: str


@dataclass(frozen=True, slots=True)
class Baseline:
    """The approved release, for checks that compare a candidate with it.

    Attributes:
        pack: the approved release.
        candidate: the candidate's observations on its own probe.
        clip: the candidate's observations on the pack's inputs, nearly always the same inputs.
        oracle: the reference for the candidate's weights and dtype on the pack's inputs, under the pack's config, so
            that a changed config shows as a difference.
    """

    pack: Pack
    candidate: Clip
    clip: Clip
    oracle: Oracle

    @property
    def checkpoint(self) -> Checkpoint:
        """The candidate on disk."""
        return self.candidate.checkpoint

    @property
    def environment(self) -> Environment:
        """The environment of this run."""
        return environment_of(self.candidate)

    def weight_differences(self) -> tuple[TensorDifference, ...]:
        """Return the weights that differ from the pack's; see the function of this name."""
        return weight_differences(self.pack.tensors, self.checkpoint)

    def expected(self, name: str) -> Expected:
        """Return the expected value of output `name`, if the weights are the pack's.

        It is the pack's value plus the effect of rounding weights and inputs to the candidate's dtype: the difference
        between the references for candidate and pack, which is zero for float32 and equal weights. The bound is the
        candidate's budget plus the actual error of the pack's value, so that no candidate within its budget exceeds it.

        Args:
            name: one that the pack records.
        """
        recorded, reference = self.pack.outputs[name], BY_NAME[name].expect(self.oracle)
        error = recorded.error.astype(np.float64)  # the output's shape
        # The reference for the pack is value - error.
        value = recorded.value if self._computes_the_same else reference.value + error  # the output's shape
        bound = reference.bound + np.abs(error)  # the output's shape
        return Expected(np.asarray(value, dtype=np.float64), bound, f"{reference.rule}, plus the pack's own error")

    def moved(self) -> str:
        """Return how far the embeddings lie from the pack's on its inputs, a sentence; empty for another config."""
        if self.pack.config != self.checkpoint.config or not self.checkpoint.holds.whole:
            return ""
        found = []
        for name, what in (("image_embeds", "image"), ("text_embeds", "text")):
            now = unit(to_array(BY_NAME[name].observe(self.clip)))  # (rows, projection)
            cosines = (now * unit(self.pack.outputs[name].value.astype(np.float64))).sum(axis=1)  # (rows,)
            found.append(f"{format_number(1 - float(cosines.min()))} for {what} embeddings")
        return f"On the pack's inputs the cosine distance from the approved release's is up to {' and '.join(found)}."

    def surface_changes(self) -> tuple[SurfaceChange, ...]:
        """Return every difference against the pack: of the checkpoint's parts, then of the nearest approved surface."""
        approved = self.pack.environments[self.pack.nearest(self.environment)]
        return (
            *checkpoint_changes(self.pack, self.checkpoint),
            *changes(approved.surface, observe_surface(self.candidate)),
        )

    @property
    def _computes_the_same(self) -> bool:
        digests = self.checkpoint.digests("float32")
        same = all(tensor.digests["float32"] == digests[name] for name, tensor in self.pack.tensors.items())
        return same and self.clip.dtype == "float32"


def environment_of(clip: Clip) -> Environment:
    """Return the environment that a subject runs in."""
    return Environment(str(clip.release), clip.attention)


def pack_tensors(checkpoint: Checkpoint) -> dict[str, PackedTensor]:
    """Return the tensor index of a checkpoint as packs hold it; reads every tensor three times."""
    digests = {dtype: checkpoint.digests(dtype) for dtype in ROUNDED_DTYPES}
    return {
        name: PackedTensor(entry.shape, entry.dtype, {dtype: values[name] for dtype, values in digests.items()})
        for name, entry in checkpoint.tensors.items()
    }


def weight_differences(packed: Mapping[str, PackedTensor], checkpoint: Checkpoint) -> tuple[TensorDifference, ...]:
    """Return the tensors of `checkpoint` that differ from the pack's, in the pack's order, new ones last.

    Weights are the same if canonical name, shape and values are equal, or if the values are equal after rounding to
    the narrower of both stored dtypes.
    """
    return tuple(_differences(packed, checkpoint))


def checkpoint_changes(pack: Pack, checkpoint: Checkpoint) -> tuple[SurfaceChange, ...]:
    """Return the differences of config (by field), tokenizer and image processor, which do not depend on the
    environment.
    """
    fields = changes(_fields(pack.config), _fields(checkpoint.config))
    # the pack's fields with the candidate's other settings: the digests differ only if those do
    options = config_fingerprint(pack.config, checkpoint.raw_config)
    before, after = pack.fingerprints, checkpoint.fingerprints()
    parts = (
        ("config.output_options", "the output options in config.json", before.config, options),
        ("checkpoint.tokenizer", "the tokenizer on disk", before.tokenizer, after.tokenizer),
        ("checkpoint.image_processor", "the image processor on disk", before.image_processor, after.image_processor),
    )
    different = [part for part in parts if part[2] != part[3]]
    by_field = (_by_field(pack, checkpoint, *part) for part in different)
    return (*fields, *(change for part in by_field for change in part))


def checkpoint_settings(checkpoint: Checkpoint) -> dict[str, Json]:
    """Return the settings in the files beside the weights, by the id of a change of each."""
    parts = {
        "config.output_options": output_options(checkpoint.raw_config),
        "checkpoint.tokenizer": tokenizer_fields(checkpoint.processor_path) if checkpoint.holds.texts else {},
        "checkpoint.image_processor": image_processor_fields(checkpoint.processor_path)
        if checkpoint.holds.images
        else {},
    }
    # as read back from a pack: JSON has lists only
    return {
        f"{part}.{name}": json.loads(json.dumps(plain(value)))
        for part, found in parts.items()
        for name, value in found.items()
    }


def _by_field(
    pack: Pack, checkpoint: Checkpoint, part: str, what: str, before: str | None, after: str | None
) -> tuple[SurfaceChange, ...]:
    """The fields of a part that differ; the whole part if one side lacks it, or the pack has no fields."""
    prefix = f"{part}."
    one = {name: value for name, value in pack.settings.items() if name.startswith(prefix)}
    other = {name: value for name, value in checkpoint_settings(checkpoint).items() if name.startswith(prefix)}
    is_known = pack.settings and before is not None and after is not None
    field_changes = tuple(replace(entry, what=what) for entry in changes(one, other)) if is_known else ()
    return field_changes or (change(part, what, _digest(before), _digest(after)),)


def _differences(packed: Mapping[str, PackedTensor], checkpoint: Checkpoint) -> Iterator[TensorDifference]:
    for name, before in packed.items():
        after = checkpoint.tensors.get(name)
        if after is None:
            yield TensorDifference(name, "missing from the candidate")
            continue
        narrower = min((_digest_dtype(before.dtype), _digest_dtype(after.dtype)), key=ROUNDED_DTYPES.index)
        if before.shape != after.shape:
            yield TensorDifference(name, f"shape {after.shape} instead of {before.shape}")
        elif before.digests[narrower] != checkpoint.digests(narrower)[name]:
            yield TensorDifference(name, f"other values, compared in {narrower}")
    for name in checkpoint.tensors:
        if name not in packed:
            yield TensorDifference(name, "new in the candidate")


def _digest_dtype(stored: str) -> str:
    """The digest that tells most of a stored dtype: float64 is run as float32."""
    return stored if stored in ROUNDED_DTYPES else "float32"


def _fields(config: ClipConfig) -> dict[str, Json]:
    """Every field by its dotted name in config.json."""
    flat: dict[str, Json] = {}
    for name, value in asdict(config).items():
        if isinstance(value, dict):
            flat.update({f"config.{name}_config.{key}": item for key, item in value.items()})
        else:
            flat[f"config.{name}"] = value
    return flat


def _digest(value: str | None) -> str:
    return "none" if value is None else f"digest {value}"
