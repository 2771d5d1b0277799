"""Zero-shot classification (Radford et al. 2021, section 3.1): the class whose texts lie nearest to the image.

A class is the mean of the unit embeddings of its prompts, at length 1 again (prompt ensembling, section 3.1.4). Ties go
to the class that the dataset names first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from clip_eval.dataset import Dataset, Decoded, Sample, ZeroShot, decoded
from clip_eval.embedding.embed import embed_images, embed_texts, unit
from clip_eval.errors import DatasetError
from clip_eval.subject.runtime import Runtime
from clip_eval.tasks.statistics import Interval, wilson_interval
from clip_eval.verdict.plain_values import Json

__all__ = ["NAME", "Answer", "ZeroShotScores", "score_zero_shot"]

NAME = "zero_shot_top1"
"""The task's name in run records and packs."""

_IMAGES_AT_ONCE = 64
_WORST_CLASSES = 5

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the subject made of one sample: class indices. `predicted` is None where an embedding was not finite."""

    sample: str
    expected: int
    predicted: int | None

    @property
    def hit(self) -> bool:
        """Whether the answer is right."""
        return self.predicted == self.expected


@dataclass(frozen=True, slots=True)
class ZeroShotScores:
    """The answers of one subject to one dataset.

    Attributes:
        task: the classes and prompts.
        answers: one for each readable sample, in the order of the dataset.
        unreadable: place and problem of each image that could not be read.
        dataset: digest of the evaluation set: settings, manifest and image files, or shards.
    """

    task: ZeroShot
    answers: tuple[Answer, ...]
    unreadable: tuple[str, ...]
    dataset: str

    @property
    def hits(self) -> dict[str, bool]:
        """Sample id -> whether the answer is right: what a later run is paired with."""
        return {answer.sample: answer.hit for answer in self.answers}

    @property
    def score(self) -> float:
        """Top-1 accuracy over the samples that were answered."""
        return sum(answer.hit for answer in self.answers) / len(self.answers)

    @property
    def interval(self) -> Interval:
        """95 % interval of `score`."""
        return wilson_interval(sum(answer.hit for answer in self.answers), len(self.answers))

    @property
    def not_finite(self) -> int:
        """Samples without an answer because an embedding holds NaN or infinity; they count as wrong."""
        return sum(answer.predicted is None for answer in self.answers)

    @property
    def chance(self) -> float:
        """Expected accuracy of guessing."""
        return 1 / len(self.task.classes)

    def details(self) -> dict[str, Json]:
        """Return what a report shows beside the score."""
        return {
            "classes": len(self.task.classes),
            "prompts": len(self.task.prompts),
            "images": len(self.answers),
            "chance": self.chance,
            "dataset": self.dataset,
            "not_finite": self.not_finite,
            "unreadable": len(self.unreadable),
            "unreadable_images": self.unreadable[:_WORST_CLASSES],
            "worst_classes": tuple(self._worst_classes()),
        }

    def _worst_classes(self) -> Iterator[dict[str, Json]]:
        """The classes with the lowest share of hits, none without a miss, and what each is mostly taken for."""
        asked = Counter(answer.expected for answer in self.answers)
        missed = Counter(answer.expected for answer in self.answers if not answer.hit)
        for index in sorted(missed, key=lambda index: (-missed[index] / asked[index], index))[:_WORST_CLASSES]:
            taken = Counter(answer.predicted for answer in self.answers if answer.expected == index and not answer.hit)
            most = taken.most_common(1)[0][0]
            yield {
                "class": self.task.classes[index],
                "hits": asked[index] - missed[index],
                "images": asked[index],
                "taken_for": None if most is None else self.task.classes[most],
            }


def score_zero_shot(subject: Runtime, dataset: Dataset) -> ZeroShotScores:
    """Ask the subject for the class of every sample of the dataset.

    Args:
        subject: a checkpoint with tokenizer and image processor.
        dataset: with a zero-shot task.

    Raises:
        DatasetError: there is no zero-shot task, a line of the manifest is no sample, a prompt is too long for the
            model, or not one image can be read.
    """
    task = dataset.zero_shot
    if task is None:
        raise DatasetError(
            "the dataset sets no zero-shot task", where=dataset.root, fix="Give it classes to tell apart"
        )
    classes = _class_embeddings(subject, task)  # (classes, projection)
    answers: list[Answer] = []
    unreadable: list[str] = []
    for batch in _batches(decoded(dataset), _IMAGES_AT_ONCE):
        unreadable += [f"{item.where}: {item.problem}" for item in batch if item.image is None]
        answers += _answers(subject, task, classes, [item for item in batch if item.image is not None])
    if not answers:
        what = f"not one of {len(unreadable)} images can be read"
        raise DatasetError(what, where=dataset.root, fix="Bring the images that the manifest was written for")
    return ZeroShotScores(task, tuple(answers), tuple(unreadable), dataset.digest())


def _class_embeddings(subject: Runtime, task: ZeroShot) -> NDArray[np.float64]:
    texts = embed_texts(subject, task.texts())  # (classes * prompts, projection)
    by_class = texts.reshape(len(task.classes), len(task.prompts), -1)  # (classes, prompts, projection)
    return unit(by_class.mean(axis=1))


def _answers(subject: Runtime, task: ZeroShot, classes: NDArray[np.float64], batch: list[Decoded]) -> Iterator[Answer]:
    if not batch:
        return
    images = embed_images(subject, [item.image for item in batch if item.image is not None])  # (images, projection)
    scores = images @ classes.T  # (images, classes)
    for item, row in zip(batch, scores, strict=True):
        assert item.sample is not None, "an image has a sample"
        finite = bool(np.isfinite(row).all())
        yield Answer(item.sample.id, _expected(item.sample, task), int(np.argmax(row)) if finite else None)


def _expected(sample: Sample, task: ZeroShot) -> int:
    assert sample.label is not None, "a dataset with a zero-shot task yields no sample without a label"
    return task.classes.index(sample.label)


def _batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
