"""Embeddings of images and texts through a subject and its own processor, as unit vectors in float64.

Features come in the subject's dtype and are normalised in float64, so that every subject is normalised alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clip_eval.embedding.pixels import Pixels
from clip_eval.embedding.texts import refuse_long, text_features, tokenised, too_long
from clip_eval.families.registry import entry_point
from clip_eval.families.roles import WHOLE
from clip_eval.subject.launch import launched

if TYPE_CHECKING:
    from PIL.Image import Image

    from clip_eval.subject.runtime import Runtime

__all__ = ["embed_images", "embed_texts", "texts_fit", "unit"]


def embed_images(subject: Runtime, images: Sequence[Image]) -> NDArray[np.float64]:
    """Return unit embeddings, (images, projection); a row is NaN where the subject returned NaN or infinity.

    Args:
        subject: a checkpoint with an image processor.
        images: in any mode and size, at least one; they make one batch.
    """
    pixels = Pixels(subject)
    batch = np.stack([pixels(image) for image in images])  # (images, channels, height, width)
    return unit(launched(subject, entry_point(WHOLE, "get_image_features"), {"pixel_values": batch})())


def embed_texts(subject: Runtime, texts: Sequence[str]) -> NDArray[np.float64]:
    """Return unit embeddings, (texts, projection); a row is NaN where the subject returned NaN or infinity.

    Args:
        subject: a checkpoint with a tokenizer.
        texts: at least one; those of similar length make a batch, padded to its longest.

    Raises:
        DatasetError: a text has more tokens than the model has positions. It is not truncated.
    """
    tokens = tokenised(subject, texts)
    refuse_long(subject, texts, tokens)
    found: dict[int, NDArray[np.float32]] = {}
    for places, features in text_features(subject, tokens, range(len(texts))):
        found.update(zip(places, features, strict=True))
    return unit(np.stack([found[place] for place in range(len(texts))]))


def texts_fit(subject: Runtime, texts: Sequence[str]) -> list[bool]:
    """Say of each text whether the model has a position for each of its tokens.

    Args:
        subject: a checkpoint with a tokenizer.
        texts: any number.
    """
    long = set(too_long(subject, tokenised(subject, texts))) if texts else set()
    return [place not in long for place in range(len(texts))]


def unit(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the vectors, (..., width), at length 1; NaN where a vector is not finite or has length 0."""
    wide = vectors.astype(np.float64)  # (..., width)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(wide / np.linalg.norm(wide, axis=-1, keepdims=True))
