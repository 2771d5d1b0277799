"""What both directions of retrieval share: which captions belong to which image, and scores from ranks.

Captions of one text are one text: it is embedded once, stands among the texts once, and belongs to every image that has
it. An image without a caption takes no part, neither as a query nor among the images. Nor does a caption with more
tokens than the model takes, as it would be another text when it is cut: such captions are counted and named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, fsum

import numpy as np
from numpy.typing import NDArray

from clip_eval.dataset import Dataset, Sample
from clip_eval.embedding.embedded import Embedded
from clip_eval.errors import DatasetError
from clip_eval.tasks.task import Score
from clip_eval.verdict.plain_values import Json

__all__ = ["Captions", "Ranked", "captions_of", "lacks_captions", "ranked", "recall_by_chance", "retrieval_scores"]

_FIRST = (1, 5, 10)
_NAMED, _SHOWN = 3, 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Captions:
    """The samples that have a caption which the model can take.

    Attributes:
        samples: in the order of the dataset.
        images: their embeddings, (samples, projection).
        texts: every caption, each text once, in the order of the dataset.
        texts_of: for each sample the places of its texts.
        images_of: for each text the places of its samples.
        details: counts for the report.
    """

    samples: tuple[Sample, ...]
    images: NDArray[np.float64]
    texts: tuple[str, ...]
    texts_of: tuple[tuple[int, ...], ...]
    images_of: tuple[tuple[int, ...], ...]
    details: dict[str, Json]


@dataclass(frozen=True, slots=True)
class Ranked:
    """Both directions of retrieval, which one product of images and texts gives.

    Attributes:
        captions: what belongs to what.
        of_images: the rank of each image's nearest own text, (samples,).
        of_texts: the rank of each text's nearest own image, (texts,).
    """

    captions: Captions
    of_images: NDArray[np.float64]
    of_texts: NDArray[np.float64]


def lacks_captions(dataset: Dataset) -> str | None:
    """Return why there is nothing to retrieve, a clause; None where a sample has a caption."""
    entries = dataset.entries(images=False)
    found = any(entry.sample is not None and entry.sample.captions for entry in entries)
    return None if found else "no sample of the dataset has a caption"


def ranked(embedded: Embedded) -> Ranked:
    """Return the ranks of images and of texts, computed once for both tasks. Raises DatasetError as `captions_of`."""
    if "retrieval" not in embedded.kept:
        known = captions_of(embedded)
        ranks = embedded.rank(known.images, embedded.texts(known.texts), known.texts_of)
        embedded.kept["retrieval"] = Ranked(known, *ranks)
    found: Ranked = embedded.kept["retrieval"]
    return found


def captions_of(embedded: Embedded) -> Captions:
    """Return the samples with captions, and what belongs to what.

    Raises:
        DatasetError: not one image that can be read has a caption that the model can take.
    """
    every = tuple(dict.fromkeys(text for sample in embedded.samples for text in sample.captions))
    fitting = {text for text, fits in zip(every, embedded.fits(every), strict=True) if fits}
    rows = [row for row, sample in enumerate(embedded.samples) if fitting.intersection(sample.captions)]
    if not rows:
        what = "not one image that can be read has a caption that the model can take"
        raise DatasetError(what, where=embedded.dataset.root, fix="Bring the images that the captions were written for")
    samples = tuple(embedded.samples[row] for row in rows)
    places: dict[str, int] = {}
    texts_of = tuple(
        tuple(dict.fromkeys(places.setdefault(text, len(places)) for text in sample.captions if text in fitting))
        for sample in samples
    )
    images_of: list[list[int]] = [[] for _ in places]
    for image, texts in enumerate(texts_of):
        for text in texts:
            images_of[text].append(image)
    return Captions(
        samples=samples,
        images=embedded.images[rows],
        texts=tuple(places),
        texts_of=texts_of,
        images_of=tuple(map(tuple, images_of)),
        details={
            "images": len(samples),
            "texts": len(places),
            "images_without_caption": len(embedded.samples) - len(samples),
            "captions_too_long": len(every) - len(fitting),
            "long_captions": tuple(text[:_SHOWN] for text in every if text not in fitting)[:_NAMED],
        },
    )


def retrieval_scores(ranks: NDArray[np.float64], own: Sequence[Sequence[int]], *, items: int) -> tuple[Score, ...]:
    """Return recall@1, which is judged, recall@5, recall@10 and the median rank.

    An approximate search, which knows the first few ranks only, has no median. Among k items or fewer recall@k is 1,
    whatever the model, and so is its chance.

    Args:
        ranks: of the nearest own item, (queries,); NaN where an embedding was not finite, infinite where it is not
            among the first.
        own: for each query the items that are right.
        items: how many there are to retrieve from.
    """
    missing = np.isnan(ranks)  # (queries,)
    recalls = tuple(
        Score(
            name=f"recall_at_{first}",
            values=np.where(missing, np.nan, ranks <= first),
            chance=recall_by_chance(own, first=first, items=items),
        )
        for first in _FIRST
    )
    if np.isinf(ranks).any():
        return recalls
    median = Score(name="median_rank", values=ranks, aggregate=_median, higher_is_better=False, worst=float(items))
    return (*recalls, median)


def recall_by_chance(own: Sequence[Sequence[int]], *, first: int, items: int) -> float:
    """Return the expected recall among the first items of a random order: a hypergeometric share, exact.

    Args:
        own: for each query the items that are right.
        first: how many items are looked at.
        items: how many there are.
    """
    first = min(first, items)
    draws = comb(items, first)
    counts = Counter(map(len, own))
    hits = (count * ((draws - comb(items - right, first)) / draws) for right, count in counts.items())
    return fsum(hits) / len(own)


def _median(values: NDArray[np.float64], rows: NDArray[np.intp]) -> float:
    return float(np.median(values[rows]))
