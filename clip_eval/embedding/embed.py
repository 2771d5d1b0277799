"""Embeddings of images and texts through a subject and its own processor, as unit vectors in float64.

Features come in the subject's dtype and are normalised in float64, so that every subject is normalised alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clip_eval.errors import DatasetError
from clip_eval.families.registry import entry_point
from clip_eval.families.roles import WHOLE

if TYPE_CHECKING:
    from PIL.Image import Image

    from clip_eval.subject.runtime import Runtime

__all__ = ["embed_images", "embed_texts", "texts_fit", "unit"]

_TEXTS_AT_ONCE = 64


def embed_images(subject: Runtime, images: Sequence[Image]) -> NDArray[np.float64]:
    """Return unit embeddings, (images, projection); a row is NaN where the subject returned NaN or infinity.

    Args:
        subject: a checkpoint with an image processor.
        images: in any mode and size, at least one; they make one batch.
    """
    batch = subject.processors.process(subject.processors.load(), images=list(images), return_tensors="pt")
    return _features(subject, "get_image_features", {"pixel_values": batch["pixel_values"].numpy()})


def embed_texts(subject: Runtime, texts: Sequence[str]) -> NDArray[np.float64]:
    """Return unit embeddings, (texts, projection); a row is NaN where the subject returned NaN or infinity.

    Args:
        subject: a checkpoint with a tokenizer.
        texts: at least one; 64 make a batch, padded to its longest.

    Raises:
        DatasetError: a text has more tokens than the model has positions. It is not truncated.
    """
    batches = [texts[start : start + _TEXTS_AT_ONCE] for start in range(0, len(texts), _TEXTS_AT_ONCE)]
    return np.concatenate([_features(subject, "get_text_features", _tokens(subject, batch)) for batch in batches])


def texts_fit(subject: Runtime, texts: Sequence[str]) -> list[bool]:
    """Say of each text whether the model has a position for each of its tokens.

    Args:
        subject: a checkpoint with a tokenizer.
        texts: any number.
    """
    positions = subject.checkpoint.config.text.max_position_embeddings
    batches = [texts[start : start + _TEXTS_AT_ONCE] for start in range(0, len(texts), _TEXTS_AT_ONCE)]
    return [bool(length <= positions) for batch in batches for length in _tokenised(subject, batch)[1]]


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the vectors, (..., width), at length 1; NaN where a vector is not finite or has length 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _tokens(subject: Runtime, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
    batch, lengths = _tokenised(subject, texts)
    longest, positions = int(lengths.argmax()), subject.checkpoint.config.text.max_position_embeddings
    if lengths[longest] > positions:
        raise DatasetError(
            f"the text {texts[longest]!r} has {lengths[longest]} tokens, and the model takes {positions}",
            fix="Shorten the prompt, the name of the class or the caption",
        )
    return {name: batch[name].numpy() for name in ("input_ids", "attention_mask")}  # (texts, tokens)


def _tokenised(subject: Runtime, texts: Sequence[str]) -> tuple[Any, NDArray[np.int64]]:
    """What the processor makes of texts, and how many tokens each has, (texts,)."""
    batch = subject.processors.process(subject.processors.load(), text=list(texts), padding=True, return_tensors="pt")
    return batch, batch["attention_mask"].numpy().sum(axis=1)


def _features(subject: Runtime, method: str, inputs: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    features = subject.run(entry_point(WHOLE, method), inputs)["pooler_output"]
    return unit(features.astype(np.float64))  # (rows, projection)
