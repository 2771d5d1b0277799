"""The first layers of a deep checkpoint, as a checkpoint of its own.

Layers are objects of one class, so a check of what that class does, and not of the weights, asks a few of them and has
asked all. Config, widths, vocabulary and the weights of the layers that stay are the checkpoint's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from clip_eval.checkpoint.checkpoint import Checkpoint, open_checkpoint
from clip_eval.checkpoint.tensor_files import TensorEntry, header_bytes
from clip_eval.families.config import TextConfig, VisionConfig
from clip_eval.families.family import Tower
from clip_eval.files.read_write import replacing, write_json

__all__ = ["DEEP", "LAYERS", "first_layers"]

LAYERS, DEEP = 3, 8
"""How many stay, a first, a last and one between them, of a tower that has more than `DEEP`."""

_DEPTH = "num_hidden_layers"
_LAYER = re.compile(r"\.layers\.(\d+)\.")


def first_layers(checkpoint: Checkpoint, directory: Path) -> Checkpoint | None:
    """Write the first `LAYERS` layers of each deep tower; None if no tower is deep.

    Args:
        checkpoint: what is cut; its files stay as they are.
        directory: an existing, empty one.

    Raises:
        OutputError: there is no room for the files.
    """
    towers = [tower for tower, config in _towers(checkpoint) if config.num_hidden_layers > DEEP]
    if not towers:
        return None
    write_json(directory / "config.json", _config(checkpoint, towers))
    kept = [entry for name, entry in checkpoint.tensors.items() if not any(_is_left_out(name, one) for one in towers)]
    with replacing(directory / "model.safetensors") as file:
        _write_tensors(file, kept)
    return replace(open_checkpoint(str(directory)), processor_directory=checkpoint.processor_path)


def _towers(checkpoint: Checkpoint) -> list[tuple[Tower, TextConfig | VisionConfig]]:
    family, config, holds = checkpoint.family, checkpoint.config, checkpoint.holds
    texts = [(family.text, config.text)] if holds.texts else []
    return [*texts, *([(family.vision, config.vision)] if holds.images else [])]


def _config(checkpoint: Checkpoint, towers: list[Tower]) -> dict[str, object]:
    raw = dict(checkpoint.raw_config)
    if raw.get("model_type") in checkpoint.family.tower_types:
        return {**raw, _DEPTH: LAYERS}
    for tower in towers:
        inner = raw.get(tower.section)
        raw[tower.section] = {**(inner if isinstance(inner, Mapping) else {}), _DEPTH: LAYERS}
        legacy = f"{tower.section}_dict"  # a copy of the section in old files
        if isinstance(copied := raw.get(legacy), Mapping):
            raw[legacy] = {**copied, _DEPTH: LAYERS}
    return raw


def _is_left_out(name: str, tower: Tower) -> bool:
    layer = _LAYER.search(name)
    return layer is not None and name.startswith(f"{tower.module}.") and int(layer[1]) >= LAYERS


def _write_tensors(file: BinaryIO, entries: list[TensorEntry]) -> None:
    file.write(header_bytes((entry.stored_name, entry.dtype, entry.shape) for entry in entries))
    for entry in filter(lambda entry: entry.size_bytes, entries):
        place, shape = entry.offset_bytes, (entry.size_bytes,)
        file.write(np.memmap(entry.file, np.uint8, mode="r", offset=place, shape=shape).data)
