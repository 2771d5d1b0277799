"""The `Family` object of CLIP."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from clip_eval.families import roles
from clip_eval.families.clip import config
from clip_eval.families.clip.entry_points import CLASSES, CLASSIFIER, ENTRY_POINTS
from clip_eval.families.clip.open_clip import OPEN_CLIP
from clip_eval.families.clip.tensors import expected_tensors
from clip_eval.families.clip.text_tower import pooled_positions, text_tower
from clip_eval.families.clip.vision_tower import vision_tower
from clip_eval.families.config import ClipConfig, TextConfig
from clip_eval.families.family import ConfigReader, Family, Network, PlainForward, Tower
from clip_eval.families.reference.arithmetic import EXACT, Arithmetic, Array, Ids
from clip_eval.families.reference.contrastive_head import Contrast, contrast

__all__ = ["CLIP"]


def _head(
    weights: Mapping[str, Array], text_projected: Array, image_projected: Array, *, arithmetic: Arithmetic = EXACT
) -> Contrast:
    return contrast(text_projected, image_projected, weights["logit_scale"], arithmetic=arithmetic)


def _last_read(input_ids: Ids, text: TextConfig) -> Ids:
    return pooled_positions(input_ids, text.eos_token_id)


def _plain_forward(weights: Mapping[str, Any], sizes: ClipConfig) -> PlainForward:
    from clip_eval.families.clip.plain_forward import ClipPlainForward

    return ClipPlainForward(weights, sizes)


CLIP = Family(
    model_type="clip",
    tower_types=("clip_text_model", "clip_vision_model"),
    config=ConfigReader(
        parse=config.parse_config,
        text_alone=config.standalone_text,
        vision_alone=config.standalone_vision,
        parse_tower=config.parse_tower,
        labels=config.label_count,
        absent=config.absent_fields,
        notes=config.reading_notes,
    ),
    expected_tensors=expected_tensors,
    # Buffers in files written before transformers 4.31: the numbers 0, 1, 2, ..., which no release reads.
    ignored_tensors=("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"),
    classes=CLASSES,
    entry_points=ENTRY_POINTS,
    classifier=CLASSIFIER,
    text=Tower(
        module="text_model",
        section="text_config",
        entering="text_model.embeddings",
        last="text_model.final_layer_norm",
        pooled="text_model",
        projection="text_projection",
        embeds=roles.TEXT_EMBEDS,
    ),
    vision=Tower(
        module="vision_model",
        section="vision_config",
        entering="vision_model.pre_layrnorm",
        last="vision_model.encoder",
        pooled="vision_model.post_layernorm",
        projection="visual_projection",
        embeds=roles.IMAGE_EMBEDS,
    ),
    head=MappingProxyType(
        dict(
            zip(roles.HEAD_FIELDS, ("text_projection", "visual_projection", "logit_scale", "logit_scale"), strict=True)
        )
    ),
    network=Network(
        text_tower=text_tower,
        vision_tower=vision_tower,
        head=_head,
        last_read=_last_read,
        pools_one_token=True,
    ),
    plain_forward=_plain_forward,
    sources=(OPEN_CLIP,),
)
