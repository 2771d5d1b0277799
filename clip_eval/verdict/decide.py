"""From what the checks, tasks and timings say to pass, fail or inconclusive.

A failure anywhere fails. Else anything that was promised and not judged makes the run inconclusive; only speed, and the
tasks of a checkpoint with the same weights, may stay undecided, and then the headline says so. Nothing passes by
absence: a declared check without a result was not run, and a scope without one check that applied was not judged.
"""

from __future__ import annotations

import dataclasses
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
from clip_eval.verdict.scope_evidence import Evidence, of_baseline, of_contract, of_tasks, of_throughput

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
    warns: Collection[Scope] = (),
    thresholds: Collection[str] = (),
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
        warns: scopes in which a policy lets nothing block; what failed there is "warned" already.
        thresholds: scores that must be shown to be as a policy asks.
    """
    results = _answerable(complete(checks, declared=declared), asked=asked, new_weights=new_weights)
    evidence = [
        of_contract(results, changed),
        of_baseline(results, surface_changes, asked=asked.baseline),
        of_tasks(results, tasks, asked=asked.tasks, new_weights=new_weights, thresholds=thresholds),
        of_throughput(results, throughput, asked=asked.throughput),
    ]
    evidence = [item.harmless if item.name in warns else item for item in evidence]
    scope = tuple(_entry(item) for item in evidence)
    missing = tuple(entry.name for entry in scope if entry.name in required and entry.status != "judged")
    verdict = _verdict(evidence, missing=missing)
    told = (
        *_unsettled(changed),
        *reasons.failures(checks=results, surface_changes=surface_changes, tasks=tasks, throughput=throughput),
        *(f"The policy requires {name} to be judged." for name in missing),
        *_undecided(evidence),
        *reasons.gaps(results),
        *_merits(evidence),
        *reasons.notes(checks=results, surface_changes=surface_changes),
    )
    return Decision(verdict=verdict, headline=f"{verdict}: {_headline(evidence)}", reasons=told, scope=scope)


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


def _unsettled(changed: Sequence[str]) -> tuple[str, ...]:
    """What to do about a checkpoint that changed; it comes first, since failures may follow from it."""
    if not changed:
        return ()
    return (
        f"The checkpoint changed while it was judged ({reasons.listed(changed)}): the results below may be of either "
        "state, or of a mixture. Leave it alone and gate it again.",
    )


def _entry(evidence: Evidence) -> ScopeEntry:
    if evidence.unjudged:
        reason = "; ".join((*evidence.gaps, *evidence.doubts, *evidence.failures, *evidence.consequences))
        return ScopeEntry(name=evidence.name, status="could_not", reason=reason)
    if evidence.asked or evidence.failures or evidence.excused:
        reason = "; ".join(evidence.failures + evidence.merits)
        return ScopeEntry(name=evidence.name, status="judged", reason=reason)
    why = "measured, with nothing to be judged by" if evidence.measured else None
    return ScopeEntry(name=evidence.name, status="not_asked", reason=why)


def _verdict(evidence: Sequence[Evidence], *, missing: Sequence[Scope]) -> Verdict:
    if any(item.failures for item in evidence):
        return "fail"
    return "inconclusive" if missing or any(item.gaps for item in evidence) else "pass"


def _headline(evidence: Sequence[Evidence]) -> str:
    """Such as "contract (2 checks failed); passed baseline; no tasks, no throughput"."""
    failed = [_with(item, item.failures + item.unjudged + item.excused) for item in evidence if item.failures]
    undecided = [_with(item, item.unjudged + item.excused) for item in evidence if item.unjudged and not item.failures]
    judged = [item for item in evidence if item.asked or item.excused]
    passed = [_with(item, item.excused) for item in judged if not item.failures and not item.unjudged]
    left = [item for item in evidence if not (item.asked or item.failures or item.unjudged or item.excused)]
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


def _with(item: Evidence, phrases: Sequence[str]) -> str:
    return f"{item.name} ({', '.join(phrases)})" if phrases else item.name


def _undecided(evidence: Sequence[Evidence]) -> tuple[str, ...]:
    blocking = (item for item in evidence if item.gaps)
    harmless = (item for item in evidence if item.doubts and not item.gaps)
    return (
        *map(_unjudged, blocking),
        *(f"{_unjudged(item)} The verdict does not depend on it." for item in harmless),
    )


def _unjudged(item: Evidence) -> str:
    extent = " in full" if item.merits or item.failures else ""
    return f"{item.name.capitalize()} could not be judged{extent}: {', '.join(item.gaps + item.doubts)}."


def _merits(evidence: Sequence[Evidence]) -> tuple[str, ...]:
    return tuple(f"{item.name.capitalize()}: {', '.join(item.merits)}." for item in evidence if item.merits)
