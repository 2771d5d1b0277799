"""CLIP's contrastive head in float64: Radford et al. 2021 (arXiv 2103.00020), figure 3."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clip_eval.families.reference.arithmetic import EXACT, Arithmetic, Array

__all__ = ["Contrast", "contrast", "contrastive_loss"]


@dataclass(frozen=True, slots=True, eq=False)
class Contrast:
    """Outputs of the contrastive head. All arrays are float64.

    Attributes:
        text_embeds: (texts, projection), unit norm.
        image_embeds: (images, projection), unit norm.
        logits_per_text: (texts, images), cosines times exp(logit_scale).
        logits_per_image: (images, texts), the transpose of `logits_per_text`.
        loss: (), the contrastive loss in nats; None where there are not as many texts as images.
    """

    text_embeds: Array
    image_embeds: Array
    logits_per_text: Array
    logits_per_image: Array
    loss: Array | None


def contrast(
    text_projected: Array,
    image_projected: Array,
    logit_scale: Array | float,
    *,
    arithmetic: Arithmetic = EXACT,
) -> Contrast:
    """Unit embeddings, logits and loss from the towers' projections.

    Args:
        text_projected: (texts, projection) float64, as `text_tower` returns it.
        image_projected: (images, projection) float64, as `vision_tower` returns it.
        logit_scale: the checkpoint's `logit_scale`, a scalar: the logarithm of the factor on the cosines.
        arithmetic: the leaf operations.

    Raises:
        ValueError: the projections differ in width, or `logit_scale` is not a scalar.
    """
    text_embeds = arithmetic.normalize(text_projected)  # (texts, projection)
    image_embeds = arithmetic.normalize(image_projected)  # (images, projection)
    cosines = arithmetic.matmul(text_embeds, image_embeds.T)  # (texts, images)
    factor = arithmetic.exp(np.asarray(logit_scale, dtype=np.float64).reshape(()))  # ()
    logits = arithmetic.scale(cosines, factor)  # (texts, images)
    loss = contrastive_loss(logits, arithmetic=arithmetic) if len(text_embeds) == len(image_embeds) else None
    return Contrast(text_embeds, image_embeds, logits, logits.T, loss)


def contrastive_loss(logits: Array, *, arithmetic: Arithmetic = EXACT) -> Array:
    """The mean of the cross entropies over rows and over columns, in nats; text i belongs to image i. (n, n) to ()."""
    per_text = arithmetic.mean(np.diagonal(arithmetic.log_softmax(logits)))  # ()
    per_image = arithmetic.mean(np.diagonal(arithmetic.log_softmax(logits.T)))  # ()
    return arithmetic.scale(arithmetic.add(per_text, per_image), -0.5)
