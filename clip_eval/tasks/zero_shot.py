"""Zero-shot classification (Radford et al. 2021, section 3.1): the class whose texts lie nearest to the image.

A class is the mean of the unit embeddings of its prompts, at length 1 again (prompt ensembling, section 3.1.4). Ties go
to the class that the dataset names first, in top5 too. Among five classes or fewer top5 is 1, whatever the model.

mean_per_class_recall is the mean over classes of each one's share of hits; a class without an image is left out of it,
and named.

expected_calibration_error (Guo et al. 2017, On Calibration of Modern Neural Networks, equation 3) compares how sure the
model is with how often it is right: the images are put into 15 bins of equal width, ((b - 1) / 15, b / 15], by the
largest softmax probability at the model's own logit scale; the distance between the mean probability and the share of
hits of each bin is averaged over images. An image without a finite embedding counts as a miss of which the model was
sure. The error of few images is larger than that of many, and so are the resampled errors that its interval is made of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clip_eval.dataset import Dataset, Sample, ZeroShot
from clip_eval.embedding.embedded import Embedded
from clip_eval.tasks._classification import ensembled, mean_per_class_recall
from clip_eval.tasks.task import Score, Scores, Task
from clip_eval.verdict.plain_values import Json

__all__ = ["TASK"]

_IMAGES_AT_ONCE = 64
_FIRST = 5
_BIN_ENDS = np.arange(1, 15) / 15  # (14,): the end of each bin but the last
_NAMED_CLASSES = 5
_NAMED_CONFUSIONS = 40
_NONE = -1


@dataclass(frozen=True, slots=True)
class _Answers:
    """What the classes' nearness says of each image.

    Attributes:
        nearest: index of the nearest class, (samples,); -1 where an embedding is not finite.
        place: how many classes come before the label, (samples,); NaN where an embedding is not finite.
        confidence: largest softmax probability, (samples,); NaN likewise.
    """

    nearest: NDArray[np.intp]
    place: NDArray[np.float64]
    confidence: NDArray[np.float64]


def _lacks(dataset: Dataset) -> str | None:
    return "the dataset sets no zero-shot task" if dataset.zero_shot is None else None


def _score(embedded: Embedded) -> Scores:
    task = embedded.dataset.zero_shot
    assert task is not None, "the dataset does not lack it"
    expected = np.array([_label(sample, task) for sample in embedded.samples])  # (samples,)
    answers = _answers(embedded, task, expected)
    hits = (answers.place == 0).astype(np.float64)  # (samples,)
    classes = len(task.classes)
    labels = set(expected.tolist())
    without = [name for index, name in enumerate(task.classes) if index not in labels]
    return Scores(
        samples=tuple(sample.id for sample in embedded.samples),
        scores=(
            Score(name="top1", values=hits, chance=1 / classes),
            Score(
                name=f"top{_FIRST}",
                values=(answers.place < _FIRST).astype(np.float64),
                chance=min(_FIRST, classes) / classes,
            ),
            mean_per_class_recall(hits, expected, classes=classes),
            _calibration_error(answers.confidence, hits),
        ),
        details={
            "classes": classes,
            "prompts": len(task.prompts),
            "worst_classes": tuple(_worst_classes(expected.tolist(), answers.nearest.tolist(), task.classes)),
            "confusions": tuple(_confusions(expected.tolist(), answers.nearest.tolist(), task.classes)),
            "calibration": tuple(_calibration(answers.confidence, hits)),
            "classes_without_images": len(without),
            "without_images": tuple(without[:_NAMED_CLASSES]),
        },
        answers=tuple("" if index == _NONE else task.classes[index] for index in answers.nearest.tolist()),
    )


TASK = Task(
    name="zero_shot",
    primary="top1",
    claim="The class whose prompts lie nearest to an image is its label",
    lacks=_lacks,
    score=_score,
)


def _answers(embedded: Embedded, task: ZeroShot, expected: NDArray[np.intp]) -> _Answers:
    classes = ensembled(embedded, task.texts(), prompts=len(task.prompts))  # (classes, projection)
    blocks = []
    for start in range(0, len(embedded.images), _IMAGES_AT_ONCE):
        cosines = embedded.images[start : start + _IMAGES_AT_ONCE] @ classes.T  # (images, classes)
        blocks.append(_block(cosines, expected[start : start + _IMAGES_AT_ONCE], embedded.logit_scale))
    return _Answers(
        nearest=np.concatenate([block.nearest for block in blocks]),
        place=np.concatenate([block.place for block in blocks]),
        confidence=np.concatenate([block.confidence for block in blocks]),
    )


def _block(cosines: NDArray[np.float64], expected: NDArray[np.intp], logit_scale: float) -> _Answers:
    """The answers of some images: cosines, (images, classes), and labels, (images,)."""
    finite = np.isfinite(cosines).all(axis=1)  # (images,)
    nearest = cosines.argmax(axis=1)  # (images,)
    own = np.take_along_axis(cosines, expected[:, None], axis=1)  # (images, 1)
    earlier = np.arange(cosines.shape[1]) < expected[:, None]  # (images, classes)
    place = ((cosines > own) | ((cosines == own) & earlier)).sum(axis=1)  # (images,)
    with np.errstate(invalid="ignore"):
        behind = logit_scale * (cosines - cosines.max(axis=1, keepdims=True))  # (images, classes)
    return _Answers(
        nearest=np.where(finite, nearest, _NONE),
        place=np.where(finite, place, np.nan),
        confidence=np.where(finite, 1 / np.exp(behind).sum(axis=1), np.nan),
    )


def _calibration_error(confidence: NDArray[np.float64], hits: NDArray[np.float64]) -> Score:
    """A value is the confidence of an answer, below 0 where the answer is right: both are needed of each sample."""
    signed = np.where(hits == 1, -confidence, confidence)  # (samples,)
    name = "expected_calibration_error"
    return Score(name=name, values=signed, aggregate=_gap, higher_is_better=False, best=0.0, worst=1.0)


def _gap(values: NDArray[np.float64], rows: NDArray[np.intp]) -> float:
    confidence, hits = np.abs(values[rows]), values[rows] < 0  # (rows,)
    bins = _bins(confidence)  # (rows,)
    surplus = np.bincount(bins, weights=confidence - hits)  # (bins,): images x (mean confidence - share of hits)
    return float(np.abs(surplus).sum() / len(rows))


def _bins(confidence: NDArray[np.float64]) -> NDArray[np.intp]:
    return np.searchsorted(_BIN_ENDS, confidence, side="left")


def _calibration(confidence: NDArray[np.float64], hits: NDArray[np.float64]) -> Iterator[dict[str, Json]]:
    """Mean confidence and share of hits of each bin that holds images, in order."""
    finite = np.isfinite(confidence)  # (samples,)
    bins = _bins(confidence[finite])  # (finite samples,)
    for number in np.unique(bins):
        inside = bins == number  # (finite samples,)
        yield {
            "confidence": float(confidence[finite][inside].mean()),
            "hits": float(hits[finite][inside].mean()),
            "images": int(inside.sum()),
        }


def _confusions(expected: Sequence[int], predicted: Sequence[int], classes: Sequence[str]) -> Iterator[dict[str, Json]]:
    """Which class was taken for which, the most frequent first."""
    pairs = zip(expected, predicted, strict=True)
    counts = Counter(pair for pair in pairs if pair[0] != pair[1] and pair[1] != _NONE)
    for (label, answer), images in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_NAMED_CONFUSIONS]:
        yield {"class": classes[label], "taken_for": classes[answer], "images": images}


def _label(sample: Sample, task: ZeroShot) -> int:
    assert sample.label is not None, "a dataset with a zero-shot task yields no sample without a label"
    return task.classes.index(sample.label)


def _worst_classes(
    expected: Sequence[int], predicted: Sequence[int], classes: Sequence[str]
) -> Iterator[dict[str, Json]]:
    """The classes with the lowest share of hits, none without a miss, and what each is mostly taken for."""
    asked = Counter(expected)
    missed = Counter(label for label, answer in zip(expected, predicted, strict=True) if label != answer)
    for index in sorted(missed, key=lambda index: (-missed[index] / asked[index], index))[:_NAMED_CLASSES]:
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
