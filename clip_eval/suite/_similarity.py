"""The probe's logits as a report shows them, with a small picture of each image."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from clip_eval.run.evidence import Evidence
from clip_eval.subject.observations import Clip
from clip_eval.tasks.shown import thumbnail
from clip_eval.verdict.compare import to_array

__all__ = ["show_similarity"]

_SIZE_PX = 56


def show_similarity(evidence: Evidence, clip: Clip, observed: Any, expected: Any) -> None:
    """Record logits, (images, texts), for the report; nothing where their shape is wrong, which the check says.

    Args:
        evidence: of the check.
        clip: the subject, whose probe was asked.
        observed: logits_per_image, as returned.
        expected: the reference's.
    """
    found = to_array(observed)
    if found.shape != expected.value.shape:
        return
    images, texts = found.shape
    names = [f"probe/{number}" for number in range(1, images + 1)]
    for name, pixels in zip(names, clip.batch.pixel_values[:images, :3], strict=True):
        low, high = pixels.min(), pixels.max()
        levels = (255 * (pixels - low) / ((high - low) or 1.0)).astype(np.uint8)  # (channels, height, width)
        shown = (
            np.moveaxis(levels, 0, -1) if len(levels) == 3 else levels[0]
        )  # (height, width), with channels or without
        evidence.image(name, thumbnail(Image.fromarray(shown), _SIZE_PX))
    tokens = clip.batch.attention_mask[:texts].sum(axis=1)  # (texts,)
    evidence.similarity(
        {
            "images": names,
            "texts": [f"text {number}, {count} tokens" for number, count in enumerate(tokens.tolist(), start=1)],
            "observed": found.tolist(),
            "expected": expected.value.tolist(),
        }
    )
