"""What tasks with classes or tags share: the embedding of a name, and the mean of the recalls of classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clip_eval.embedding.embed import unit
from clip_eval.embedding.embedded import Embedded
from clip_eval.tasks.task import Score

__all__ = ["ensembled", "mean_per_class_recall"]


def ensembled(embedded: Embedded, texts: Sequence[str], *, prompts: int) -> NDArray[np.float64]:
    """Return unit embeddings of names, (names, projection): prompt ensembling (Radford et al. 2021, section 3.1.4).

    A name is the mean of the unit embeddings of its prompts, at length 1 again.

    Args:
        embedded: gives the texts' embeddings.
        texts: names x prompts, all prompts of a name in a row.
        prompts: how many a name has.
    """
    rows = embedded.texts(texts)  # (names * prompts, projection)
    return unit(rows.reshape(-1, prompts, rows.shape[-1]).mean(axis=1))


def mean_per_class_recall(hits: NDArray[np.float64], labels: NDArray[np.intp], *, classes: int) -> Score:
    """Return the mean over classes of each one's share of hits, scikit-learn's `balanced_accuracy_score`.

    A class without an image among the rows has no recall and is left out of the mean.

    Args:
        hits: 1 or 0, (samples,).
        labels: the class of each sample, from 0, (samples,).
        classes: how many there are; guessing has a recall of 1 / classes in each.
    """

    def aggregate(values: NDArray[np.float64], rows: NDArray[np.intp]) -> float:
        asked = np.bincount(labels[rows], minlength=classes)  # (classes,)
        right = np.bincount(labels[rows], weights=values[rows], minlength=classes)  # (classes,)
        return float((right[asked > 0] / asked[asked > 0]).mean())

    return Score(name="mean_per_class_recall", values=hits, aggregate=aggregate, chance=1 / classes)
