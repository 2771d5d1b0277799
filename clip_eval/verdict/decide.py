"""From what the checks, tasks and timings say to pass, fail or inconclusive.

A failure anywhere fails. Else anything that was promised and not judged makes the run inconclusive; only speed, and the
tasks of a checkpoint with the same weights, may stay undecided, and then the headline says so. Nothing passes by
absence: a declared check without a result was not run, and a scope without one check that applied was not judged.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from clip_eval.verdict import reasons
from clip_eval.verdict.run_record import (
    CheckResult,
    Scope,
    ScopeEntry,
    SurfaceChange,
    TaskResult,
    ThroughputResult,
    Verdict,
)

__all__ = [
    "EXIT_CODES",
    "Asked",
    "Decision",
    "DeclaredCheck",
    "complete",
    "decide",
]

EXIT_CODES: Mapping[Verdict, int] = {"pass": 0, "fail": 1, "inconclusive": 10}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredCheck:
    """A check as the suite declares it, whether or not pytest collected it.

    Attributes:
        id: `chapter.name`.
        chapter: the file that it stands in.
        scope: what it speaks for.
        promise: the first sentence of its docstring.
        needs: capabilities of the runtime without which no case of it applies.
    """

    id: str
    chapter: str
    scope: Scope
    promise: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the user asked to have judged beside the contract, which always is."""

    baseline: bool
    tasks: bool
    throughput: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The verdict, its headline, its reasons (most important first) and one scope entry for each of SCOPES."""

    verdict: Verdict
    headline: str
    reasons: tuple[str, ...]
    scope: tuple[ScopeEntry, ...]

    @property
    def exit_code(self) -> int:
        """The exit code of the gate."""
        return EXIT_CODES[self.verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evidence:
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
        return self.gaps + self.doubts + self.consequences


def complete(checks: Sequence[CheckResult], *, declared: Sequence[DeclaredCheck]) -> tuple[CheckResult, ...]:
    """All results in declared order, with a not_run result for each declared check that has none.

    Results of checks that nobody declared, such as a user's own, come last in the order given. A check that passed with
    a failed measurement in it has failed: it swallowed what `compare` raised.
    """
    results: dict[str, list[CheckResult]] = {}
    for check in checks:
        results.setdefault(check.id, []).append(_honest(check))
    ordered = [result for check in declared for result in results.pop(check.id, None) or [_uncollected(check)]]
    return (*ordered, *(check for undeclared in results.values() for check in undeclared))


def decide(
    *,
    checks: Sequence[CheckResult],
    declared: Sequence[DeclaredCheck],
    surface_changes: Sequence[SurfaceChange],
    tasks: Sequence[TaskResult],
    throughput: Sequence[ThroughputResult],
    asked: Asked,
    new_weights: bool = False,
    required: Collection[Scope] = (),
    changed: Sequence[str] = (),
) -> Decision:
    """The verdict of a run.

    Args:
        checks: every result there is.
        declared: every check of the suite, from the suite itself, not from what was collected.
        surface_changes: every difference against the pack, accepted ones too.
        tasks: task results.
        throughput: speed results.
        asked: what the user asked for.
        new_weights: the weights differ from the pack's on purpose; tasks must then be judged against the pack.
        required: scopes that a policy wants judged; one that is not makes the run inconclusive.
        changed: files of the checkpoint that changed while it was judged, which makes a gap in the contract.
    """
    results = _answerable(complete(checks, declared=declared), asked=asked, new_weights=new_weights)
    evidence = (
        _contract(results, changed),
        _baseline(results, surface_changes, asked=asked.baseline),
        _tasks(results, tasks, asked=asked.tasks, new_weights=new_weights),
        _throughput(results, throughput, asked=asked.throughput),
    )
    scope = tuple(_entry(item) for item in evidence)
    missing = tuple(entry.name for entry in scope if entry.name in required and entry.status != "judged")
    verdict = _verdict(evidence, missing=missing)
    return Decision(
        verdict=verdict,
        headline=f"{verdict}: {_headline(evidence)}",
        reasons=(
            *_unsettled(changed),
            *reasons.failures(checks=results, surface_changes=surface_changes, tasks=tasks, throughput=throughput),
            *(f"The policy requires {name} to be judged." for name in missing),
            *_undecided(evidence),
            *reasons.gaps(results),
            *_merits(evidence),
            *reasons.notes(checks=results, surface_changes=surface_changes),
        ),
        scope=scope,
    )


def _honest(check: CheckResult) -> CheckResult:
    if check.outcome == "passed" and not all(measurement.passed for measurement in check.measurements):
        reason = "a measurement failed, and the check passed over it"
        return dataclasses.replace(check, outcome="failed", reason=reason)
    return check


def _uncollected(check: DeclaredCheck) -> CheckResult:
    return CheckResult(
        id=check.id,
        chapter=check.chapter,
        promise=check.promise,
        case=None,
        outcome="not_run",
        scope=check.scope,
        reason="was not collected",
        measurements=(),
        diverges_at=None,
        deviation=None,
        rerun=None,
        duration_s=0.0,
        detail=None,
    )


def _answerable(results: Sequence[CheckResult], *, asked: Asked, new_weights: bool) -> tuple[CheckResult, ...]:
    """The results without the checks that were not run because nobody asked for their scope."""
    wanted = {
        "contract": True,
        "baseline": asked.baseline,
        "tasks": asked.tasks or new_weights,
        "throughput": asked.throughput,
    }
    return tuple(check for check in results if check.outcome != "not_run" or wanted[check.scope])


def _contract(results: Sequence[CheckResult], changed: Sequence[str]) -> _Evidence:
    evidence = _from_checks("contract", results, asked=True)
    gap = (f"the checkpoint changed while it was judged: {reasons.listed(changed)}",) if changed else ()
    return dataclasses.replace(evidence, gaps=gap + evidence.gaps)


def _unsettled(changed: Sequence[str]) -> tuple[str, ...]:
    """What to do about a checkpoint that changed; it comes first, since failures may follow from it."""
    if not changed:
        return ()
    return (
        f"The checkpoint changed while it was judged ({reasons.listed(changed)}): the results below may be of either "
        "state, or of a mixture. Leave it alone and gate it again.",
    )


def _baseline(results: Sequence[CheckResult], changes: Sequence[SurfaceChange], *, asked: bool) -> _Evidence:
    evidence = _from_checks("baseline", results, asked=asked)
    accepted = sum(change.accepted is not None for change in changes)
    return dataclasses.replace(
        evidence,
        failures=evidence.failures + _counted(len(changes) - accepted, "surface change", "not accepted"),
        merits=evidence.merits + _counted(accepted, "surface change", "accepted"),
        excused=_counted(accepted, "surface change", "accepted"),
    )


def _tasks(results: Sequence[CheckResult], tasks: Sequence[TaskResult], *, asked: bool, new_weights: bool) -> _Evidence:
    names = _names_by_outcome(tasks)
    undecided = _named(names["inconclusive"], "inconclusive")
    unmatched = [task.name for task in tasks if new_weights and _is_judged(task) and task.reference is None]
    gaps = _named(unmatched, "without a score in the pack")
    if (asked or new_weights) and not any(_is_judged(task) or task.outcome == "inconclusive" for task in tasks):
        gaps += ("no task was judged",)
    checks = _outcomes(results, "tasks")
    return _Evidence(
        name="tasks",
        asked=asked or new_weights,
        failures=_failed(checks) + _named(names["failed"], "failed"),
        gaps=_crashed(checks) + _not_run(checks) + gaps + (undecided if new_weights else ()),
        doubts=() if new_weights else undecided,
        merits=_found_right(checks) + _named(names["passed"], "passed"),
        consequences=_consequences(checks),
    )


def _throughput(results: Sequence[CheckResult], throughput: Sequence[ThroughputResult], *, asked: bool) -> _Evidence:
    names = _names_by_outcome(throughput)
    timed = any(names[outcome] for outcome in ("passed", "failed", "inconclusive"))
    checks = _outcomes(results, "throughput")
    consequences = _consequences(checks)
    # What was timed and has nothing to be held against was not asked.
    asked = asked and (timed or not names["not_asked"])
    return _Evidence(
        name="throughput",
        asked=asked,
        measured=any(timing.outcome == "not_asked" and timing.ratio is not None for timing in throughput),
        failures=_failed(checks) + _named(names["failed"], "failed"),
        gaps=_crashed(checks),
        doubts=_not_run(checks)
        + _named(names["inconclusive"], "inconclusive")
        + (("nothing was timed",) if asked and not (timed or consequences) else ()),
        merits=_found_right(checks) + _named(names["passed"], "passed"),
        consequences=consequences,
    )


def _from_checks(name: Scope, results: Sequence[CheckResult], *, asked: bool) -> _Evidence:
    """The evidence of a scope in which every check must be judged."""
    checks = _outcomes(results, name)
    gaps, consequences = _crashed(checks) + _not_run(checks), _consequences(checks)
    if asked and not (gaps or consequences) and not any(checks[name] for name in ("passed", "failed", "deviation")):
        gaps += ("no check applied",)
    return _Evidence(
        name=name,
        asked=asked,
        failures=_failed(checks, reasons.first_cause(results, name)),
        gaps=gaps,
        merits=_found_right(checks),
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
    outcomes = ("passed", "failed", "inconclusive", "not_asked")
    return {outcome: [trial.name for trial in trials if trial.outcome == outcome] for outcome in outcomes}


def _is_judged(task: TaskResult) -> bool:
    return task.outcome in ("passed", "failed")


def _entry(evidence: _Evidence) -> ScopeEntry:
    if evidence.unjudged:
        reason = "; ".join((*evidence.gaps, *evidence.doubts, *evidence.failures, *evidence.consequences))
        return ScopeEntry(name=evidence.name, status="could_not", reason=reason)
    if evidence.asked or evidence.failures:
        reason = "; ".join(evidence.failures + evidence.merits)
        return ScopeEntry(name=evidence.name, status="judged", reason=reason)
    why = "measured, with nothing to be judged by" if evidence.measured else None
    return ScopeEntry(name=evidence.name, status="not_asked", reason=why)


def _verdict(evidence: Sequence[_Evidence], *, missing: Sequence[Scope]) -> Verdict:
    if any(item.failures for item in evidence):
        return "fail"
    return "inconclusive" if missing or any(item.gaps for item in evidence) else "pass"


def _headline(evidence: Sequence[_Evidence]) -> str:
    """Such as "contract (2 checks failed); passed baseline; no tasks, no throughput"."""
    failed = [_with(item, item.failures + item.unjudged + item.excused) for item in evidence if item.failures]
    undecided = [_with(item, item.unjudged + item.excused) for item in evidence if item.unjudged and not item.failures]
    passed = [_with(item, item.excused) for item in evidence if item.asked and not item.failures and not item.unjudged]
    left = [item for item in evidence if not (item.asked or item.failures or item.unjudged)]
    absent = [f"{item.name} measured, not judged" if item.measured else f"no {item.name}" for item in left]
    unsettled = any(item.failures or item.gaps for item in evidence)
    parts = [
        ", ".join(failed),
        "" if unsettled else ", ".join(passed),
        f"could not judge {', '.join(undecided)}" if undecided else "",
        f"passed {', '.join(passed)}" if unsettled and passed else "",
        ", ".join(absent),
    ]
    return "; ".join(part for part in parts if part)


def _with(item: _Evidence, phrases: Sequence[str]) -> str:
    return f"{item.name} ({', '.join(phrases)})" if phrases else item.name


def _undecided(evidence: Sequence[_Evidence]) -> tuple[str, ...]:
    blocking = (item for item in evidence if item.gaps)
    harmless = (item for item in evidence if item.doubts and not item.gaps)
    return (
        *map(_unjudged, blocking),
        *(f"{_unjudged(item)} The verdict does not depend on it." for item in harmless),
    )


def _unjudged(item: _Evidence) -> str:
    extent = " in full" if item.merits or item.failures else ""
    return f"{item.name.capitalize()} could not be judged{extent}: {', '.join(item.gaps + item.doubts)}."


def _merits(evidence: Sequence[_Evidence]) -> tuple[str, ...]:
    return tuple(f"{item.name.capitalize()}: {', '.join(item.merits)}." for item in evidence if item.merits)
