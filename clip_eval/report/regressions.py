"""The five lines of what failed without being a check: a surface change, a task score, a speed ratio."""

from __future__ import annotations

from collections.abc import Iterable

from clip_eval.report.failure_text import FailureLine
from clip_eval.report.text import clip
from clip_eval.report.trials import speed_facts, worst_classes
from clip_eval.verdict.changes import grouped
from clip_eval.verdict.measurement import format_number
from clip_eval.verdict.run_record import CheckResult, RunRecord, SurfaceChange, TaskResult, ThroughputResult

__all__ = ["change_lines", "task_lines", "timing_lines"]


def change_lines(change: SurfaceChange, record: RunRecord) -> tuple[FailureLine, ...]:
    """What the check promises, both values, the rule, what the change follows from, and the command."""
    check = next((one for one in record.checks if one.id == change.check), None)
    (group,) = grouped([change])
    return _lines(
        check,
        worst=f"{change.id}: observed {clip(change.after)}, expected {clip(change.before)}",
        error="not numeric: must be exactly equal, and nothing accepts the difference",
        where=f"{group.name}: {group.sentence}" if group.sentence else group.name,
    )


def task_lines(task: TaskResult, record: RunRecord) -> tuple[FailureLine, ...]:
    """What the check promises, the score beside that of the baseline, why it failed, worst classes, the command."""
    of_task = (one for one in _failed(record, "tasks") if task.name.startswith(f"{one.chapter}_"))
    reference = "" if task.reference is None else f", expected {format_number(task.reference, digits=4)}"
    missed = (
        f"{one.name} ({one.hits} of {one.images}, most often taken for {one.taken_for})" for one in worst_classes(task)
    )
    return _lines(
        next(of_task, None),
        worst=f"{task.name}: observed {_with_interval(task.score, task)}{reference}",
        error=task.reason or "no reason was given",
        where=", ".join(missed),
    )


def timing_lines(timing: ThroughputResult, record: RunRecord) -> tuple[FailureLine, ...]:
    """What the check promises, the ratio, why it failed, speeds as measured, and the command."""
    # a measurement of the check that judges a timing begins with the timing's name
    of_timing = (
        one
        for one in _failed(record, "throughput")
        if any(item.name.startswith(f"{timing.name}: ") for item in one.measurements)
    )
    against = f" times as long as {timing.reference or 'its reference'}"
    return _lines(
        next(of_timing, None),
        worst=f"{timing.name}: observed {_with_interval(timing.ratio, timing)}{against}, expected 1",
        error=timing.reason or "no reason was given",
        where=", ".join(f"{fact.label} {fact.text}" for fact in speed_facts(timing)),
    )


def _failed(record: RunRecord, scope: str) -> Iterable[CheckResult]:
    return (check for check in record.checks if check.scope == scope and check.outcome == "failed")


def _lines(check: CheckResult | None, *, worst: str, error: str, where: str) -> tuple[FailureLine, ...]:
    lines = (
        FailureLine(label="promise", text=clip(check.promise, limit=400) if check else ""),
        FailureLine(label="worst", text=clip(worst, limit=700)),
        FailureLine(label="error", text=clip(error, limit=600)),
        FailureLine(label="where", text=clip(where, limit=600)),
        FailureLine(label="rerun", text=clip(check.rerun or "", limit=2000) if check else ""),
    )
    return tuple(line for line in lines if line.text)


def _with_interval(value: float | None, trial: TaskResult | ThroughputResult) -> str:
    low, high = trial.interval_low, trial.interval_high
    if low is None or high is None:
        return format_number(value, digits=4)
    return f"{format_number(value, digits=4)} ({format_number(low, digits=4)} to {format_number(high, digits=4)})"
