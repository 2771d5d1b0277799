"""Small towers with random weights, for the oracle's own tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from clip_eval.families.config import TextConfig, VisionConfig

Weights = dict[str, NDArray[np.float64]]


def _layer_shapes(prefix: str, config: TextConfig | VisionConfig) -> dict[str, tuple[int, ...]]:
    width, inner = config.hidden_size, config.intermediate_size
    linears = {f"self_attn.{side}_proj": (width, width) for side in "qkv"} | {
        "self_attn.out_proj": (width, width),
        "mlp.fc1": (inner, width),
        "mlp.fc2": (width, inner),
    }
    weights = {f"{prefix}.{name}.weight": shape for name, shape in linears.items()}
    biases = {f"{prefix}.{name}.bias": shape[:1] for name, shape in linears.items()}
    return (
        weights | biases | _norm_shapes(f"{prefix}.layer_norm1", width) | _norm_shapes(f"{prefix}.layer_norm2", width)
    )


def _norm_shapes(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _text_shapes(config: TextConfig) -> dict[str, tuple[int, ...]]:
    width = config.hidden_size
    return {
        "text_model.embeddings.token_embedding.weight": (config.vocab_size, width),
        "text_model.embeddings.position_embedding.weight": (config.max_position_embeddings, width),
        "text_projection.weight": (config.projection_dim, width),
    } | _norm_shapes("text_model.final_layer_norm", width)


def _vision_shapes(config: VisionConfig) -> dict[str, tuple[int, ...]]:
    width, patch = config.hidden_size, config.patch_size
    return (
        {
            "vision_model.embeddings.class_embedding": (width,),
            "vision_model.embeddings.patch_embedding.weight": (width, config.num_channels, patch, patch),
            "vision_model.embeddings.position_embedding.weight": ((config.image_size // patch) ** 2 + 1, width),
            "visual_projection.weight": (config.projection_dim, width),
        }
        | _norm_shapes("vision_model.pre_layrnorm", width)
        | _norm_shapes("vision_model.post_layernorm", width)
    )


def _random_weights(config: TextConfig | VisionConfig) -> Weights:
    tower, shapes = (
        ("text_model", _text_shapes(config))
        if isinstance(config, TextConfig)
        else ("vision_model", _vision_shapes(config))
    )
    for index in range(config.num_hidden_layers):
        shapes |= _layer_shapes(f"{tower}.encoder.layers.{index}", config)
    rng = np.random.default_rng(20210226)
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


@pytest.fixture
def random_weights() -> Callable[[TextConfig | VisionConfig], Weights]:
    """A function that gives every tensor of a tower standard normal values, the same ones each time."""
    return _random_weights
