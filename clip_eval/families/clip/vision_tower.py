"""CLIP's vision transformer in float64 (Dosovitskiy et al. 2020, arXiv 2010.11929; Radford et al. 2021, section 2.4).

CLIP adds one layer normalisation to ViT, over patch and position embeddings before the first layer. Its tensors are
called `pre_layrnorm` in every checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from clip_eval.errors import CheckpointError
from clip_eval.families.config import VisionConfig
from clip_eval.families.reference.arithmetic import EXACT, Arithmetic, Array
from clip_eval.families.reference.encoder import Modules, Observer, TowerStates, encode

__all__ = ["class_token", "vision_tower"]


def class_token(states: Array, arithmetic: Arithmetic) -> Array:
    """The state of the class token: (images, patches + 1, width) to (images, width)."""
    return states[:, 0]


def vision_tower(
    weights: Mapping[str, Array],
    config: VisionConfig,
    pixel_values: Array,
    *,
    arithmetic: Arithmetic = EXACT,
    observer: Observer | None = None,
    interpolate: bool = False,
    pool: Callable[[Array, Arithmetic], Array] = class_token,
) -> TowerStates:
    """All outputs of the vision tower.

    The first of `hidden_states` is after `pre_layrnorm`; the last is `last_hidden_state`, without a normalisation; only
    the class token, position 0, goes through `post_layernorm` into `pooler_output`.

    Args:
        weights: canonical tensor name -> float64 array.
        config: the tower's shape.
        pixel_values: (images, channels, height, width), height and width equal to `config.image_size`, normalised by
            the image processor; other float dtypes are widened to float64.
        arithmetic: the leaf operations.
        observer: called before and after each module.
        interpolate: allow images of any size of at least one patch; the position embeddings are interpolated to it.
        pool: from last_hidden_state and operations to the input of `post_layernorm` for each image, (images, width).

    Raises:
        CheckpointError: a tensor is missing or has another shape, the activation is unknown, or the images do not fit.
        ValueError: `pixel_values` does not have four axes.
    """
    _check_images(config, pixel_values, interpolate)
    modules = Modules(weights, arithmetic, observer)
    embedded = _embed(modules, config, np.asarray(pixel_values, dtype=np.float64))  # (images, tokens, width)
    entering = modules.layer_norm("vision_model.pre_layrnorm", embedded, config.layer_norm_eps)
    encoded = encode(modules, config, "vision_model.encoder", entering, None)
    last = modules.leaving("vision_model", encoded.hidden_states[-1], "last_hidden_state")  # (images, tokens, width)
    pooled = modules.layer_norm(
        "vision_model.post_layernorm", pool(last, arithmetic), config.layer_norm_eps
    )  # (images, width)
    modules.leaving("vision_model", pooled, "pooler_output")
    projected = modules.projection("visual_projection", pooled)  # (images, projection)
    return TowerStates(encoded.hidden_states, encoded.attentions, last, pooled, projected)


def _embed(modules: Modules, config: VisionConfig, pixel_values: Array) -> Array:
    """Class embedding, then the patches row by row, plus position embeddings: (images, patches + 1, width).

    Source: Dosovitskiy et al. 2020, equation 1.
    """
    name, width, patch = "vision_model.embeddings", config.hidden_size, config.patch_size
    kernel = modules.tensor(f"{name}.patch_embedding.weight", (width, config.num_channels, patch, patch))
    patches = modules.patches(f"{name}.patch_embedding", pixel_values, kernel)  # (images, patches, width)
    first = modules.tensor(f"{name}.class_embedding", (width,))  # (width,)
    first = np.broadcast_to(first, (len(patches), 1, width))  # (images, 1, width)
    tokens = np.concatenate([first, patches], axis=1)  # (images, patches + 1, width)
    rows, columns = pixel_values.shape[2] // patch, pixel_values.shape[3] // patch
    positions = _positions(modules, config, rows, columns)  # (patches + 1, width), with a first axis if interpolated
    modules.leaving(f"{name}.position_embedding", positions)
    return modules.leaving(name, modules.arithmetic.add(tokens, positions))


def _positions(modules: Modules, config: VisionConfig, rows: int, columns: int) -> Array:
    """The position embeddings of a grid of patches: (1 or more, rows * columns + 1, width). For another grid than the
    model's own they are interpolated, except the class token's (Dosovitskiy et al. 2020, section 3.2).
    """
    side, width = config.image_size // config.patch_size, config.hidden_size
    table = modules.tensor("vision_model.embeddings.position_embedding.weight", (side**2 + 1, width))
    if (rows, columns) == (side, side):
        return table
    resized = modules.arithmetic.resize(table[1:].reshape(side, side, width), rows, columns)
    patches = resized.reshape(len(resized), rows * columns, width)  # (1 or more, patches, width)
    first = np.broadcast_to(table[:1], (len(patches), 1, width))  # (1 or more, 1, width)
    return np.concatenate([first, patches], axis=1)


def _check_images(config: VisionConfig, pixel_values: Array, interpolate: bool) -> None:
    if pixel_values.ndim != 4:
        raise ValueError(f"pixel_values must be (images, channels, height, width), not {pixel_values.shape}")
    size = pixel_values.shape[2:]
    fits = interpolate and min(size) >= config.patch_size
    expected = (config.num_channels, *(size if fits else (config.image_size, config.image_size)))
    observed = pixel_values.shape[1:]
    if observed != expected:
        what = f"images have shape {observed}, the model takes {expected} (channels, height, width)"
        fix = "Make the image processor's output size equal image_size of the vision config"
        raise CheckpointError(what, where="pixel_values", fix=fix)
