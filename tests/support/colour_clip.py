"""A model that sees and reads colours only, in place of a runtime: evaluations without torch, on real files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from clip_eval.dataset import Dataset, decode
from clip_eval.embedding import embedded as module
from clip_eval.embedding.embed import unit
from clip_eval.embedding.embedded import Embedded
from clip_eval.subject.candidate import Candidate

__all__ = ["sees_colours"]

WORDS = {"red": (1.0, 0.1, 0.1), "green": (0.1, 1.0, 0.1), "blue": (0.1, 0.1, 1.0)}
LONGEST = 40  # words of a text


def sees_colours(patch: pytest.MonkeyPatch, *, broken: Sequence[str] = (), blind: str | None = None) -> None:
    """Let every checkpoint embed an image by its mean colour and a text by its words of colours.

    Args:
        patch: undoes it.
        broken: ids of samples whose embedding is NaN.
        blind: a part of a checkpoint's name: that one takes red for blue.
    """

    def embed(runtime: str, dataset: Dataset, **_: object) -> Embedded:
        found = list(map(decode, dataset.entries()))
        known = [item for item in found if item.image is not None and item.sample is not None]
        images = np.array([np.asarray(item.image.convert("RGB")).mean((0, 1)) for item in known])  # type: ignore[union-attr]
        if blind is not None and blind in runtime:
            images = np.where(images[:, :1] > 150, images[:, ::-1], images)
        lost = np.array([item.sample is not None and item.sample.id in broken for item in known])  # (samples,)
        return Embedded(
            dataset=dataset,
            digest=dataset.digest(),
            samples=tuple(item.sample for item in known if item.sample is not None),
            images=np.where(lost[:, None], np.nan, unit(images)),
            unreadable=tuple(f"{item.where}: {item.problem}" for item in found if item.image is None),
            texts=_read,
            fits=lambda texts: [len(text.split()) <= LONGEST for text in texts],
        )

    patch.setattr(module, "embed_dataset", embed)
    patch.setattr(Candidate, "runtime", property(lambda candidate: candidate.model))


def _read(texts: Sequence[str]) -> NDArray[np.float64]:
    rows = [np.sum([row for word, row in WORDS.items() if word in text] or [(1.0, 1.0, 1.0)], axis=0) for text in texts]
    return unit(np.array(rows))
