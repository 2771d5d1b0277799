"""The content of a baseline pack. NumPy only: a pack is opened before tests are collected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TypeAlias
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from packaging.version import Version

from clip_eval.checkpoint.fingerprints import Fingerprints
from clip_eval.checkpoint.inventory import holding_of
from clip_eval.errors import PackError
from clip_eval.families.config import ClipConfig
from clip_eval.families.holding import Holding
from clip_eval.families.registry import DEFAULT
from clip_eval.probes.batches import Batch
from clip_eval.throughput.ratio import Speed
from clip_eval.verdict.plain_values import Json

__all__ = ["SCHEMA_VERSION", "Approved", "Environment", "Pack", "PackedTask", "PackedTensor", "Recorded", "Surface"]

SCHEMA_VERSION = 1

Surface: TypeAlias = Mapping[str, Json]
"""Id to plain value, with one entry for each thing that can change independently."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What a surface depends on beside the checkpoint.

    Attributes:
        transformers: the release, such as 5.23.0.
        attention: the attention implementation in use.
    """

    transformers: str
    attention: str

    def __str__(self) -> str:
        return f"transformers {self.transformers} with {self.attention} attention"

    @property
    def file(self) -> str:
        """Name of the surface's file, escaped, since names of attention kernels may have slashes."""
        return f"surface-{quote(self.transformers, safe='')}-{quote(self.attention, safe='')}.json"

    @property
    def version(self) -> Version:
        """The release, for ordering."""
        return Version(self.transformers)


@dataclass(frozen=True, slots=True)
class Approved:
    """One approved environment: its surface, and when and where it was recorded."""

    surface: Surface
    provenance: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class PackedTensor:
    """One weight: its shape, its stored dtype, and the digest of its values rounded to each dtype."""

    shape: tuple[int, ...]
    dtype: str
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PackedTask:
    """What the approved release scored in one task.

    Attributes:
        dataset: digest of the evaluation set.
        samples: the sample id of each value, (values,); those of one sample stand in a row.
        values: name of each score to its values, (values,), all finite.
    """

    dataset: str
    samples: tuple[str, ...]
    values: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One output of the approved release.

    Attributes:
        value: as returned, float32.
        error: value minus the float64 reference for the same weights and inputs, float32, the same shape.
    """

    value: NDArray[np.float32]
    error: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """An approved release.

    Attributes:
        source: name of the checkpoint, without its path; or the hub id.
        revision: commit of the hub's repository; None for a directory.
        config: its effective config.
        fingerprints: digests of its parts.
        tensors: canonical name to shape, dtype and digests.
        environments: every approved environment, by release, then attention.
        recorded_in: the environment that made the numeric record.
        inputs: what the model was given.
        outputs: what it returned, by name (see `clip_eval.baseline.recorded_outputs`).
        tasks: task name to values; empty where the pack was recorded without an evaluation set.
        settings: what its other files say, by the id that a change of it has; empty in packs that state digests only.
        speeds: how fast it was, one entry a machine and release; empty where nobody asked for it.
        digest: sha256 of pack.json, which seals the other files; empty before it is written.
    """

    source: str
    revision: str | None
    config: ClipConfig
    fingerprints: Fingerprints
    tensors: Mapping[str, PackedTensor]
    environments: Mapping[Environment, Approved]
    recorded_in: Environment
    inputs: Batch
    outputs: Mapping[str, Recorded]
    tasks: Mapping[str, PackedTask] = field(default_factory=dict)
    settings: Mapping[str, Json] = field(default_factory=dict)
    speeds: tuple[Speed, ...] = ()
    digest: str = ""

    @property
    def holds(self) -> Holding:
        """Which part of a model was approved."""
        return holding_of(self.tensors, DEFAULT)

    @property
    def device(self) -> str:
        """The device that the numeric record was made on."""
        return str(self.environments[self.recorded_in].provenance["device"])

    def has_inputs(self, batch: Batch) -> bool:
        """Whether the pack's inputs are those of `batch`, bit for bit."""
        names = (field.name for field in fields(Batch))
        return all(np.array_equal(getattr(self.inputs, name), getattr(batch, name)) for name in names)

    def nearest(self, environment: Environment) -> Environment:
        """Return `environment` if approved, else the newest approved release, if possible with the same attention."""
        if environment in self.environments:
            return environment
        return max(self.environments, key=lambda known: (known.version, known.attention == environment.attention))

    def require_same_part(self, holding: Holding, *, where: object) -> None:
        """Refuse a candidate that holds another part of a model.

        Raises:
            PackError: the message says which part each is.
        """
        if holding.role != self.holds.role:
            what = f"the pack was recorded from {self.holds.in_words}, and the checkpoint holds {holding.in_words}"
            raise PackError(what, where=where, fix="Name the pack of a checkpoint of the same class")

    def require_inputs_fit(self, config: ClipConfig, *, where: object) -> None:
        """Refuse a candidate that cannot take the pack's inputs.

        Raises:
            PackError: a size differs; the message names it.
        """
        problem = self.misfit(config)
        if problem is not None:
            raise PackError(
                f"the pack was recorded for another architecture: it holds {problem}",
                where=where,
                fix="Name the candidate's own pack, or add --new-weights if it replaces the approved model",
            )

    def misfit(self, config: ClipConfig) -> str | None:
        """Return why a model of this config cannot take the pack's inputs; None if it can."""
        images = tuple(self.inputs.pixel_values.shape[1:])
        takes = (config.vision.num_channels, config.vision.image_size, config.vision.image_size)
        ids = self.inputs.input_ids  # (texts, tokens)
        tokens, smallest, largest = ids.shape[1], int(ids.min()), int(ids.max())
        if images != takes:
            return f"images of {_sizes(images)}, and the config says {_sizes(takes)}"
        if tokens > config.text.max_position_embeddings:
            return f"texts of {tokens} tokens, and the config says {config.text.max_position_embeddings}"
        if smallest < 0:
            return f"the token id {smallest}, and there are no negative ones"
        if largest >= config.text.vocab_size:
            return f"token ids up to {largest}, and the config says {config.text.vocab_size} tokens"
        return None


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
