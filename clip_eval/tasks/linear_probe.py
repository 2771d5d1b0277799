"""Linear probe (Radford et al. 2021, section 3.2): how well a linear classifier of frozen embeddings names the label.

The classifier is scikit-learn's `LogisticRegression` (lbfgs, up to 1,000 iterations, as in the paper) on the unit
embeddings that every task has; the paper takes the features before the projection. The training part is split once
more: of seven powers of ten, the strongest regularisation (`C`) that none beats on a quarter of it is chosen, and the
classifier is then fitted to the whole training part.

Where the dataset says which samples are `train` and which `test`, those are the parts, and samples of other splits or
without a label take no part. Else about a quarter of the labelled samples is the test part: class by class as nearly as
whole groups allow, since samples of one group never stand on both sides, and in an order drawn from the seed and the
names of the groups, so that the same samples are tested on every machine and under every release.

An answer depends on every training image: where one has no finite embedding there is no value at all. A class without a
training image is always missed, and named. Guessing is to answer the commonest class of the training part, or any.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_eval.dataset import Dataset, Sample
from clip_eval.embedding.embedded import Embedded
from clip_eval.errors import DatasetError
from clip_eval.tasks._classification import mean_per_class_recall
from clip_eval.tasks.task import Score, Scores, Task
from clip_eval.verdict.plain_values import Json

__all__ = ["TASK", "Parts", "parts_of"]

LEAST_TESTED = 25
"""Images whose answers say anything: with fewer, hardly a probe could be told from guessing, or from another one."""

_HELD_OUT = 0.25
_STRENGTHS = tuple(10.0**power for power in range(-1, 6))  # of C, from strong regularisation to weak
_MOST_ITERATIONS = 1000
_SEED = 0
_NAMED_CLASSES = 5
_NONE = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Places of samples, in their order.

    Attributes:
        train: what the final classifier is fitted to.
        validation: the part of it that decides on the regularisation.
        test: what is scored.
        given: whether the dataset says which samples are trained on.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    given: bool

    @property
    def fit(self) -> tuple[int, ...]:
        """The part of `train` that classifiers of every regularisation are fitted to."""
        held_out = set(self.validation)
        return tuple(row for row in self.train if row not in held_out)


def parts_of(samples: Sequence[Sample]) -> Parts:
    """Return which samples are trained on and which are tested; see the module's text."""
    rows = [row for row, sample in enumerate(samples) if sample.label is not None]
    given = {"train", "test"} <= {samples[row].split for row in rows}
    if given:
        train = tuple(row for row in rows if samples[row].split == "train")
        test = tuple(row for row in rows if samples[row].split == "test")
    else:
        test = _held_out(rows, samples, seed=_SEED)
        train = tuple(sorted(set(rows) - set(test)))
    return Parts(train=train, validation=_held_out(train, samples, seed=_SEED + 1), test=test, given=given)


def _lacks(dataset: Dataset) -> str | None:
    found = [entry.sample for entry in dataset.entries(images=False) if entry.sample is not None]
    return _too_small(found, parts_of(found))


def _too_small(samples: Sequence[Sample], parts: Parts) -> str | None:
    """Why there is too little to train or to test, a clause; None where there is enough."""
    if not parts.train:
        return "no sample of the dataset has a label"
    if len(parts.test) < LEAST_TESTED:
        whole = "" if parts.given else f" of {len(parts.train) + len(parts.test)}"
        return f"its {len(parts.test)} labelled test images{whole} are too few: a probe is tested on {LEAST_TESTED}"
    if len({samples[row].label for row in parts.fit}) < 2 or not parts.validation:
        return "its training images are too few to fit two classes and to choose the regularisation"
    return None


def _score(embedded: Embedded) -> Scores:
    parts = parts_of(embedded.samples)
    if reason := _too_small(embedded.samples, parts):
        what = f"of the images that can be read: {reason}"
        raise DatasetError(what, where=embedded.dataset.root, fix="Bring the images that the labels were given to")
    used = {row: str(embedded.samples[row].label) for row in (*parts.train, *parts.test)}
    names = sorted(set(used.values()))
    number = {name: index for index, name in enumerate(names)}
    labels = np.array([number[used[row]] if row in used else _NONE for row in range(len(embedded.samples))])
    answers, details = _answers(embedded.images, labels, parts)
    expected = labels[list(parts.test)]  # (tested,)
    hits = np.where(answers == _NONE, np.nan, answers == expected)  # (tested,)
    trained = np.bincount(labels[list(parts.train)], minlength=len(names))  # (classes,)
    chance = max(1 / len(names), float(np.mean(expected == trained.argmax())))
    unknown = [name for name, count in zip(names, trained.tolist(), strict=True) if not count]
    return Scores(
        samples=tuple(embedded.samples[row].id for row in parts.test),
        scores=(
            Score(name="accuracy", values=hits, chance=chance),
            mean_per_class_recall(hits, expected, classes=len(names)),
        ),
        details={
            "classes": len(names),
            "classes_without_training_images": len(unknown),
            "without_training_images": tuple(unknown[:_NAMED_CLASSES]),
            "training_images": len(parts.train),
            "validation_images": len(parts.validation),
            "split": "the dataset's" if parts.given else f"a quarter held out, seed {_SEED}",
            **details,
        },
    )


TASK = Task(
    name="linear_probe",
    primary="accuracy",
    claim="A linear classifier of frozen image embeddings names the label of images that it never saw",
    lacks=_lacks,
    score=_score,
)


def _answers(
    images: NDArray[np.float64], labels: NDArray[np.intp], parts: Parts
) -> tuple[NDArray[np.intp], dict[str, Json]]:
    """The class that each tested image is given, (tested,), -1 where there is none; and what was chosen on the way."""
    broken = int((~np.isfinite(images[list(parts.train)]).all(axis=1)).sum())
    if broken:
        return np.full(len(parts.test), _NONE), {"training_images_not_finite": broken}
    fit, validation, train, test = (list(rows) for rows in (parts.fit, parts.validation, parts.train, parts.test))
    right = {}
    for strength in _STRENGTHS:
        model = _fitted(images[fit], labels[fit], strength)
        right[strength] = int((model.predict(np.nan_to_num(images[validation])) == labels[validation]).sum())
    best = max(right, key=lambda strength: (right[strength], -strength))
    model = _fitted(images[train], labels[train], best)
    finite = np.isfinite(images[test]).all(axis=1)  # (tested,)
    answers = np.where(finite, model.predict(np.nan_to_num(images[test])), _NONE)  # (tested,)
    return answers, {
        "C": best,
        "validation_hits": right[best],
        "iterations": int(model.n_iter_.max()),
        "converged": bool(model.n_iter_.max() < _MOST_ITERATIONS),
    }


def _fitted(features: NDArray[np.float64], labels: NDArray[np.intp], strength: float) -> Any:
    """A classifier fitted to features, (images, projection), and labels, (images,)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # told as `converged`
        return LogisticRegression(C=strength, max_iter=_MOST_ITERATIONS).fit(features, labels)


def _held_out(rows: Sequence[int], samples: Sequence[Sample], *, seed: int) -> tuple[int, ...]:
    """About a quarter of labelled samples: each group, as they are drawn, that brings classes nearer to a quarter."""
    groups: dict[str, list[int]] = {}
    for row in rows:
        sample = samples[row]
        groups.setdefault(f"sample {sample.id}" if sample.group is None else f"group {sample.group}", []).append(row)
    # what is left to hold out of each class, in samples; below 0 there are too many
    left = {label: _HELD_OUT * count for label, count in Counter(samples[row].label for row in rows).items()}
    found: list[int] = []
    for name in sorted(groups, key=lambda name: _drawn(name, seed)):
        counts = Counter(samples[row].label for row in groups[name])
        if sum((left[label] - count) ** 2 - left[label] ** 2 for label, count in counts.items()) < 0:
            found += groups[name]
            left.update({label: left[label] - count for label, count in counts.items()})
    return tuple(sorted(found))


def _drawn(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode(errors="backslashreplace")).digest()
