"""What a task is, and what it gives. Each task is one file of this package that assigns a `Task` to `TASK`.

A task is a function of embeddings: it sees neither the model nor the image files, and all tasks of a run share one pass
over the dataset.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from clip_eval.dataset import Dataset
from clip_eval.embedding.embedded import Embedded
from clip_eval.errors import DatasetError
from clip_eval.tasks.statistics import Interval, bootstrap_interval, unchanged_clusters, wilson_interval
from clip_eval.verdict.plain_values import Json

__all__ = ["Aggregate", "Score", "Scored", "Scores", "Task", "all_tasks", "mean", "score_task"]

Aggregate: TypeAlias = Callable[[NDArray[np.float64], NDArray[np.intp]], float]
"""Values, (values,), and the rows that count, (rows,), to a number. Resampling repeats rows and leaves rows out."""


def mean(values: NDArray[np.float64], rows: NDArray[np.intp]) -> float:
    """Return the mean of the values in these rows."""
    return float(values[rows].mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One number and the values that it is made of.

    Attributes:
        name: such as top1. In run records the task's name stands before it: zero_shot_top1.
        values: float64, (values,): 1 or 0 for a hit or miss, a rank, ...; NaN where an embedding was not finite.
        aggregate: the number made of values.
        higher_is_better: direction of the score.
        chance: expected score of guessing; None where nobody knows it.
        best: the score of a model that is always right.
        worst: the value that stands for NaN; a rank needs the largest.
        margin: the largest loss against an approved release that passes, in units of the score.
    """

    name: str
    values: NDArray[np.float64]
    aggregate: Aggregate = mean
    higher_is_better: bool = True
    chance: float | None = None
    best: float = 1.0
    worst: float = 0.0
    margin: float = 0.01

    def __post_init__(self) -> None:
        if (self.worst < self.best) != self.higher_is_better:
            raise ValueError(f"{self.name}: the worst value, {self.worst:g}, is better than the best, {self.best:g}")

    @property
    def filled(self) -> NDArray[np.float64]:
        """The values, (values,), with the worst for NaN."""
        return np.where(np.isnan(self.values), self.worst, self.values)

    @property
    def value(self) -> float:
        """The score over all values."""
        return self.aggregate(self.filled, np.arange(len(self.values)))

    @property
    def is_share(self) -> bool:
        """Whether the score is a share of hits."""
        return self.aggregate is mean and bool(np.isin(self.filled, (0, 1)).all())


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a task gives.

    Attributes:
        samples: the id of the sample that each value belongs to. A sample with several values, such as one for each of
            its captions, stands here as often, in a row. Where values belong to something else, such as classes, its
            names stand here.
        scores: the task's primary score first, which is judged; the others are shown.
        details: what a report shows beside the primary score.
        answers: what the model answered for each value, such as the class that it chose, for reports; empty where the
            task does not say.
    """

    samples: tuple[str, ...]
    scores: tuple[Score, ...]
    details: Mapping[str, Json] = field(default_factory=dict)
    answers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A way to measure what embeddings are good for.

    `name`, `primary` and `claim` are written as plain texts, from which the list of checks is read without importing
    the task. Its checks are NAME.every_record_is_readable, NAME.PRIMARY_is_above_chance and
    NAME.PRIMARY_is_no_worse_than_approved.

    Attributes:
        name: of the task, such as zero_shot.
        primary: name of the score that is judged, such as top1.
        claim: what a hit is, a sentence that goes on with "more often than guessing explains".
        lacks: why a dataset cannot serve the task, a clause; None where it can.
        score: embeddings to scores. It need not care for rows of NaN.
    """

    name: str
    primary: str
    claim: str
    lacks: Callable[[Dataset], str | None]
    score: Callable[[Embedded], Scores]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The scores of one subject in one task.

    Attributes:
        task: its name.
        dataset: digest of the dataset.
        samples: as in `Scores`.
        scores: the primary one first, with NaN wherever an embedding was not finite.
        details: as in `Scores`.
        unreadable: place and problem of each image that could not be read.
        answers: as in `Scores`.
        groups: sample id to group, of samples that belong to one: they are not independent, and are resampled together.
    """

    task: str
    dataset: str
    samples: tuple[str, ...]
    scores: tuple[Score, ...]
    details: Mapping[str, Json]
    unreadable: tuple[str, ...]
    answers: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)

    @property
    def primary(self) -> Score:
        """The score that is judged."""
        return self.scores[0]

    @property
    def not_finite(self) -> int:
        """Values that are missing because an embedding holds NaN or infinity; they count as the worst."""
        return int(np.isnan(self.primary.values).sum())

    @property
    def values(self) -> dict[str, tuple[float, ...]]:
        """Name of each score to its values, (values,), with the worst for NaN: what a later run is paired with.

        What is no whole number has six digits: packs are to stay small, and a margin is a hundredth.
        """
        return {score.name: tuple(map(_short, score.filled.tolist())) for score in self.scores}

    def name(self, score: Score) -> str:
        """Return the name of a score in run records."""
        return f"{self.task}_{score.name}"

    @property
    def clusters(self) -> tuple[Hashable, ...]:
        """What each value, (values,), is resampled with: its group, else its sample."""
        return tuple(("group", self.groups[name]) if name in self.groups else name for name in self.samples)

    @property
    def is_independent(self) -> bool:
        """Whether every value is alone in its cluster."""
        return len(set(self.clusters)) == len(self.samples)

    def interval(self, score: Score) -> Interval:
        """Return the 95 % interval of a score: Wilson's for a share of independent hits, else a bootstrap of clusters.

        Where every value is the same nothing can be resampled. A share is then held to be of as many hits as there are
        clusters. Another score is what it would be with the worst value, and with the best, in as many clusters as may
        be otherwise where none was seen to be. One cluster alone says nothing but the limits.
        """
        count, filled = len(set(self.clusters)), score.filled
        if score.is_share and (count == len(self.samples) or score.value in (0, 1)):
            return wilson_interval(round(score.value * count), count)
        if count < 2:
            return Interval(*sorted((score.best, score.worst)))
        if (filled == filled[0]).all():
            return Interval(*sorted(self.with_unseen(score, value) for value in (score.worst, score.best)))
        if score.aggregate is mean:
            return bootstrap_interval(filled, self.clusters)
        return bootstrap_interval(lambda rows: score.aggregate(filled, rows), self.clusters)

    def with_unseen(self, score: Score, value: float) -> float:
        """Return a score with `value` in as many clusters as may be otherwise where none was seen to be.

        They are spread evenly over the clusters.
        """
        clusters = list(dict.fromkeys(self.clusters))
        count = len(clusters)
        many = unchanged_clusters(count)
        chosen = {clusters[place * count // many] for place in range(many)}
        there = np.array([cluster in chosen for cluster in self.clusters])  # (values,)
        return score.aggregate(np.where(there, value, score.filled), np.arange(len(there)))


def _short(value: float) -> float:
    return value if value.is_integer() else float(f"{value:.6g}")


def score_task(task: Task, embedded: Embedded) -> Scored:
    """Score the embeddings of a subject in a task.

    An image without a finite embedding has no value, whatever the task made of it. Where the embedding of a text is not
    finite, no value holds: every image was compared with it.

    Raises:
        DatasetError: the dataset cannot serve the task, or a text is too long for the model.
        ValueError: the task breaks its contract.
    """
    if reason := task.lacks(embedded.dataset):
        raise DatasetError(reason, where=embedded.dataset.root, fix=f"Bring a dataset for {task.name}")
    asked: list[bool] = []

    def texts(wanted: Sequence[str]) -> NDArray[np.float64]:
        rows = embedded.texts(wanted)  # (texts, projection)
        asked.append(bool(np.isfinite(rows).all()))
        return rows

    found = task.score(replace(embedded, texts=texts))
    _require_sound(task, found)
    missing = _without_image(found.samples, embedded) | (not all(asked))  # (values,)
    return Scored(
        task=task.name,
        dataset=embedded.digest,
        samples=found.samples,
        scores=tuple(replace(score, values=np.where(missing, np.nan, score.values)) for score in found.scores),
        details=found.details,
        unreadable=embedded.unreadable,
        answers=found.answers,
        groups={sample.id: sample.group for sample in embedded.samples if sample.group},
    )


def _require_sound(task: Task, found: Scores) -> None:
    """Raise ValueError where a task gives something else than it declares."""
    rows = sum(sample != before for before, sample in zip((None, *found.samples), found.samples, strict=False))
    if found.scores[0].name != task.primary:
        raise ValueError(f"{task.name}: {task.primary} is its primary score, and {found.scores[0].name} stands first")
    if any(score.values.shape != (len(found.samples),) for score in found.scores):
        raise ValueError(f"{task.name}: a score has not one value for each of the {len(found.samples)} samples")
    if found.answers and len(found.answers) != len(found.samples):
        raise ValueError(f"{task.name}: there is not one answer for each of the {len(found.samples)} samples")
    if not found.samples or rows != len(set(found.samples)):
        raise ValueError(f"{task.name}: there are no values, or those of a sample do not stand in a row")


def _without_image(names: Sequence[str], embedded: Embedded) -> NDArray[np.bool_]:
    """Which values, (values,), lack a finite image embedding. A name that is no sample's depends on every image."""
    rows = zip(embedded.samples, embedded.images, strict=True)
    finite = {sample.id: bool(np.isfinite(row).all()) for sample, row in rows}
    whole = all(finite.values())
    return np.array([not finite.get(name, whole) for name in names])


@cache
def all_tasks() -> tuple[Task, ...]:
    """Return every task of the package, by name.

    Raises:
        ValueError: two tasks have one name.
    """
    names = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    modules = [importlib.import_module(f"clip_eval.tasks.{name}") for name in names]
    found = {module.TASK.name: module.TASK for module in modules if hasattr(module, "TASK")}
    if len(found) < sum(hasattr(module, "TASK") for module in modules):
        raise ValueError("two tasks have one name")
    return tuple(found[name] for name in sorted(found))
