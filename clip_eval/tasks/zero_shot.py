"""Zero-shot classification (Radford et al. 2021, section 3.1): the class whose texts lie nearest to the image.

A class is the mean of the unit embeddings of its prompts, at length 1 again (prompt ensembling, section 3.1.4). Ties go
to the class that the dataset names first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from clip_eval.dataset import Dataset, Sample, ZeroShot
from clip_eval.embedding.embed import unit
from clip_eval.embedding.embedded import Embedded
from clip_eval.tasks.task import Score, Scores, Task
from clip_eval.verdict.plain_values import Json

__all__ = ["TASK"]

_IMAGES_AT_ONCE = 64
_WORST_CLASSES = 5
_NONE = -1


def _lacks(dataset: Dataset) -> str | None:
    return "the dataset sets no zero-shot task" if dataset.zero_shot is None else None


def _score(embedded: Embedded) -> Scores:
    task = embedded.dataset.zero_shot
    assert task is not None, "the dataset does not lack it"
    expected = np.array([_label(sample, task) for sample in embedded.samples])  # (samples,)
    predicted = _predicted(embedded, task)  # (samples,)
    hits = predicted == expected  # (samples,)
    return Scores(
        samples=tuple(sample.id for sample in embedded.samples),
        scores=(Score(name="top1", values=hits.astype(np.float64), chance=1 / len(task.classes)),),
        details={
            "classes": len(task.classes),
            "prompts": len(task.prompts),
            "worst_classes": tuple(_worst_classes(expected.tolist(), predicted.tolist(), task.classes)),
        },
        answers=tuple("" if answer == _NONE else task.classes[answer] for answer in predicted.tolist()),
    )


TASK = Task(
    name="zero_shot",
    primary="top1",
    claim="The class whose prompts lie nearest to an image is its label",
    lacks=_lacks,
    score=_score,
)


def _predicted(embedded: Embedded, task: ZeroShot) -> NDArray[np.intp]:
    """The index of the nearest class, (samples,); -1 where an embedding is not finite."""
    texts = embedded.texts(task.texts())  # (classes * prompts, projection)
    by_class = texts.reshape(len(task.classes), len(task.prompts), -1)  # (classes, prompts, projection)
    classes = unit(by_class.mean(axis=1))  # (classes, projection)
    found = []
    for start in range(0, len(embedded.images), _IMAGES_AT_ONCE):
        cosines = embedded.images[start : start + _IMAGES_AT_ONCE] @ classes.T  # (images, classes)
        found.append(np.where(np.isfinite(cosines).all(axis=1), cosines.argmax(axis=1), _NONE))
    return np.concatenate(found)


def _label(sample: Sample, task: ZeroShot) -> int:
    assert sample.label is not None, "a dataset with a zero-shot task yields no sample without a label"
    return task.classes.index(sample.label)


def _worst_classes(
    expected: Sequence[int], predicted: Sequence[int], classes: Sequence[str]
) -> Iterator[dict[str, Json]]:
    """The classes with the lowest share of hits, none without a miss, and what each is mostly taken for."""
    asked = Counter(expected)
    missed = Counter(label for label, answer in zip(expected, predicted, strict=True) if label != answer)
    for index in sorted(missed, key=lambda index: (-missed[index] / asked[index], index))[:_WORST_CLASSES]:
        taken = Counter(
            answer for label, answer in zip(expected, predicted, strict=True) if label == index and answer != index
        )
        most = taken.most_common(1)[0][0]
        yield {
            "class": classes[index],
            "hits": asked[index] - missed[index],
            "images": asked[index],
            "taken_for": None if most == _NONE else classes[most],
        }
