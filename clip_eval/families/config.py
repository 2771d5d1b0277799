"""The complete config of a model with two towers. Imports nothing.

Field names, meanings and defaults are those of the documented `CLIPConfig`, `CLIPTextConfig` and `CLIPVisionConfig`
(https://huggingface.co/docs/transformers/model_doc/clip); a family's own reader fills them from its config.json.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass

__all__ = [
    "ABSENT_TEXT",
    "ABSENT_VISION",
    "ACTIVATIONS",
    "LEGACY_BOS_TOKEN_ID",
    "LEGACY_EOS_TOKEN_ID",
    "ClipConfig",
    "TextConfig",
    "VisionConfig",
    "shown",
]

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu", "selu", "silu")
"""The values of `hidden_act` that the oracle can compute: the documented five, and two more of transformers."""

LEGACY_EOS_TOKEN_ID = 2
"""The `eos_token_id` of configs written before it was corrected: texts are then pooled at their largest id."""

LEGACY_BOS_TOKEN_ID = 0
"""The `bos_token_id` of such configs. Nothing reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """The text tower. Sizes are counts; `TextConfig()` is the documented default (the text tower of ViT-B/32)."""

    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    vocab_size: int = 49408
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    bos_token_id: int | None = 49406
    eos_token_id: int = 49407
    pad_token_id: int | None = 1
    projection_dim: int = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionConfig:
    """The vision tower. `image_size` and `patch_size` are in pixels; `VisionConfig()` is the documented default."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    image_size: int = 224
    patch_size: int = 32
    num_channels: int = 3
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    projection_dim: int = 512


@dataclass(frozen=True, slots=True)
class ClipConfig:
    """Both towers and what joins them.

    `projection_dim` is the model's own. The towers' fields of that name are read only by the standalone classes with a
    projection, and published checkpoints exist in which they disagree.
    """

    text: TextConfig
    vision: VisionConfig
    projection_dim: int = 512
    logit_scale_init_value: float = 2.6592


ABSENT_TEXT = TextConfig(
    hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, max_position_embeddings=8,
    vocab_size=8, bos_token_id=5, eos_token_id=6, pad_token_id=6, projection_dim=8,
)  # fmt: skip
"""Stands in the config of a vision tower alone, where nothing reads it."""

ABSENT_VISION = VisionConfig(
    hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=8, patch_size=8,
    projection_dim=8,
)  # fmt: skip
"""The same of a text tower alone."""


def shown(value: object) -> str:
    """The repr of a value from a file, for messages, in at most 40 characters; nested values are abbreviated."""
    text = reprlib.repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
