"""What an evaluation found, as plain values: `evaluation.json` is its text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from clip_eval.verdict.plain_values import Json, plain
from clip_eval.verdict.run_record import SubjectInfo, TrialOutcome, Verdict
from clip_eval.verdict.schema import fault

__all__ = [
    "SCHEMA_VERSION",
    "Comparison",
    "ComparisonOutcome",
    "Evaluation",
    "NotServed",
    "ScoreResult",
    "TaskScores",
]

SCHEMA_VERSION = 1

ComparisonOutcome = Literal["better", "same", "no_worse", "worse", "inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One score against the other checkpoint's, on the same samples.

    Attributes:
        outcome: see `clip_eval.evaluation.comparison`.
        reason: one sentence.
        other: the other checkpoint's score; None where it was scored on other samples.
        loss_low: lower end of the 95 % interval of the loss, in units of the score; below 0 it is a gain.
        loss_high: upper end.
        worse_p: one-sided p-value of a loss.
        better_p: one-sided p-value of a gain.
        lost: values that are worse than the other's.
        gained: values that are better.
        margin: the largest loss that passes.
        resampled: independent samples or groups.
        needed: about how many of those would decide; None where it is decided, or nobody can tell.
    """

    outcome: ComparisonOutcome
    reason: str
    other: float | None
    loss_low: float | None
    loss_high: float | None
    worse_p: float | None
    better_p: float | None
    lost: int | None
    gained: int | None
    margin: float
    resampled: int
    needed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreResult:
    """One score.

    Attributes:
        name: with its task's before it, such as zero_shot_top1.
        score: the number.
        interval_low: lower end of its 95 % interval.
        interval_high: upper end.
        higher_is_better: its direction.
        chance: what guessing scores; None where nobody knows it.
        comparison: with the other checkpoint; None without one, or where that has no such score.
    """

    name: str
    score: float
    interval_low: float
    interval_high: float
    higher_is_better: bool
    chance: float | None
    comparison: Comparison | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScores:
    """One task.

    Attributes:
        name: such as zero_shot.
        claim: what a hit is.
        outcome: of its first score against chance and against the other checkpoint, the graver one.
        reason: one sentence behind it.
        samples: how many its values belong to.
        values: how many it has: more than samples where a sample has several captions.
        groups: independent ones among the samples; as many as samples where the dataset groups none.
        not_finite: values that are missing because an embedding was not finite; they count as the worst.
        scores: the judged one first; empty where the task could not be scored.
        details: what the task adds, such as the worst classes.
    """

    name: str
    claim: str
    outcome: TrialOutcome
    reason: str
    samples: int
    values: int
    groups: int
    not_finite: int
    scores: tuple[ScoreResult, ...]
    details: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class NotServed:
    """A task that the dataset cannot serve, and why, a clause."""

    task: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One evaluation.

    Attributes:
        started: ISO 8601 with a time zone.
        duration_s: seconds.
        arguments: every option.
        verdict: pass, fail or inconclusive.
        headline: the verdict in one line.
        reasons: sentences behind the verdict, the most important first.
        notes: what a reader should know beside it, a sentence each.
        provenance: versions, machine, threads, seed.
        candidate: the checkpoint.
        against: the other one; None without.
        dataset: its directory as the user named it.
        dataset_digest: sha256 of its files.
        images: how many were read.
        unreadable: place and problem of each entry that could not be read.
        tasks: every task that was scored or could not be.
        not_served: every task that the dataset cannot serve.
    """

    started: str
    duration_s: float
    arguments: Json
    verdict: Verdict
    headline: str
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    provenance: Mapping[str, Json]
    candidate: SubjectInfo
    against: SubjectInfo | None
    dataset: str
    dataset_digest: str
    images: int
    unreadable: tuple[str, ...]
    tasks: tuple[TaskScores, ...]
    not_served: tuple[NotServed, ...]

    @property
    def exit_code(self) -> int:
        """What the command ends with."""
        return {"pass": 0, "fail": 1, "inconclusive": 10}[self.verdict]

    def to_data(self) -> dict[str, Any]:
        """Return the record as JSON values, in the order of its fields.

        Raises:
            ValueError: it breaks its schema; the message names the place.
        """
        found = {field.name: _ordered(getattr(self, field.name)) for field in fields(self)}
        data = {"schema_version": SCHEMA_VERSION, **found}
        if breach := fault(data, package="clip_eval.evaluation", schema="evaluation.schema.json"):
            raise ValueError(f"the evaluation breaks its schema at {breach}")
        return data


def _ordered(value: Any) -> Any:
    """Plain values, with the fields of a dataclass in their order."""
    if isinstance(value, (tuple, list)):
        return [_ordered(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {field.name: _ordered(getattr(value, field.name)) for field in fields(value)}
    return plain(value)
