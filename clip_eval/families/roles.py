"""The classes of a family and the fields that they return, by role. Imports nothing.

A role has the name of the transformers CLIP class that fills it: ids of checks, packs and acceptances contain these.
`Family.classes` says which class fills the role in a family.
"""

from __future__ import annotations

__all__ = [
    "CLASSIFIER",
    "EMBEDDINGS",
    "HEAD_FIELDS",
    "IMAGE_EMBEDS",
    "IMAGE_FEATURES",
    "LOGITS_PER_IMAGE",
    "LOGITS_PER_TEXT",
    "MODEL_CLASSES",
    "POOLED",
    "STATES",
    "TEXT",
    "TEXT_EMBEDS",
    "TEXT_FEATURES",
    "TEXT_PROJECTED",
    "VISION",
    "VISION_PROJECTED",
    "WHOLE",
]

WHOLE = "CLIPModel"
TEXT, VISION = "CLIPTextModel", "CLIPVisionModel"
TEXT_PROJECTED, VISION_PROJECTED = "CLIPTextModelWithProjection", "CLIPVisionModelWithProjection"

MODEL_CLASSES = (WHOLE, TEXT, VISION, TEXT_PROJECTED, VISION_PROJECTED)
"""Both towers and their head, each tower alone, and each tower with its projection."""

CLASSIFIER = "CLIPForImageClassification"
"""A vision tower with a classifier. No CLIP checkpoint has one, so it is tested on a tiny model only."""

TEXT_FEATURES, IMAGE_FEATURES = "get_text_features", "get_image_features"
"""Methods of the whole model that one tower answers."""

STATES, POOLED = "last_hidden_state", "pooler_output"
"""Fields of a tower's output."""

TEXT_EMBEDS, IMAGE_EMBEDS = "text_embeds", "image_embeds"
LOGITS_PER_TEXT, LOGITS_PER_IMAGE = "logits_per_text", "logits_per_image"

EMBEDDINGS = (TEXT_EMBEDS, IMAGE_EMBEDS)

HEAD_FIELDS = (*EMBEDDINGS, LOGITS_PER_TEXT, LOGITS_PER_IMAGE)
"""Fields of the whole model's output that its head computes, in the order of computation."""
