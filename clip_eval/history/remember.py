"""A gate's run into its history: what goes wrong there is told, and leaves the verdict alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

from clip_eval.errors import ClipEvalError
from clip_eval.history.database import add, latest
from clip_eval.history.runs import Measured, Run
from clip_eval.history.trends import LAST, trends_of
from clip_eval.report.margins import margins
from clip_eval.report.summary import name_of
from clip_eval.report.trends import Trend
from clip_eval.verdict.run_record import RunRecord

__all__ = ["Remembered", "remember", "run_of"]


@dataclass(frozen=True, slots=True)
class Remembered:
    """A record, with what its history has to say as notes, and the trends of its model; none without a history."""

    record: RunRecord
    trends: tuple[Trend, ...] = ()


def remember(record: RunRecord, file: str | None) -> Remembered:
    """Add a run to a history.

    Args:
        record: of the run.
        file: the history; None for none.
    """
    if file is None:
        return Remembered(record)
    run = run_of(record)
    try:
        note = add(file, run)
        runs = latest(file, run.subject, LAST)
    except ClipEvalError as problem:
        return Remembered(_noted(record, f"The run is not in the history: {problem}"))
    return Remembered(record if note is None else _noted(record, note), trends_of(runs))


def run_of(record: RunRecord) -> Run:
    """Return the run of a record."""
    measured = {
        ("score", task.name): Measured(task.score, task.interval_low, task.interval_high) for task in record.tasks
    }
    measured |= {
        ("ratio", timing.name): Measured(timing.ratio, timing.interval_low, timing.interval_high)
        for timing in record.throughput
    }
    measured |= {("margin", name): Measured(ratio) for name, ratio in margins(record).items()}
    versions = {name: None if value is None else str(value) for name, value in record.provenance.items()}
    return Run(
        started=record.started,
        model=name_of(record.candidate),
        dtype=record.candidate.dtype,
        device=None if record.candidate.device is None else record.candidate.device.partition(":")[0],
        verdict=record.verdict,
        headline=record.headline,
        duration_s=record.duration_s,
        weights=record.candidate.fingerprints.get("weights"),
        transformers=versions.get("transformers"),
        torch=versions.get("torch"),
        clip_eval=versions.get("clip_eval"),
        measured={key: number for key, number in measured.items() if number.value is not None},
    )


def _noted(record: RunRecord, note: str) -> RunRecord:
    return replace(record, notes=(*record.notes, note))
