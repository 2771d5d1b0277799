"""What each scope of a run has to show, as phrases: what failed, what is missing, what was found right."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from clip_eval.verdict import reasons
from clip_eval.verdict.run_record import CheckResult, Scope, SurfaceChange, TaskResult, ThroughputResult

__all__ = ["Evidence", "of_baseline", "of_contract", "of_tasks", "of_throughput"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one scope has to show, as phrases such as "2 checks failed".

    `failures` fail the run, `gaps` keep it from passing, `doubts` leave the verdict alone, `merits` were found right.
    `excused` are those of the merits without which it would have failed; the headline tells them. `consequences` could
    not be asked because of a failure, which decides. `measured`: there are numbers with nothing to be judged by.
    """

    name: Scope
    asked: bool
    measured: bool = False
    failures: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    merits: tuple[str, ...] = ()
    excused: tuple[str, ...] = ()
    consequences: tuple[str, ...] = ()

    @property
    def unjudged(self) -> tuple[str, ...]:
        """What could not be judged."""
        return self.gaps + self.doubts + self.consequences

    @property
    def harmless(self) -> Evidence:
        """The same where nothing that is missing keeps the run from passing."""
        return dataclasses.replace(self, gaps=(), doubts=self.gaps + self.doubts)


def of_contract(results: Sequence[CheckResult], changed: Sequence[str]) -> Evidence:
    """The evidence of the contract; files that changed during the run make a gap."""
    evidence = _from_checks("contract", results, asked=True)
    gap = (f"the checkpoint changed while it was judged: {reasons.listed(changed)}",) if changed else ()
    return dataclasses.replace(evidence, gaps=gap + evidence.gaps)


def of_baseline(results: Sequence[CheckResult], changes: Sequence[SurfaceChange], *, asked: bool) -> Evidence:
    """The evidence against the pack."""
    evidence = _from_checks("baseline", results, asked=asked)
    refused = sum(change.accepted is None for change in changes)
    warned = sum(change.warned for change in changes)
    excused = _counted(warned, "surface change", "not accepted, which only warns") + _counted(
        len(changes) - refused - warned, "surface change", "accepted"
    )
    return dataclasses.replace(
        evidence,
        failures=evidence.failures + _counted(refused, "surface change", "not accepted"),
        merits=evidence.merits + excused,
        excused=evidence.excused + excused,
    )


def of_tasks(
    results: Sequence[CheckResult],
    tasks: Sequence[TaskResult],
    *,
    asked: bool,
    new_weights: bool,
    thresholds: Collection[str],
) -> Evidence:
    """The evidence of scores.

    Args:
        results: of all checks.
        tasks: the scores.
        asked: a dataset was given.
        new_weights: they must be judged against the pack.
        thresholds: scores that a policy asks something of.
    """
    names = _names_by_outcome(tasks)
    undecided = _named(names["inconclusive"], "inconclusive")
    unmatched = [task.name for task in tasks if new_weights and _is_judged(task) and task.reference is None]
    gaps = _named(unmatched, "without a score in the pack")
    if (asked or new_weights) and not any(_is_judged(task) or task.outcome == "inconclusive" for task in tasks):
        gaps += ("no task was judged",)
    gaps += _not_as_asked(tasks, thresholds)
    checks = _outcomes(results, "tasks")
    warned = _warned(checks) + _named(names["warned"], "failed, which only warns")
    return Evidence(
        name="tasks",
        asked=asked or new_weights,
        failures=_failed(checks) + _named(names["failed"], "failed"),
        gaps=_crashed(checks) + _not_run(checks) + gaps + (undecided if new_weights else ()),
        doubts=() if new_weights else undecided,
        merits=_found_right(checks) + warned + _named(names["passed"], "passed"),
        excused=warned,
        consequences=_consequences(checks),
    )


def of_throughput(results: Sequence[CheckResult], throughput: Sequence[ThroughputResult], *, asked: bool) -> Evidence:
    """The evidence of speed, which may stay undecided."""
    names = _names_by_outcome(throughput)
    timed = any(names[outcome] for outcome in ("passed", "failed", "warned", "inconclusive"))
    checks = _outcomes(results, "throughput")
    warned = _warned(checks) + _named(names["warned"], "failed, which only warns")
    consequences = _consequences(checks)
    # What was timed and has nothing to be held against was not asked.
    asked = asked and (timed or not names["not_asked"])
    return Evidence(
        name="throughput",
        asked=asked,
        measured=any(timing.outcome == "not_asked" and timing.ratio is not None for timing in throughput),
        failures=_failed(checks) + _named(names["failed"], "failed"),
        gaps=_crashed(checks),
        doubts=_not_run(checks)
        + _named(names["inconclusive"], "inconclusive")
        + (("nothing was timed",) if asked and not (timed or consequences) else ()),
        merits=_found_right(checks) + warned + _named(names["passed"], "passed"),
        excused=warned,
        consequences=consequences,
    )


def _from_checks(name: Scope, results: Sequence[CheckResult], *, asked: bool) -> Evidence:
    """The evidence of a scope in which every check must be judged."""
    checks = _outcomes(results, name)
    gaps, consequences = _crashed(checks) + _not_run(checks), _consequences(checks)
    applied = any(checks[outcome] for outcome in ("passed", "failed", "warned", "deviation"))
    if asked and not (gaps or consequences or applied):
        gaps += ("no check applied",)
    return Evidence(
        name=name,
        asked=asked,
        failures=_failed(checks, reasons.first_cause(results, name)),
        gaps=gaps,
        merits=_found_right(checks) + _warned(checks),
        excused=_warned(checks),
        consequences=consequences,
    )


def _outcomes(results: Sequence[CheckResult], scope: Scope) -> Counter[str]:
    """How many checks of a scope ended how; "consequence" where one was not run because of one that failed."""
    failed = reasons.failed_names(results)
    return Counter(
        "consequence" if check.outcome == "not_run" and check.because in failed else check.outcome
        for check in results
        if check.scope == scope
    )


def _failed(checks: Counter[str], first: str | None = None) -> tuple[str, ...]:
    return _counted(checks["failed"], "check", "failed" if first is None else f"failed, first {first}")


def _consequences(checks: Counter[str]) -> tuple[str, ...]:
    """Such as "109 not run because of them", beside what failed in the same scope or, as it says then, in another."""
    count, failed = checks["consequence"], checks["failed"]
    if not count:
        return ()
    if failed:
        return (f"{count} not run because of {'it' if failed == 1 else 'them'}",)
    return _counted(count, "check", "not run because of what failed")


def _crashed(checks: Counter[str]) -> tuple[str, ...]:
    return _counted(checks["error"], "check", "ended in an error")


def _not_run(checks: Counter[str]) -> tuple[str, ...]:
    return _counted(checks["not_run"], "check", "not run")


def _warned(checks: Counter[str]) -> tuple[str, ...]:
    return _counted(checks["warned"], "check", "failed, which only warns")


def _not_as_asked(tasks: Sequence[TaskResult], thresholds: Collection[str]) -> tuple[str, ...]:
    """What keeps scores from being shown to be as a policy asks."""
    judged = {task.name: task.policy for task in tasks}
    missing = [name for name in thresholds if judged.get(name) is None]
    undecided = [name for name in thresholds if judged.get(name) == "inconclusive"]
    return _named(missing, "not measured, and the policy has a threshold") + _named(
        undecided, "not shown to be as the policy asks"
    )


def _found_right(checks: Counter[str]) -> tuple[str, ...]:
    passed = _counted(checks["passed"], "check", "passed")
    return (
        passed
        + _counted(checks["deviation"], "check", "kept to a declared deviation")
        + _counted(checks["not_applicable"], "check", "not applicable")
    )


def _counted(count: int, noun: str, predicate: str) -> tuple[str, ...]:
    return (f"{count} {noun}{'' if count == 1 else 's'} {predicate}",) if count else ()


def _named(names: Sequence[str], predicate: str) -> tuple[str, ...]:
    return (f"{reasons.listed(names)} {predicate}",) if names else ()


def _names_by_outcome(trials: Sequence[TaskResult] | Sequence[ThroughputResult]) -> dict[str, list[str]]:
    outcomes = ("passed", "failed", "warned", "inconclusive", "not_asked")
    return {outcome: [trial.name for trial in trials if trial.outcome == outcome] for outcome in outcomes}


def _is_judged(task: TaskResult) -> bool:
    return task.outcome in ("passed", "failed", "warned")
