"""A checkpoint on disk: config, tensors, processor files, fingerprints, and reasons to refuse it. No torch.

Only safetensors are read: weights are data, and a pickle is a program.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clip_eval.checkpoint import fingerprints, hub
from clip_eval.checkpoint.dtypes import NUMPY_DTYPES
from clip_eval.checkpoint.fingerprints import Fingerprints
from clip_eval.checkpoint.inventory import check_inventory, config_held, held_by, prefixed
from clip_eval.checkpoint.locate import (
    Place,
    is_directory,
    is_file,
    local_directory,
    locate,
)
from clip_eval.checkpoint.processor_files import find_processor, look_at_processor_files
from clip_eval.checkpoint.tensor_files import TensorEntry, Weights
from clip_eval.checkpoint.weight_files import beside_note, stored_tensors, weight_files, with_scalar_scale
from clip_eval.errors import CheckpointError
from clip_eval.families import roles
from clip_eval.families.config import ClipConfig, TextConfig, VisionConfig
from clip_eval.families.family import Family
from clip_eval.families.holding import HOLDINGS, Holding
from clip_eval.families.registry import family_of
from clip_eval.files.read_write import read_json

__all__ = [
    "Absence",
    "Checkpoint",
    "ConfigFile",
    "local_directory",
    "open_checkpoint",
    "read_config",
]

_KEEP_BYTES = 1 << 29
_COPY_AGAIN = "Copy or download the checkpoint again"
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A config.json, parsed and raw."""

    parsed: ClipConfig
    raw: Mapping[str, object]

    @property
    def family(self) -> Family:
        """The family of the model."""
        return family_of(self.raw.get("model_type"))


@dataclass(frozen=True, slots=True)
class Absence:
    """Why a part of the processor is not there.

    Attributes:
        reason: a sentence for reports.
        missed: whether a checkpoint of this kind should have it; else what it does is not the checkpoint's to say.
    """

    reason: str
    missed: bool


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A CLIP, or a part of one, on disk whose config and tensors agree.

    Attributes:
        path: the directory, absolute.
        source: the user's path or hub id.
        revision: commit of the hub's repository; None for a local directory outside of the hub's cache.
        config: the effective config of `CLIPModel`, complete; of a tower alone that tower's, beside a stand-in.
        raw_config: config.json unchanged.
        tensors: canonical name to place on disk.
        notes: facts about the files for the report that are not failures, a sentence each.
        holds: which part of a model it is.
        variant: of the weights' file name, such as "fp16" in model.fp16.safetensors; None for model.safetensors.
        processor_directory: of the tokenizer's and image processor's files, if they are elsewhere.
    """

    path: Path
    source: str
    revision: str | None
    config: ClipConfig
    raw_config: Mapping[str, object]
    tensors: Mapping[str, TensorEntry]
    notes: tuple[str, ...] = ()
    holds: Holding = HOLDINGS[roles.WHOLE]
    variant: str | None = None
    processor_directory: Path | None = None
    _cache: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def family(self) -> Family:
        """The family of the model."""
        return family_of(self.raw_config.get("model_type"))

    @property
    def dtype(self) -> str:
        """The stored dtype: bfloat16, float16, float32 or float64; if tensors differ, one that holds them all."""
        stored = {entry.dtype for entry in self.tensors.values()}
        return (
            "float32"
            if stored == {"bfloat16", "float16"}
            else max(stored, key=lambda dtype: NUMPY_DTYPES[dtype].itemsize)
        )

    @property
    def standalone_config(self) -> ClipConfig:
        """What the classes of one tower compute with; that of `CLIPModel` where the file says nothing else."""
        if self.holds.role not in (roles.WHOLE, roles.CLASSIFIER):
            return self.config
        return self.family.config.standalone(self.raw_config, where=str(self.path / "config.json"))

    @property
    def standalone_text(self) -> TextConfig:
        """The text tower's config as the standalone classes read it, with their `projection_dim`.

        Raises:
            CheckpointError: they cannot read it.
            NotApplicable: there is no text tower.
        """
        self.holds.require_tower("text")
        return self.family.config.text_alone(self.raw_config, where=str(self.path / "config.json"))

    @property
    def standalone_vision(self) -> VisionConfig:
        """The same of the vision tower.

        Raises:
            CheckpointError: they cannot read it.
            NotApplicable: there is no vision tower.
        """
        self.holds.require_tower("vision")
        return self.family.config.vision_alone(self.raw_config, where=str(self.path / "config.json"))

    def original(self) -> Checkpoint | None:
        """The checkpoint in model.safetensors that this one is a variant of; None without variant or such a file.

        Raises:
            CheckpointError: it is damaged.
        """
        main, _ = weight_files(None)
        if self.variant is None or not is_file(self.path / main):
            return None
        if "original" not in self._cache:
            self._cache["original"] = open_checkpoint(self.path)
        found: Checkpoint = self._cache["original"]
        return found

    @property
    def labels(self) -> int | None:
        """How many labels an image classifier has; None for another checkpoint."""
        if self.holds.role != roles.CLASSIFIER:
            return None
        return self.family.config.labels(self.raw_config, where=str(self.path / "config.json"))

    @property
    def processor_path(self) -> Path:
        """The directory of the tokenizer's and the image processor's files."""
        return self.processor_directory or self.path

    @property
    def has_tokenizer(self) -> bool:
        """Whether there are tokenizer files, and a text tower for them."""
        return self.holds.texts and fingerprints.has_tokenizer(self.processor_path)

    @property
    def has_image_processor(self) -> bool:
        """Whether there are image processor settings, and a vision tower for them."""
        return self.holds.images and fingerprints.has_image_processor(self.processor_path)

    @property
    def tokenizer_absence(self) -> Absence | None:
        """Why there is no tokenizer to judge; None where there is one."""
        if not self.holds.texts:
            return Absence(str(self.holds.lacking), missed=False)
        what = "the checkpoint has no tokenizer (tokenizer.json, or vocab.json with merges.txt)"
        return None if self.has_tokenizer else Absence(what, missed=True)

    @property
    def image_processor_absence(self) -> Absence | None:
        """Why there is no image processor to judge; None where there is one. A vision tower alone needs none."""
        if not self.holds.images:
            return Absence(str(self.holds.lacking), missed=False)
        if self.has_image_processor:
            return None
        if self.holds.whole:
            return Absence("the checkpoint has no image processor (preprocessor_config.json)", missed=True)
        what = f"the checkpoint holds {self.holds.in_words} only, and no image processor (preprocessor_config.json)"
        return Absence(what, missed=False)

    def weights(self, dtype: str) -> Weights:
        """All tensors by canonical name: values rounded to `dtype` (to nearest, ties to even), as float64.

        Tensors are read on access, and the first half gibibyte of them is kept.

        Args:
            dtype: bfloat16, float16 or float32; float64 for the values as they are stored.
        """
        key = f"weights {dtype}"
        if key not in self._cache:
            self._cache[key] = Weights(self.tensors, dtype, keep_bytes=_KEEP_BYTES)
        weights: Weights = self._cache[key]
        return weights

    def digests(self, dtype: str = "float32") -> Mapping[str, str]:
        """Canonical name to digest of the values rounded to `dtype`, sha256 in hexadecimal.

        Two checkpoints have the same weights up to rounding if their digests for the narrower stored dtype are equal.

        Args:
            dtype: bfloat16, float16 or float32.
        """
        key = f"digests {dtype}"
        if key not in self._cache:
            self._cache[key] = {name: fingerprints.tensor_digest(entry, dtype) for name, entry in self.tensors.items()}
        digests: Mapping[str, str] = self._cache[key]
        return digests

    def fingerprints(self) -> Fingerprints:
        """Digests of weights, config, tokenizer and image processor; reads every tensor once.

        Raises:
            CheckpointError: a file of the tokenizer or of the image processor is damaged.
        """
        if "fingerprints" not in self._cache:
            self._cache["fingerprints"] = Fingerprints(
                weights=fingerprints.weights_fingerprint(self.tensors, self.digests()),
                config=fingerprints.config_fingerprint(self.config, self.raw_config),
                tokenizer=fingerprints.tokenizer_fingerprint(self.processor_path) if self.holds.texts else None,
                image_processor=fingerprints.image_processor_fingerprint(self.processor_path)
                if self.holds.images
                else None,
            )
        found: Fingerprints = self._cache["fingerprints"]
        return found


def open_checkpoint(
    source: str | Path, *, variant: str | None = None, processor: str | Path | None = None
) -> Checkpoint:
    """Find a checkpoint and check that it is a CLIP, or a part of one, with intact files. Values are not read.

    Args:
        source: a directory, or a hub id `org/name` or `org/name@revision`, which is downloaded. An existing path wins,
            and a text of that form is a path, too, where a directory `org` exists. A directory that says by its own
            files where in it a CLIP lies stands for that one.
        variant: of the weights' file, such as "fp16" for model.fp16.safetensors; model.safetensors by default.
        processor: a directory with the tokenizer's or image processor's files; by default the checkpoint's own, or
            of a pipeline's encoder the one beside it.

    Raises:
        CheckpointError: nothing there, another architecture, damaged files, or config and tensors that disagree.
        UsageError: several checkpoints there, which are named; no such variant; or no processor in the directory named.
    """
    place = _located(source, variant)
    path = place.path
    raw = (file := read_config(path)).raw
    family, reader = file.family, file.family.config
    stored = prefixed(stored_tensors(path, variant), raw, family=family)
    own = {name: entry for name, entry in stored.items() if name not in family.ignored_tensors}
    tensors, scale_note = with_scalar_scale(own)
    holding = held_by(tensors, raw, family=family, where=path)
    config = config_held(raw, holding, family=family, where=path)
    check_inventory(tensors, config, raw, holding, family=family, where=path)
    files = find_processor(path, holding, named=None if processor is None else Path(processor))
    notes = (
        place.note, files.note, *_part_notes(files.path, holding), beside_note(path, variant),
        *reader.notes(raw, where="config.json"), scale_note,
        *look_at_processor_files(files.path),
    )  # fmt: skip
    present = tuple(note for note in notes if note is not None)
    elsewhere = None if files.path == path else files.path
    return Checkpoint(path, str(source), place.revision, config, raw, tensors, present, holding, variant, elsewhere)


def _part_notes(processor: Path, holding: Holding) -> tuple[str, ...]:
    """What the report says of a part of a model: what was not judged because it is not there."""
    if holding.whole:
        return ()
    held = f"The checkpoint holds {holding.in_words} only: checks of what it does not hold do not apply."
    if not holding.images or fingerprints.has_image_processor(processor):
        return (held,)
    return (held, "It has no image processor, so how pictures become pixels was not judged: --processor names one.")


def read_config(directory: Path) -> ConfigFile:
    """The checked config.json of a checkpoint directory.

    Raises:
        CheckpointError: there is none, it is not JSON, or not a CLIP's.
    """
    file = directory / "config.json"
    if not is_file(file):
        raise CheckpointError("the directory has no config.json", where=directory, fix="Name a checkpoint directory")
    _refuse_mark(file)
    raw = read_json(file, error=CheckpointError)
    if not isinstance(raw, dict):
        raise CheckpointError("the config is not a JSON object", where=file, fix=_COPY_AGAIN)
    return ConfigFile(family_of(raw.get("model_type")).config.parse(raw, where=str(file)), raw)


def _located(source: str | Path, variant: str | None) -> Place:
    path = Path(source)
    named = hub.parse_hub_id(source) if isinstance(source, str) else None
    if is_file(path) or is_directory(path) or named is None or is_directory(Path(named.organisation)):
        return locate(path)
    snapshot = hub.download(named, variant)
    return Place(snapshot.path, snapshot.revision)


def _refuse_mark(file: Path) -> None:
    """Refuse a byte order mark, which transformers 4.57 to 5.23 refuse as invalid JSON."""
    try:
        with file.open("rb") as opened:
            start = opened.read(3)
    except OSError:
        return  # read_json raises the error
    encoding = next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)
    if encoding is not None:
        code = (
            f'from pathlib import Path; p = Path("{file.name}"); '
            f'p.write_bytes(p.read_text(encoding="{encoding}").encode())'
        )
        raise CheckpointError(
            "the file begins with a byte order mark, and transformers refuses it as invalid JSON",
            where=file,
            fix=f"Save it as UTF-8 without the mark: python -c {shlex.quote(code)} in its directory does",
        )
