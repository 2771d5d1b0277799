"""The classes of transformers that load a CLIP, and its public entry points with their documented parameters."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from clip_eval.families import roles
from clip_eval.families.family import EntryPoint, ModelClass

__all__ = ["CLASSES", "CLASSIFIER", "ENTRY_POINTS"]

_TEXT, _TEXT_PROJECTION = "text_model.", "text_projection."
_VISION, _VISION_PROJECTION = "vision_model.", "visual_projection."

CLASSES: Mapping[str, ModelClass] = MappingProxyType(
    {
        name: ModelClass(name=name, parts=parts)
        for name, parts in {
            roles.WHOLE: (_TEXT, _VISION, _TEXT_PROJECTION, _VISION_PROJECTION, "logit_scale"),
            roles.TEXT: (_TEXT,),
            roles.VISION: (_VISION,),
            roles.TEXT_PROJECTED: (_TEXT, _TEXT_PROJECTION),
            roles.VISION_PROJECTED: (_VISION, _VISION_PROJECTION),
            roles.CLASSIFIER: (_VISION, "classifier."),
        }.items()
    }
)
"""By role; roles have the names of CLIP's classes."""

_TEXT_PARAMETERS = ("input_ids", "attention_mask", "position_ids", "output_attentions", "output_hidden_states")
_IMAGE_PARAMETERS = ("pixel_values", "output_attentions", "output_hidden_states", "interpolate_pos_encoding")
_STATES = (roles.STATES, roles.POOLED)


def _texts(role: str, fields: tuple[str, ...]) -> EntryPoint:
    return EntryPoint(
        model_class=role, method="forward", texts=True, images=False,
        parameters=_TEXT_PARAMETERS, inputs=3, fields=fields,
    )  # fmt: skip


def _images(role: str, fields: tuple[str, ...]) -> EntryPoint:
    return EntryPoint(
        model_class=role, method="forward", texts=False, images=True,
        parameters=_IMAGE_PARAMETERS, inputs=1, fields=fields,
    )  # fmt: skip


ENTRY_POINTS = (
    EntryPoint(
        model_class=roles.WHOLE,
        method="forward",
        texts=True,
        images=True,
        parameters=(
            "input_ids",
            "pixel_values",
            "attention_mask",
            "position_ids",
            "return_loss",
            "output_attentions",
            "output_hidden_states",
            "interpolate_pos_encoding",
        ),
        inputs=5,
        fields=roles.HEAD_FIELDS,
    ),
    _texts(roles.TEXT, _STATES),
    _images(roles.VISION, _STATES),
    _texts(roles.TEXT_PROJECTED, (roles.TEXT_EMBEDS, roles.STATES)),
    _images(roles.VISION_PROJECTED, (roles.IMAGE_EMBEDS, roles.STATES)),
    EntryPoint(
        model_class=roles.WHOLE,
        method="get_text_features",
        texts=True,
        images=False,
        parameters=_TEXT_PARAMETERS[:3],
        inputs=3,
        fields=(),
    ),
    EntryPoint(
        model_class=roles.WHOLE,
        method="get_image_features",
        texts=False,
        images=True,
        parameters=("pixel_values", "interpolate_pos_encoding"),
        inputs=2,
        fields=(),
    ),
)
"""Every way in."""

CLASSIFIER = EntryPoint(
    model_class=roles.CLASSIFIER,
    method="forward",
    texts=False,
    images=True,
    parameters=("pixel_values", "labels", "output_attentions", "output_hidden_states"),
    inputs=2,
    fields=("logits",),
)
"""The entry point of the image classifier."""
