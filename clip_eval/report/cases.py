"""The test cases of a run, which JUnit and CTRF list: the verdict, checks, surface changes, scores and timings.

The verdict is a case of its own because a CI server that reads only test cases would show an inconclusive run, whose
checks were skipped, as green.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from clip_eval.report.failure_text import FailureLine, terminal_failure, terminal_lines
from clip_eval.report.regressions import change_lines, task_lines, timing_lines
from clip_eval.report.text import by_chapter, error_against_bound, index_text
from clip_eval.verdict.measurement import Measurement, format_number
from clip_eval.verdict.reasons import cause
from clip_eval.verdict.run_record import CheckResult, RunRecord, SurfaceChange, TaskResult, ThroughputResult

__all__ = ["Case", "Outcome", "cases"]

Outcome = Literal["passed", "failure", "error", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test case.

    Attributes:
        suite: a chapter, or what else is judged.
        classname: the first part of its name in JUnit.
        name: unique within its suite.
        outcome: as JUnit knows it.
        status: the outcome in the record.
        message: of a failure, an error or a skipped case, one line.
        text: of a failure or an error, the five lines and the traceback; of others what is known besides.
        facts: what was measured, by name.
        duration_s: seconds.
    """

    suite: str
    classname: str
    name: str
    outcome: Outcome
    status: str
    message: str = ""
    text: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    duration_s: float = 0.0


def cases(record: RunRecord) -> list[Case]:
    """All cases, those of one suite in a row."""
    return [
        _verdict(record),
        *(_check(check) for chapter in by_chapter(record.checks) for check in chapter.checks),
        *(_change(change, record) for change in record.surface_changes),
        *(_trial("task_scores", "tasks", task, record) for task in record.tasks),
        *(_trial("throughput_ratios", "throughput", timing, record) for timing in record.throughput),
    ]


def _verdict(record: RunRecord) -> Case:
    outcomes: dict[str, Outcome] = {"pass": "passed", "fail": "failure", "inconclusive": "error"}
    return Case(
        suite="verdict",
        classname="verdict",
        name="verdict",
        outcome=outcomes[record.verdict],
        status=record.verdict,
        message=record.headline,
        text="\n".join(record.reasons),
        facts={f"scope.{entry.name}": f"{entry.status}: {entry.reason or ''}" for entry in record.scope},
        duration_s=record.duration_s,
    )


def _check(check: CheckResult) -> Case:
    outcomes: dict[str, Outcome] = {"failed": "failure", "error": "error", "passed": "passed", "deviation": "passed"}
    outcome = outcomes.get(check.outcome, "skipped")
    known = {
        "promise": check.promise,
        "diverges_at": check.diverges_at,
        "deviation": check.deviation,
        "because": check.because,
    }
    return Case(
        suite=check.chapter,
        classname=check.chapter,
        name=check.name.removeprefix(f"{check.chapter}."),
        outcome=outcome,
        status=check.outcome,
        message=_message(check, outcome),
        text=_text(check),
        facts={
            **{name: value for name, value in known.items() if value},
            **{f"measurement.{item.name}": _measured(item) for item in check.measurements},
        },
        duration_s=check.duration_s,
    )


def _message(check: CheckResult, outcome: Outcome) -> str:
    if check.outcome == "warned":
        return f"failed, which only warns: {cause(check)}"
    if outcome == "skipped":
        because = f"because of {check.because}: " if check.because else ""
        return f"{check.outcome}: {because}{check.reason or 'no reason was given'}"
    return "" if outcome == "passed" else cause(check)


def _text(check: CheckResult) -> str:
    if check.outcome in ("failed", "warned"):
        return "\n\n".join(part for part in (terminal_failure(check), check.detail) if part)
    return check.detail or "" if check.outcome == "error" else ""


def _measured(measurement: Measurement) -> str:
    outcome = "passed" if measurement.passed else "failed"
    at = index_text(measurement.worst_index)
    return (
        f"{outcome}: {error_against_bound(measurement)}; worst{at and ' ' + at} observed {measurement.observed}, "
        f"expected {measurement.expected}; required {format_number(measurement.required)}"
    )


def _change(change: SurfaceChange, record: RunRecord) -> Case:
    is_open = change.accepted is None
    return Case(
        suite="surface_changes",
        classname="surface_changes",
        name=change.id,
        outcome="failure" if is_open else "passed",
        status="not accepted" if is_open else "accepted",
        message=f"{change.what} was {change.before}, now {change.after}, and nothing accepts it" if is_open else "",
        text=terminal_lines(change_lines(change, record)) if is_open else f"accepted: {change.accepted}",
        facts={"what": change.what, "before": change.before, "after": change.after, "check": change.check},
    )


def _trial(suite: str, classname: str, trial: TaskResult | ThroughputResult, record: RunRecord) -> Case:
    outcomes: dict[str, Outcome] = {"failed": "failure", "passed": "passed"}
    outcome = outcomes.get(trial.outcome, "skipped")
    reason = trial.reason or "no reason was given"
    messages = {"failure": reason, "skipped": f"{trial.outcome}: {reason}"}
    return Case(
        suite=suite,
        classname=classname,
        name=trial.name,
        outcome=outcome,
        status=trial.outcome,
        message=messages.get(outcome, ""),
        text=terminal_lines(_trial_lines(trial, record)) if outcome == "failure" else "",
        facts=_trial_numbers(trial),
    )


def _trial_lines(trial: TaskResult | ThroughputResult, record: RunRecord) -> Sequence[FailureLine]:
    return task_lines(trial, record) if isinstance(trial, TaskResult) else timing_lines(trial, record)


def _trial_numbers(trial: TaskResult | ThroughputResult) -> dict[str, str]:
    low, high = format_number(trial.interval_low, digits=4), format_number(trial.interval_high, digits=4)
    if isinstance(trial, TaskResult):
        reference = format_number(trial.reference, digits=4)
        score = format_number(trial.score, digits=4)
        return {"score": score, "interval": f"{low} to {high}", "reference": reference, "count": str(trial.count)}
    ratio = format_number(trial.ratio, digits=4)
    return {"ratio": ratio, "interval": f"{low} to {high}", "reference": str(trial.reference)}
