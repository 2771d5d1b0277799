"""What is known of a task or a timing beside its outcome, as labels and texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clip_eval.verdict.measurement import format_number
from clip_eval.verdict.plain_values import Json
from clip_eval.verdict.run_record import TaskResult, ThroughputResult

__all__ = ["Fact", "WorstClass", "outcome_words", "speed_facts", "worst_classes"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One number with what it is."""

    label: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstClass:
    """A class of a zero-shot task that was recognised least often, and what it was most often taken for."""

    name: str
    hits: str
    images: str
    taken_for: str


def outcome_words(trial: TaskResult | ThroughputResult) -> str:
    """The outcome in words; what was measured and has nothing to be judged by is "not judged"."""
    measured = trial.score if isinstance(trial, TaskResult) else trial.ratio
    if trial.outcome == "not_asked" and measured is not None:
        return "not judged"
    return trial.outcome.replace("_", " ")


def speed_facts(timing: ThroughputResult) -> Sequence[Fact]:
    """Rows a second, those of the reference, latencies, efficiency and peak memory, as far as they were measured."""
    details = timing.details
    rows = (timing.unit or "").partition("/")[0]
    found = (
        ("speed", _number(details.get(f"{rows}_per_s")), f" {timing.unit}"),
        ("reference", _number(details.get(f"reference_{rows}_per_s")), f" {timing.unit}"),
        ("latency p50 / p90 / p99", _latencies(details.get("latency_ms")), " ms"),
        ("efficiency", _number(details.get("efficiency")), ""),
        ("peak memory", _number(details.get("peak_mb")), " MB"),
        ("reference's peak", _number(details.get("floor_peak_mb")), " MB"),
        ("batch", _number(details.get("batch")), ""),
    )
    return [Fact(label, f"{value}{unit}") for label, value, unit in found if value]


def worst_classes(task: TaskResult) -> Sequence[WorstClass]:
    """The classes that a zero-shot task recognised least often; empty for other tasks."""
    entries = task.details.get("worst_classes")
    if not isinstance(entries, (list, tuple)):
        return []
    return [
        WorstClass(
            name=str(entry.get("class")),
            hits=str(entry.get("hits")),
            images=str(entry.get("images")),
            taken_for=str(entry.get("taken_for") or "none"),
        )
        for entry in entries
        if isinstance(entry, Mapping)
    ]


def _number(value: Json) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else format_number(value)


def _latencies(value: Json) -> str:
    if not isinstance(value, Mapping):
        return ""
    return " / ".join(_number(value.get(quantile)) or "none" for quantile in ("p50", "p90", "p99"))
