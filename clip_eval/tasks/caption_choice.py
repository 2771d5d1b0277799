"""Caption choice (SugarCrepe, Hsieh et al. 2023): the right caption of an image among wrong ones that differ by little.

A hit is an image that lies nearer to its caption, or to any of several, than to each of its wrong ones. A tie is lost,
so a model that reads nothing but the words that all captions share hits nothing. An image without a caption or without
a wrong one takes no part; nor does one with a text of more tokens than the model takes, which could lose the very word
that is wrong: such images are counted and the texts named. Guessing hits one in 1 + the number of wrong captions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clip_eval.dataset import Dataset, Sample
from clip_eval.embedding.embedded import Embedded
from clip_eval.embedding.ranking import dots
from clip_eval.errors import DatasetError
from clip_eval.tasks.task import Score, Scores, Task

__all__ = ["TASK"]

_NAMED, _SHOWN = 3, 60


def _lacks(dataset: Dataset) -> str | None:
    entries = dataset.entries(images=False)
    found = any(entry.sample is not None and _choices(entry.sample) for entry in entries)
    return None if found else "no sample of the dataset has wrong captions beside a right one"


def _choices(sample: Sample) -> tuple[str, ...]:
    """Its texts, each once, the right ones first; none where there is nothing to choose."""
    own, wrong = dict.fromkeys(sample.captions), dict.fromkeys(sample.negatives)
    return (*own, *(text for text in wrong if text not in own)) if own and wrong else ()


def _score(embedded: Embedded) -> Scores:
    asked = [(row, sample, _choices(sample)) for row, sample in enumerate(embedded.samples) if _choices(sample)]
    every = tuple(dict.fromkeys(text for _, _, choices in asked for text in choices))
    long = {text for text, fits in zip(every, embedded.fits(every), strict=True) if not fits}
    kept = [entry for entry in asked if long.isdisjoint(entry[2])]
    if not kept:
        what = "not one image that can be read has a right and a wrong caption that the model can take"
        raise DatasetError(what, where=embedded.dataset.root, fix="Bring the images that the captions were written for")
    texts = tuple(dict.fromkeys(text for _, _, choices in kept for text in choices))
    place = {text: index for index, text in enumerate(texts)}
    rows = np.repeat([row for row, _, _ in kept], [len(choices) for _, _, choices in kept])  # (pairs,)
    columns = np.array([place[text] for _, _, choices in kept for text in choices])  # (pairs,)
    cosines = dots(embedded.images, embedded.texts(texts), rows, columns)  # (pairs,)
    right = np.array([len(set(sample.captions)) for _, sample, _ in kept])  # (kept,)
    count = np.array([len(choices) for _, _, choices in kept])  # (kept,)
    return Scores(
        samples=tuple(sample.id for _, sample, _ in kept),
        scores=(Score(name="accuracy", values=_hits(cosines, right, count), chance=float((right / count).mean())),),
        details={
            "images": len(kept),
            "wrong_captions": int((count - right).sum()),
            "images_not_asked": len(embedded.samples) - len(kept),
            "captions_too_long": len(long),
            "long_captions": tuple(text[:_SHOWN] for text in every if text in long)[:_NAMED],
        },
    )


TASK = Task(
    name="caption_choice",
    primary="accuracy",
    claim="An image lies nearer to its caption than to wrong ones that differ by little",
    lacks=_lacks,
    score=_score,
)


def _hits(cosines: NDArray[np.float64], right: NDArray[np.intp], count: NDArray[np.intp]) -> NDArray[np.float64]:
    """1 where the nearest right text is nearer than each wrong one, (samples,); NaN where a cosine is."""
    starts = np.cumsum(count) - count  # (samples,)
    ends = np.column_stack([starts, starts + right]).ravel()  # (2 * samples,): right, wrong, right, wrong, ...
    best = np.maximum.reduceat(cosines, ends).reshape(-1, 2)  # (samples, 2), NaN where one is
    return np.where(np.isnan(best).any(axis=1), np.nan, best[:, 0] > best[:, 1])
