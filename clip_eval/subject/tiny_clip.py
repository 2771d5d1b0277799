"""A tiny CLIP of the candidate's kind: its config.json but for sizes, random weights, loaded as the candidate is.

What depends on transformers and the config alone, such as saving, loading and the pooling rule, is tested on it: it
takes milliseconds, may be changed, and leaves the candidate as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from clip_eval.checkpoint.checkpoint import Checkpoint, open_checkpoint
from clip_eval.checkpoint.dtypes import NUMPY_DTYPES, ROUNDED_DTYPES
from clip_eval.checkpoint.inventory import config_held, held_tensors
from clip_eval.checkpoint.tensor_files import header_bytes
from clip_eval.families.family import EntryPoint
from clip_eval.families.roles import CLASSIFIER
from clip_eval.files.read_write import write_bytes, write_json
from clip_eval.subject import Subject

__all__ = [
    "SMALL_TEXTS",
    "STORED",
    "classifier_of",
    "classifier_weights",
    "edit_tensors",
    "new_model",
    "small_inputs",
    "small_subject",
    "write_stand_in",
]

SMALL_TEXTS = ((5, 1, 3, 4, 6, 6, 6, 6), (5, 2, 6, 6, 6, 6, 6, 6), (5, 7, 3, 6, 1, 6, 6, 6))
"""Texts of the tiny model."""

_SPREAD = 0.5
"""Standard deviation of the weights: large enough that no two states of the tiny model are equal."""


def small_subject(
    directory: Path,
    like: Subject,
    *,
    seed: int = 0,
    text: Mapping[str, object] | None = None,
    vision: Mapping[str, object] | None = None,
) -> Subject:
    """Write a tiny checkpoint and return it as a subject with the dtype, device and attention of another.

    It has 8 tokens (start 5, end 6, so that 7 is an id above the end), 8 positions, widths of 8 and one layer.

    Args:
        directory: made if it is missing.
        like: the candidate.
        seed: of the weights.
        text: fields of text_config that differ from the candidate's, or from these sizes.
        vision: the same for vision_config.
    """
    directory.mkdir(parents=True, exist_ok=True)
    write_stand_in(directory, like.checkpoint, "float32", text=text, vision=vision)
    generator = np.random.Generator(np.random.PCG64(seed))

    def fill(tensors: dict[str, NDArray[Any]]) -> None:
        for name, zeros in tensors.items():
            tensors[name] = generator.normal(0.0, _SPREAD, zeros.shape).astype(np.float32)  # the tensor's shape

    edit_tensors(directory, fill)
    return Subject(open_checkpoint(directory), like.dtype, like.device, like.attention, like)


def edit_tensors(directory: Path, change: Callable[[dict[str, NDArray[Any]]], None]) -> None:
    """Let `change` alter the tensors of model.safetensors in place, name to float32 array."""
    path = directory / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    write_bytes(path, save(tensors, metadata={"format": "pt"}))


def small_inputs(subject: Subject, entry: EntryPoint) -> dict[str, Any]:
    """Return tensors for an entry point of a tiny model: three texts, two images."""
    vision, ids = subject.checkpoint.config.vision, np.array(SMALL_TEXTS)  # (texts, tokens)
    shape = (2, vision.num_channels, vision.image_size, vision.image_size)
    pixels = np.linspace(-2, 2, int(np.prod(shape)), dtype=np.float32).reshape(shape)  # (images, channels, side, side)
    texts = {"input_ids": ids, "attention_mask": np.ones_like(ids)} if entry.texts else {}
    return subject.tensors({**texts, **({"pixel_values": pixels} if entry.images else {})})


STORED = ROUNDED_DTYPES

_WIDTHS = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "projection_dim": 8,
}
_TEXT = {
    **_WIDTHS,
    "vocab_size": 8,
    "max_position_embeddings": 8,
    "bos_token_id": 5,
    "eos_token_id": 6,
    "pad_token_id": 6,
}
_VISION = {**_WIDTHS, "image_size": 8, "patch_size": 8}
_LABEL_FIELDS = ("num_labels", "id2label", "label2id", "problem_type")
_DTYPE_FIELDS = ("dtype", "torch_dtype")  # transformers 4.56 renamed the field; both are read


def write_stand_in(
    directory: str | Path,
    checkpoint: Checkpoint,
    stored: str,
    *,
    text: Mapping[str, object] | None = None,
    vision: Mapping[str, object] | None = None,
) -> None:
    """Write a checkpoint of a few hundred weights whose config.json is the candidate's in everything but size.

    Where config.json states the dtype that the candidate is stored in, the stand-in's states its own; another statement
    is kept.

    Args:
        directory: an existing directory.
        checkpoint: the candidate.
        stored: one of `STORED`.
        text: fields of text_config that differ, sizes too.
        vision: the same for vision_config.
    """
    raw = _sized(checkpoint, stored, {**_TEXT, **(text or {})}, {**_VISION, **(vision or {})})
    family, holding = checkpoint.family, checkpoint.holds
    config = config_held(raw, holding, family=family, where=Path(directory))
    labels = family.config.labels(raw, where="the stand-in") if holding.role == CLASSIFIER else 0
    held = held_tensors(config, holding, family=family, labels=labels)
    shapes = {name: tuple(axis.size for axis in axes) for name, axes in held.items()}
    write_json(Path(directory) / "config.json", raw)
    (Path(directory) / "model.safetensors").write_bytes(_zeros(shapes, stored))


def classifier_of(directory: Path, small: Subject, *, labels: int) -> Subject:
    """Return a subject whose files are those of a stand-in and a classifier besides, for CLIPForImageClassification.

    Args:
        directory: made for them.
        small: the stand-in.
        labels: how many the classifier has; 0 for no classifier.
    """
    directory.mkdir(parents=True)
    raw = {key: value for key, value in small.checkpoint.raw_config.items() if key not in _LABEL_FIELDS}
    write_json(directory / "config.json", {**raw, "num_labels": labels})
    stored = load_file(small.checkpoint.path / "model.safetensors")
    tensors = {name: values for name, values in stored.items() if not name.startswith("classifier.")}
    width = small.checkpoint.config.vision.hidden_size
    write_bytes(
        directory / "model.safetensors",
        save({**tensors, **classifier_weights(labels, width)}, metadata={"format": "pt"}),
    )
    return Subject(replace(small.checkpoint, path=directory), small.dtype, small.device, small.attention)


def new_model(subject: Subject, class_name: str, config: Any) -> Any:
    """Return a model made from a config, with transformers' initial weights under a fixed seed.

    Args:
        subject: makes it.
        class_name: the model's class.
        config: of the model's config class.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return subject.processors.construct(class_name, config)


def classifier_weights(labels: int, width: int) -> dict[str, NDArray[np.float32]]:
    """Return the classifier that `classifier_of` writes: weight (labels, width), bias (labels,); none of 0 labels."""
    if labels == 0:
        return {}
    generator = np.random.Generator(np.random.PCG64(labels))
    shapes = {"classifier.weight": (labels, width), "classifier.bias": (labels,)}
    return {name: generator.normal(0.0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def _sized(
    checkpoint: Checkpoint, stored: str, text: Mapping[str, object], vision: Mapping[str, object]
) -> dict[str, object]:
    raw = {**_stated(checkpoint.raw_config, checkpoint.dtype, stored), "projection_dim": _WIDTHS["projection_dim"]}
    if raw.get("model_type") in checkpoint.family.tower_types:
        return {**raw, **(text if checkpoint.holds.texts else vision)}
    for section, sizes in (("text_config", text), ("vision_config", vision)):
        inner = raw.get(section)
        raw[section] = {**_stated(inner if isinstance(inner, Mapping) else {}, checkpoint.dtype, stored), **sizes}
    for legacy in ("text_config_dict", "vision_config_dict"):
        raw.pop(legacy, None)  # copies of the sections in old files, which would restore the sizes
    return raw


def _stated(section: Mapping[str, object], own: str, stored: str) -> dict[str, object]:
    as_stored = {name: stored for name in _DTYPE_FIELDS if section.get(name) == own}
    return {**section, **as_stored}


def _zeros(shapes: Mapping[str, tuple[int, ...]], stored: str) -> bytes:
    """A safetensors file of zeros."""
    values = sum(math.prod(shape) for shape in shapes.values())
    header = header_bytes((name, stored, shape) for name, shape in shapes.items())
    return header + bytes(values * NUMPY_DTYPES[stored].itemsize)
