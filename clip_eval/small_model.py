"""A tiny CLIP of the candidate's kind: its config.json but for sizes, random weights, loaded as the candidate is.

What depends on the library and the config alone, such as saving, loading and the rule of pooling, is shown on it: it
costs milliseconds, may be changed at will, and leaves the candidate as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from clip_eval.baseline.stand_in import write_stand_in
from clip_eval.checkpoint import open_checkpoint
from clip_eval.files import write_bytes
from clip_eval.observe import EntryPoint
from clip_eval.subject import Subject

__all__ = ["SMALL_TEXTS", "edit_tensors", "small_inputs", "small_subject"]

SMALL_TEXTS = ((5, 1, 3, 4, 6, 6, 6, 6), (5, 2, 6, 6, 6, 6, 6, 6), (5, 7, 3, 6, 1, 6, 6, 6))
"""Texts of the tiny model."""

_SPREAD = 0.5
"""Standard deviation of the weights: large enough that no two states of the tiny model are alike."""


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
