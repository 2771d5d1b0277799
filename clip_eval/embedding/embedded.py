"""A dataset's embeddings, shared by all tasks of a run: each image and each text is embedded once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from clip_eval.dataset import Dataset, Sample, decoded
from clip_eval.embedding.embed import embed_images, embed_texts, texts_fit
from clip_eval.embedding.ranking import Rank, first_hits
from clip_eval.errors import DatasetError
from clip_eval.subject.runtime import Runtime

__all__ = ["EmbedTexts", "Embedded", "embed_dataset"]

_IMAGES_AT_ONCE = 64

EmbedTexts: TypeAlias = Callable[[Sequence[str]], NDArray[np.float64]]
"""Texts to unit embeddings, (texts, projection)."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """The unit embeddings of one subject for one dataset, float64. A row is NaN if the subject gave no finite one.

    Attributes:
        dataset: the samples and their settings.
        digest: of the dataset: settings, manifest and image files, or shards.
        samples: every sample whose image can be read, in the order of the dataset.
        images: their embeddings, (samples, projection).
        unreadable: place and problem of each image that cannot be read.
        texts: texts to embeddings, (texts, projection). Texts are embedded when first asked for, and kept.
        fits: says of each text whether it has no more tokens than the model takes.
        logit_scale: what the subject multiplies cosines with before a softmax; 100 is CLIP's limit.
        rank: queries, items and the own items of each query to ranks, exact unless somebody asks for less.
    """

    dataset: Dataset
    digest: str
    samples: tuple[Sample, ...]
    images: NDArray[np.float64]
    unreadable: tuple[str, ...]
    texts: EmbedTexts
    fits: Callable[[Sequence[str]], list[bool]]
    logit_scale: float = 100.0
    rank: Rank = first_hits


def embed_dataset(subject: Runtime, dataset: Dataset) -> Embedded:
    """Embed every image of a dataset; texts are embedded when a task first needs them.

    Args:
        subject: a checkpoint with tokenizer and image processor.
        dataset: an opened dataset.

    Raises:
        DatasetError: a line of the manifest is not a sample, or not one image can be read.
    """
    samples: list[Sample] = []
    unreadable: list[str] = []
    images: list[NDArray[np.float64]] = []
    for batch in _batches(decoded(dataset), _IMAGES_AT_ONCE):
        unreadable += [f"{item.where}: {item.problem}" for item in batch if item.image is None]
        samples += [item.sample for item in batch if item.image is not None and item.sample is not None]
        if found := [item.image for item in batch if item.image is not None]:
            images.append(embed_images(subject, found))
    if not images:
        what = f"not one of {len(unreadable)} images can be read"
        raise DatasetError(what, where=dataset.root, fix="Use the images that the manifest was written for")
    return Embedded(
        dataset=dataset,
        digest=dataset.digest(),
        samples=tuple(samples),
        images=np.concatenate(images),
        unreadable=tuple(unreadable),
        texts=_kept(lambda texts: embed_texts(subject, texts)),
        fits=lambda texts: texts_fit(subject, texts),
        logit_scale=float(np.exp(subject.checkpoint.weights(subject.dtype)["logit_scale"])),
    )


def _kept(embed: EmbedTexts) -> EmbedTexts:
    """`embed` with its results kept, so that each text is embedded once."""
    kept: dict[str, NDArray[np.float64]] = {}

    def texts_to_rows(texts: Sequence[str]) -> NDArray[np.float64]:
        new = [text for text in dict.fromkeys(texts) if text not in kept]
        if new:
            kept.update(zip(new, embed(new), strict=True))
        return np.stack([kept[text] for text in texts])  # (texts, projection)

    return texts_to_rows


def _batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
