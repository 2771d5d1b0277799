"""A dataset's embeddings, shared by all tasks of a run: each image is decoded and each text embedded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clip_eval.dataset import Dataset, Sample
from clip_eval.embedding.embed import texts_fit, unit
from clip_eval.embedding.pipeline import BATCH, Pipeline
from clip_eval.embedding.ranking import Rank, first_hits_both
from clip_eval.embedding.rows import InMemory, text_key
from clip_eval.embedding.store import open_store
from clip_eval.embedding.texts import refuse_long, tokenised
from clip_eval.errors import DatasetError
from clip_eval.progress import Progress
from clip_eval.subject.runtime import Runtime

__all__ = ["EmbedTexts", "Embedded", "embed_dataset"]

EmbedTexts: TypeAlias = Callable[[Sequence[str]], NDArray[np.float64]]
"""Texts to unit embeddings, (texts, projection)."""


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
        rank: two sides and what belongs together to the ranks of both, exact unless somebody asks for less.
        kept: what one task has computed and another needs, by a name of theirs.
    """

    dataset: Dataset
    digest: str
    samples: tuple[Sample, ...]
    images: NDArray[np.float64]
    unreadable: tuple[str, ...]
    texts: EmbedTexts
    fits: Callable[[Sequence[str]], list[bool]]
    logit_scale: float = 100.0
    rank: Rank = first_hits_both
    kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False)


def embed_dataset(
    runtime: Runtime,
    dataset: Dataset,
    *,
    store: Path | None = None,
    workers: int | None = None,
    batch_size: int = BATCH,
    progress: Progress | None = None,
) -> Embedded:
    """Embed every image of a dataset; texts are embedded when a task first needs them.

    Args:
        runtime: a checkpoint with tokenizer and image processor.
        dataset: an opened dataset.
        store: directory of a store; what it has is not computed again, and what is new goes there.
        workers: threads that decode; by default one a core.
        batch_size: images in a batch.
        progress: counts the entries of the dataset.

    Raises:
        DatasetError: a manifest cannot be read at all, or not one image can be read.
        OutputError: the store cannot be written.
    """
    images, texts = (InMemory(), InMemory()) if store is None else open_store(store, runtime)
    pipeline = Pipeline(runtime, images, texts, workers, batch_size)
    samples: list[Sample] = []
    keys, unreadable = list[bytes](), list[str]()
    digests: dict[str, bytes] = {}  # by path
    for seen in pipeline.embed_images(dataset.entries()):
        if seen.sample is not None and seen.digest is not None:
            digests[seen.sample.path] = seen.digest
        if seen.key is None or seen.sample is None:
            unreadable.append(f"{seen.where}: {seen.problem}")
        else:
            samples.append(seen.sample)
            keys.append(seen.key)
        if progress is not None:
            progress.step()
    if not keys:
        raise _none_readable(dataset, len(unreadable))
    return Embedded(
        dataset=dataset,
        digest=dataset.digest(digests),
        samples=tuple(samples),
        images=unit(images.read(keys)),
        unreadable=tuple(unreadable),
        texts=lambda texts: _texts(pipeline, texts),
        fits=lambda texts: texts_fit(runtime, texts),
        logit_scale=float(np.exp(runtime.checkpoint.weights(runtime.dtype)["logit_scale"])),
    )


def _none_readable(dataset: Dataset, count: int) -> DatasetError:
    what = f"not one of {count} images can be read"
    return DatasetError(what, where=dataset.root, fix="Use the images that the manifest was written for")


def _texts(pipeline: Pipeline, texts: Sequence[str]) -> NDArray[np.float64]:
    """Unit embeddings, (texts, projection): those that are new are computed, and kept."""
    if long := pipeline.embed_texts(texts):
        refuse_long(pipeline.runtime, long, tokenised(pipeline.runtime, long))
    return unit(pipeline.texts.read([text_key(text) for text in texts]))
