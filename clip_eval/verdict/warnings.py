"""What a policy turns from a failure into a warning: the outcome becomes "warned", which decides nothing, and a note
says it first.

The contract, and numbers against the baseline, never warn as a whole: a policy names single checks of theirs, with a
reason and a last day. With new weights the tasks are what decides, so they block whatever the policy says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TypeVar

from clip_eval.verdict import reasons
from clip_eval.verdict.changes import grouped
from clip_eval.verdict.policy import Part, Policy, Warned
from clip_eval.verdict.reviewed import expired
from clip_eval.verdict.run_record import CheckResult, SurfaceChange, TaskResult, ThroughputResult

__all__ = ["Softened", "parts_that_warn", "soften", "soften_changes"]

_Trial = TypeVar("_Trial", TaskResult, ThroughputResult)

_SURFACE = "the policy only warns of the surface"


@dataclass(frozen=True, slots=True, kw_only=True)
class Softened:
    """The results with what only warns, and the notes that say so."""

    checks: tuple[CheckResult, ...]
    tasks: tuple[TaskResult, ...]
    throughput: tuple[ThroughputResult, ...]
    notes: tuple[str, ...]


def parts_that_warn(policy: Policy, *, new_weights: bool) -> frozenset[Part]:
    """The parts of a run in which nothing blocks."""
    return frozenset(policy.warn) - ({"tasks"} if new_weights else frozenset())


def soften(
    checks: Sequence[CheckResult],
    tasks: Sequence[TaskResult],
    throughput: Sequence[ThroughputResult],
    changes: Sequence[SurfaceChange],
    *,
    policy: Policy,
    new_weights: bool,
    today: date,
) -> Softened:
    """Turn failures into warnings as a policy says.

    Args:
        checks: every result of a run.
        tasks: scores.
        throughput: ratios.
        changes: as `soften_changes` left them.
        policy: of the run.
        new_weights: the weights differ from the pack's on purpose.
        today: the day that expiry is compared with.
    """
    parts = parts_that_warn(policy, new_weights=new_weights)
    entries = [entry for entry in policy.warned if entry.key == "check"]
    valid = {entry.name: entry for entry in entries if expired(entry.expires, today) is None}
    softened = [
        replace(check, outcome="warned")
        if check.outcome == "failed" and (check.scope in parts or _entry(check, valid))
        else check
        for check in checks
    ]
    scores = [_warned(task) if "tasks" in parts else task for task in tasks]
    ratios = [_warned(timing) if "throughput" in parts else timing for timing in throughput]
    used = [entry for entry in (_entry(check, valid) for check in softened if check.outcome == "warned") if entry]
    return Softened(
        checks=tuple(softened),
        tasks=tuple(scores),
        throughput=tuple(ratios),
        notes=(
            *_warnings(softened, scores, ratios, changes),
            *(f"The policy lets {entry.name} warn: {entry.note}." for entry in dict.fromkeys(used)),
            *_idle(policy.warned, checks, today),
            *(_decides(policy) if new_weights else ()),
        ),
    )


def soften_changes(changes: Sequence[SurfaceChange], *, policy: Policy, today: date) -> tuple[SurfaceChange, ...]:
    """The surface changes, in which what the policy only warns of is accepted, as a warning."""
    if "surface" in policy.warn:
        return tuple(_softened(change, _SURFACE) for change in changes)
    valid = [entry for entry in policy.warned if entry.key != "check" and expired(entry.expires, today) is None]
    notes = {(entry.key == "cause", entry.name): entry.note for entry in valid}
    by_change = {
        change.id: notes[group.declared, group.name]
        for group in grouped(changes)
        if (group.declared, group.name) in notes
        for change in group.changes
    }
    return tuple(_softened(change, by_change[change.id]) if change.id in by_change else change for change in changes)


def _softened(change: SurfaceChange, why: str) -> SurfaceChange:
    return replace(change, accepted=why, warned=True) if change.accepted is None else change


def _entry(check: CheckResult, valid: dict[str, Warned]) -> Warned | None:
    return valid.get(check.name) or valid.get(check.id)


def _warned(trial: _Trial) -> _Trial:
    return replace(trial, outcome="warned") if trial.outcome == "failed" else trial


def _warnings(
    checks: Iterable[CheckResult],
    tasks: Iterable[TaskResult],
    throughput: Iterable[ThroughputResult],
    changes: Sequence[SurfaceChange],
) -> list[str]:
    """The sentences that would stand among the reasons of a failure."""
    told = reasons.failures(
        checks=[replace(one, outcome="failed") for one in checks if one.outcome == "warned"],
        surface_changes=(),
        tasks=[replace(one, outcome="failed") for one in tasks if one.outcome == "warned"],
        throughput=[replace(one, outcome="failed") for one in throughput if one.outcome == "warned"],
    )
    return [f"Warning: {sentence}" for sentence in (*told, *reasons.warned_changes(changes))]


def _idle(entries: Sequence[Warned], checks: Sequence[CheckResult], today: date) -> list[str]:
    """What the policy says of entries that are out of date, or of a check that passed in every case."""
    passed: dict[str, bool] = {}
    for check in checks:
        for name in (check.id, check.name):
            passed[name] = passed.get(name, True) and check.outcome in ("passed", "deviation")
    told = []
    for entry in entries:
        if late := expired(entry.expires, today):
            told.append(f"The policy's entry for {entry.name} {late}, and warns no longer.")
        elif entry.key == "check" and passed.get(entry.name, False):
            told.append(f"The policy lets {entry.name} warn, which has passed: remove the entry.")
    return told


def _decides(policy: Policy) -> Collection[str]:
    return (
        ["The policy only warns of tasks; with new weights they decide, and block."] if "tasks" in policy.warn else []
    )
