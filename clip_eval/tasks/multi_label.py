"""Multi-label tagging: does what shows a tag lie nearer to the tag's texts than what does not show it?

A tag is the mean of the unit embeddings of its prompts, at length 1 again, as a class is in zero-shot classification.
For each tag the images are ordered by cosine. Average precision is the sum over distinct cosines of the gain in recall
times the precision there, without interpolation, scikit-learn's `average_precision_score`: images of equal cosine come
together, so a model that maps everything onto one point scores each tag's share of images. The score is the mean over
tags; a tag that no image shows has no average precision, is left out of the mean, and named. An image without a finite
embedding comes last for every tag. Where resampling leaves no image with a tag at all the score is 0.

The values of an image are one number a tag: how many different cosines of that tag lie at or below its own. Only their
order counts in the score. They are small whole numbers, and as many as images x tags.
"""

from __future__ import annotations

from math import fsum

import numpy as np
from numpy.typing import NDArray

from clip_eval.dataset import Dataset
from clip_eval.embedding.embedded import Embedded
from clip_eval.errors import DatasetError
from clip_eval.tasks._classification import ensembled
from clip_eval.tasks.task import Score, Scores, Task

__all__ = ["TASK", "average_precisions", "precision_by_chance"]

_NAMED_TAGS = 5


def _lacks(dataset: Dataset) -> str | None:
    if dataset.multi_label is None:
        return "the dataset sets no multi-label task"
    entries = dataset.entries(images=False)
    found = any(entry.sample is not None and entry.sample.tags for entry in entries)
    return None if found else "no sample of the dataset has one of the tags"


def _score(embedded: Embedded) -> Scores:
    task = embedded.dataset.multi_label
    assert task is not None, "the dataset does not lack it"
    shows = np.array([[tag in sample.tags for tag in task.tags] for sample in embedded.samples])  # (samples, tags)
    if not shows.any():
        fix = "Bring the images that the tags were given to"
        raise DatasetError("not one image that can be read has a tag", where=embedded.dataset.root, fix=fix)
    tags = ensembled(embedded, task.texts(), prompts=len(task.prompts))  # (tags, projection)
    score = _mean_average_precision(embedded.images @ tags.T, shows)
    found = average_precisions(score.filled.reshape(shows.shape).astype(np.intp), shows)  # (tags,)
    kept = [index for index in np.argsort(found, kind="stable").tolist() if shows[:, index].any()]
    without = [tag for index, tag in enumerate(task.tags) if not shows[:, index].any()]
    return Scores(
        samples=tuple(sample.id for sample in embedded.samples for _ in task.tags),
        scores=(score,),
        details={
            "tags": len(task.tags),
            "prompts": len(task.prompts),
            "worst_tags": tuple(
                {
                    "tag": task.tags[index],
                    "average_precision": float(found[index]),
                    "images": int(shows[:, index].sum()),
                }
                for index in kept[:_NAMED_TAGS]
            ),
            "tags_without_images": len(without),
            "without_images": tuple(without[:_NAMED_TAGS]),
        },
    )


TASK = Task(
    name="multi_label",
    primary="mean_average_precision",
    claim="Images that show a tag lie nearer to its prompts than images that do not",
    lacks=_lacks,
    score=_score,
)


def average_precisions(levels: NDArray[np.intp], shows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the average precision of each tag, (tags,); NaN where no image shows it.

    Args:
        levels: whole numbers from 0 to the number of samples, higher for a nearer image, (samples, tags).
        shows: which image shows which tag, (samples, tags).
    """
    places = np.broadcast_to(np.arange(shows.shape[1]), shows.shape)  # (samples, tags)
    return _precisions(places.ravel(), levels.ravel(), shows.ravel(), tags=shows.shape[1], most=len(shows))


def precision_by_chance(images: int, showing: int) -> float:
    """Return the expected average precision of a random order without ties, exact.

    At place k stands an image of the tag with probability showing / images, and then each of the k - 1 before it with
    (showing - 1) / (images - 1).
    """
    density = (showing - 1) / max(1, images - 1)
    return fsum((1 + (place - 1) * density) / place for place in range(1, images + 1)) / images


def _mean_average_precision(cosines: NDArray[np.float64], shows: NDArray[np.bool_]) -> Score:
    images, tags = shows.shape
    place, shown = np.tile(np.arange(tags), images), shows.ravel()  # (values,)

    def aggregate(values: NDArray[np.float64], rows: NDArray[np.intp]) -> float:
        found = _precisions(place[rows], values[rows].astype(np.intp), shown[rows], tags=tags, most=images)
        known = found[~np.isnan(found)]
        return float(known.mean()) if len(known) else 0.0

    levels = np.stack([_levels(column) for column in cosines.T], axis=1)  # (samples, tags)
    chances = [precision_by_chance(images, int(count)) for count in shows.sum(axis=0) if count]
    return Score(
        name="mean_average_precision",
        values=levels.ravel(),
        aggregate=aggregate,
        chance=fsum(chances) / len(chances),
    )


def _levels(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many different values lie at or below each, (samples,); NaN for NaN, which stands below all."""
    finite = np.isfinite(column)
    found = np.full(len(column), np.nan)  # (samples,)
    found[finite] = np.unique(column[finite], return_inverse=True)[1] + 1
    return found


def _precisions(
    places: NDArray[np.intp], levels: NDArray[np.intp], shown: NDArray[np.bool_], *, tags: int, most: int
) -> NDArray[np.float64]:
    """Average precision of each tag, (tags,), from tag, level and truth of each row, (rows,), levels up to `most`."""
    cells, shape = places * (most + 1) + (most - levels), (tags, most + 1)
    size = tags * (most + 1)
    rows = np.bincount(cells, minlength=size).reshape(shape)  # (tags, levels), the highest level first
    right = np.bincount(cells, weights=shown, minlength=size).reshape(shape)  # (tags, levels)
    hits = right.cumsum(axis=1)  # (tags, levels)
    precision = hits / np.maximum(rows.cumsum(axis=1), 1)  # (tags, levels)
    total = hits[:, -1]  # (tags,)
    return np.where(total > 0, (right * precision).sum(axis=1) / np.maximum(total, 1), np.nan)
