"""Embeddings made by hand, as tasks take them: no model, no image files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_eval.dataset import Dataset, MultiLabel, Sample, ZeroShot
from clip_eval.dataset.sample import Entry
from clip_eval.embedding.embedded import Embedded
from clip_eval.tasks.task import Score, Scored

__all__ = ["embedded", "hits", "sample", "scored"]


def sample(
    name: str,
    *,
    label: str | None = None,
    captions: Sequence[str] = (),
    group: str | None = None,
    tags: Sequence[str] = (),
    negatives: Sequence[str] = (),
    split: str | None = None,
) -> Sample:
    """Return a sample of this id."""
    return Sample(
        id=name, path=f"{name}.png", label=label, captions=tuple(captions), group=group, tags=tuple(tags),
        negatives=tuple(negatives), split=split,
    )  # fmt: skip


def embedded(
    samples: Sequence[Sample],
    images: NDArray[np.float64],
    texts: Mapping[str, Sequence[float]],
    *,
    zero_shot: ZeroShot | None = None,
    multi_label: MultiLabel | None = None,
    unreadable: Sequence[str] = (),
) -> Embedded:
    """Return these samples with these embeddings, (samples, projection); `texts` has a row for each text."""
    entries = [Entry(item.path, item, None, None) for item in samples]
    source: Any = SimpleNamespace(
        zero_shot=zero_shot, multi_label=multi_label, entries=lambda *, images: iter(entries), files=None
    )
    return Embedded(
        dataset=Dataset(Path("nowhere"), source),
        digest="digest",
        samples=tuple(samples),
        images=images,
        unreadable=tuple(unreadable),
        texts=lambda wanted: np.array([texts[text] for text in wanted], dtype=np.float64),
        fits=lambda wanted: [text in texts for text in wanted],
    )


def scored(*scores: Score, samples: Sequence[str] | None = None, unreadable: Sequence[str] = ()) -> Scored:
    """Return scores of the task `zero_shot`, one value a sample where `samples` are not given."""
    names = [str(index) for index in range(len(scores[0].values))] if samples is None else samples
    return Scored(
        task="zero_shot",
        dataset="digest",
        samples=tuple(names),
        scores=scores,
        details={},
        unreadable=tuple(unreadable),
    )


def hits(
    count: int, of: int, *, classes: int = 48, unreadable: Sequence[str] = (), broken: int = 0, name: str = "top1"
) -> Scored:
    """Return a share of hits, the first ones; the last `broken` of the misses have no value at all."""
    values = np.array([1.0] * count + [0.0] * (of - count - broken) + [np.nan] * broken)  # (of,)
    return scored(Score(name=name, values=values, chance=1 / classes), unreadable=unreadable)
