"""Checks of a pack beyond its schema: the config must describe a model, and the arrays must fit that model.

All run when a pack is opened, so that later code never meets a negative id or a wrong shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_eval.baseline.recorded_outputs import IMAGES, TEXTS
from clip_eval.families import roles
from clip_eval.families.config import ACTIVATIONS, ClipConfig
from clip_eval.files.untrusted import shown
from clip_eval.probes.batches import MOST_ROWS

__all__ = ["array_fault", "config_fault", "input_fault", "output_fault", "output_shapes"]

Array = NDArray[Any]

_LARGEST = 1 << 31
_PIXELS, _IDS, _MASKS = "inputs.pixel_values", "inputs.input_ids", ("inputs.attention_mask", "inputs.interior_mask")
_INTERIOR = "_interior_mask"


def config_fault(config: ClipConfig, tensors: int) -> str | None:
    """Return why a config does not describe a model, a clause, or None.

    Args:
        config: with fields of any type.
        tensors: number of tensors in the pack, which limits the number of layers.
    """
    for section, part in (("text.", config.text), ("vision.", config.vision), ("", config)):
        for field in fields(part):
            value = getattr(part, field.name)
            if not _is_sound(str(field.type), field.name, value):
                return f"{section}{field.name} is {shown(value)}"
    for section, tower in (("text", config.text), ("vision", config.vision)):
        if tower.hidden_size % tower.num_attention_heads:
            return f"{section}.hidden_size {tower.hidden_size} is not a multiple of {tower.num_attention_heads} heads"
    if config.text.num_hidden_layers + config.vision.num_hidden_layers > tensors:
        return f"it has more layers than the {tensors} tensors of the pack"
    return None


def _is_sound(kind: str, name: str, value: object) -> bool:
    if value is None:
        return kind.endswith("| None")
    if kind.startswith("int"):  # published configs have -1 for "no such token"
        return type(value) is int and (-1 if name.endswith("_id") else 1) <= value < _LARGEST
    if kind == "float":
        return type(value) in (int, float) and math.isfinite(value) and (value > 0 or name != "layer_norm_eps")  # type: ignore[arg-type, operator]
    return name != "hidden_act" or value in ACTIVATIONS


def array_fault(name: str, values: Array) -> str | None:
    """Return why an array of the numeric record is invalid, a clause, or None.

    Args:
        name: `inputs.NAME`, `outputs.NAME` or `errors.NAME`.
        values: any shape and dtype.
    """
    is_integer = name.startswith("inputs.") and name != _PIXELS
    if values.dtype != (np.int64 if is_integer else np.float32):
        return f"{name} is {values.dtype}, not {'int64' if is_integer else 'float32'}"
    if not is_integer and not np.isfinite(values).all():
        return f"{name} holds a NaN or an infinity"
    return None


def input_fault(arrays: Mapping[str, Array], config: ClipConfig) -> str | None:
    """Return why the inputs do not fit a model of the pack's config, a clause, or None.

    Args:
        arrays: the numeric record, with the right dtypes.
        config: checked by `config_fault`.
    """
    pixels, ids = arrays[_PIXELS], arrays[_IDS]  # (images, channels, height, width), (texts, tokens)
    if pixels.ndim != 4 or len(pixels) < MOST_ROWS or not pixels.size:
        return f"{_PIXELS} has the shape {pixels.shape}, which are no {MOST_ROWS} images"
    if ids.ndim != 2 or len(ids) < MOST_ROWS or not ids.size:
        return f"{_IDS} has the shape {ids.shape}, which are no {MOST_ROWS} texts"
    if ids.min() < 0 or ids.max() >= config.text.vocab_size:
        wrong = int(ids.min() if ids.min() < 0 else ids.max())
        return f"{_IDS} holds the token id {wrong}, and the config says {config.text.vocab_size} tokens"
    for name in _MASKS:
        mask = arrays[name]  # (texts, tokens)
        if mask.shape != ids.shape or not np.isin(mask, (0, 1)).all():
            return f"{name} is not a mask of 0 and 1 in the shape of {_IDS}"
    return None


def output_fault(arrays: Mapping[str, Array], names: tuple[str, ...], config: ClipConfig, labels: int) -> str | None:
    """Return which output, or error of it, has a wrong shape, a clause, or None.

    Args:
        arrays: the numeric record, with valid inputs.
        names: of the outputs.
        config: of the approved model.
        labels: of an image classifier; 0 of another model.
    """
    shapes = output_shapes(config, arrays[_IDS].shape[1], labels)
    for name in names:
        for kind in ("outputs", "errors"):
            shape = arrays[f"{kind}.{name}"].shape
            if shape != shapes[name.removesuffix(_INTERIOR)]:
                expected = shapes[name.removesuffix(_INTERIOR)]
                return f"{kind}.{name} has the shape {shape}, and the model's has {expected}"
    return None


def output_shapes(config: ClipConfig, tokens: int, labels: int = 0) -> dict[str, tuple[int, ...]]:
    """Shape of each output by name, without its mask."""
    text, vision, projection = config.text, config.vision, config.projection_dim
    positions = (vision.image_size // vision.patch_size) ** 2 + 1
    return {
        f"image_{roles.STATES}": (IMAGES, positions, vision.hidden_size),
        f"image_{roles.POOLED}": (IMAGES, vision.hidden_size),
        f"text_{roles.STATES}": (TEXTS, tokens, text.hidden_size),
        f"text_{roles.POOLED}": (TEXTS, text.hidden_size),
        **dict.fromkeys((roles.IMAGE_EMBEDS, "image_features"), (IMAGES, projection)),
        **dict.fromkeys((roles.TEXT_EMBEDS, "text_features"), (TEXTS, projection)),
        roles.LOGITS_PER_IMAGE: (IMAGES, TEXTS),
        roles.LOGITS_PER_TEXT: (TEXTS, IMAGES),
        "loss": (),
        "class_logits": (IMAGES, labels),
    }
