"""The sentences behind a verdict: they name checks and modules, the gravest first."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from clip_eval.verdict.causes import directness, twin
from clip_eval.verdict.change_causes import Consequence
from clip_eval.verdict.changes import CONSEQUENCES, ChangeGroup, by_consequence, grouped
from clip_eval.verdict.measurement import Measurement, format_number, worst
from clip_eval.verdict.run_record import SCOPES, CheckResult, Scope, SurfaceChange, TaskResult, ThroughputResult

__all__ = [
    "by_cause",
    "cause",
    "deviating",
    "failed_names",
    "failures",
    "findings",
    "first_cause",
    "gaps",
    "listed",
    "notes",
    "of_changes",
    "of_merits",
    "of_scope",
    "warned_changes",
]

_SHOWN = 3  # names in one sentence; the report lists all
_NAME = 120  # characters of a measurement's name, which may quote a text
_SENTENCE = 200  # characters of a message
_PARAGRAPH = 600  # characters of a finding, which names file, field, values and remedy

_CHANGES = re.compile(r"(\d+ s|S)urface change|Accept intended changes ")
_CLOSING = re.compile(
    r"(Contract|Baseline|Tasks|Throughput): |\d+ declared deviations of |Declared deviation |Accepted \("
)
_UNJUDGED = re.compile(r"(Contract|Baseline|Tasks|Throughput) could not be judged( in full)?: [^.]*\.$")

_T = TypeVar("_T")
_K = TypeVar("_K", bound=Hashable)


def failures(
    *,
    checks: Sequence[CheckResult],
    surface_changes: Sequence[SurfaceChange],
    tasks: Sequence[TaskResult],
    throughput: Sequence[ThroughputResult],
) -> tuple[str, ...]:
    """One sentence for each cause of a failure, with the checks that may follow from it or were not run because of it.

    Checks with the same first diverging module share a sentence. A check that failed for surface changes has none of
    its own beside theirs.
    """
    slow = [timing for timing in throughput if timing.outcome == "failed"]
    told = {change.check for change in surface_changes if change.accepted is None}
    return (
        *_failed_checks([one for one in checks if one.id not in told and not any(_is_of(one, item) for item in slow)]),
        *_open_changes(surface_changes),
        *(_task(task) for task in tasks if task.outcome == "failed"),
        *map(_timing, slow),
    )


def gaps(checks: Sequence[CheckResult]) -> tuple[str, ...]:
    """Sentences about the checks that ended in an error, then about those not run, one for each cause.

    Checks not run because of a failed check are in that check's sentence.
    """
    failed = failed_names(checks)
    warned = {check.name for check in checks if check.outcome == "warned"}
    crashed = _groups((check for check in checks if check.outcome == "error"), key=cause)
    not_run = [check for check in checks if check.outcome == "not_run" and check.because not in failed]
    skipped = _groups(not_run, key=lambda check: (cause(check), check.because))
    return (
        *(f"Ended in an error ({_clause(why)}): {_checks(group)}." for why, group in crashed.items()),
        *(f"Not run ({_missing(why, name, warned)}): {_checks(group)}." for (why, name), group in skipped.items()),
    )


def of_changes(reason: str) -> bool:
    """Whether a sentence of a verdict is about surface changes that are not accepted."""
    return _CHANGES.match(reason) is not None


def of_merits(reason: str) -> bool:
    """Whether a sentence of a verdict is about what passed or is excused."""
    return _CLOSING.match(reason) is not None


def of_scope(reason: str) -> bool:
    """Whether a sentence of a verdict says no more than a scope's own entry does."""
    return _UNJUDGED.match(reason) is not None


def _missing(why: str, because: str | None, warned: Collection[str]) -> str:
    if because is None:
        return _clause(why)
    told = (
        f"because of {because}, which only warns"
        if because in warned
        else f"{because}, which would say why, did not fail"
    )
    return f"{_line(why, limit=_PARAGRAPH).rstrip('.')}; {told}"


def failed_names(checks: Iterable[CheckResult]) -> frozenset[str]:
    """The names of the checks that failed."""
    return frozenset(check.name for check in checks if check.outcome == "failed")


def by_cause(checks: Iterable[CheckResult]) -> list[CheckResult]:
    """Failed checks and errors in the order of the report: causes first, then what may follow from one."""
    broken = [check for check in checks if check.outcome in ("failed", "error")]
    names = failed_names(broken)
    return sorted(broken, key=lambda check: (check.because in names, check.outcome == "error", _rank(check)))


def findings(checks: Iterable[CheckResult]) -> list[tuple[CheckResult, list[CheckResult]]]:
    """Failed checks and errors that follow from no other one, in order, each with those that may follow from it."""
    broken = by_cause(checks)
    failed = {check.name: check for check in broken if check.outcome == "failed"}

    def root(check: CheckResult) -> str:
        passed: set[str] = set()  # a record that was edited may lead in a circle
        while check.because in failed and check.name not in passed:
            passed.add(check.name)
            check = failed[check.because]
        return check.name

    roots = {check.name: root(check) for check in broken}
    leads = [check for check in broken if roots[check.name] == check.name]
    return [(lead, [one for one in broken if one is not lead and roots[one.name] == lead.name]) for lead in leads]


def first_cause(checks: Sequence[CheckResult], scope: Scope) -> str | None:
    """Where the failures of a scope begin, such as "at text_model.final_layer_norm"; None if no failure follows from
    another.
    """
    names = failed_names(checks)
    followers = {check.because for check in checks if check.outcome == "failed" and check.because in names}
    leads = sorted((check for check in checks if check.scope == scope and check.name in followers), key=_rank)
    if not leads:
        return None
    return f"at {leads[0].diverges_at}" if leads[0].diverges_at else leads[0].name


def notes(*, checks: Sequence[CheckResult], surface_changes: Sequence[SurfaceChange]) -> tuple[str, ...]:
    """Sentences about excused differences: declared deviations and accepted changes."""
    excused = deviating(checks)
    reviewed = (change for change in surface_changes if change.accepted is not None and not change.warned)
    accepted = _groups(reviewed, key=_reason)
    return (
        *_deviations(excused),
        *(f"Accepted ({_clause(reason)}): {_causes(group)}." for reason, group in accepted.items()),
    )


def warned_changes(changes: Sequence[SurfaceChange]) -> list[str]:
    """Sentences about surface changes that a policy only warns of, one for each of its reasons."""
    groups = _groups((change for change in changes if change.warned), key=_reason)
    return [f"{_not_accepted(len(group))} ({_clause(why)}): {_causes(group)}." for why, group in groups.items()]


def _not_accepted(count: int) -> str:
    return f"{count} surface change{' is' if count == 1 else 's are'} not accepted"


def _causes(changes: Sequence[SurfaceChange]) -> str:
    return listed(list(dict.fromkeys(change.cause or change.id for change in changes)))


def deviating(checks: Iterable[CheckResult]) -> dict[str, list[CheckResult]]:
    """The checks that asserted a declared deviation, by its id."""
    return _groups((check for check in checks if check.outcome == "deviation"), key=lambda check: check.deviation or "")


def _deviations(excused: Mapping[str, Sequence[CheckResult]]) -> list[str]:
    if len(excused) > _SHOWN:
        return [f"{len(excused)} declared deviations of this release: {', '.join(excused)}."]
    return [f"Declared deviation {name}: {_checks(group)}." for name, group in excused.items()]


def cause(check: CheckResult) -> str:
    """Why a check did not pass, in one line: its reason, else the assertion in its detail, else its outcome."""
    if check.reason:
        return _line(check.reason, limit=_PARAGRAPH if check.because else _SENTENCE)
    lines = [line for line in (check.detail or "").splitlines() if line.strip()]
    asserted = [line[1:].strip() for line in lines if line.startswith("E ")]
    return _line((asserted or lines[-1:] or ["no reason was given"])[0])


def listed(names: Sequence[str]) -> str:
    """Such as "a, b, c and 4 more"."""
    if len(names) > _SHOWN + 1:
        return f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} more"
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _failed_checks(checks: Sequence[CheckResult]) -> list[str]:
    """A sentence for each cause; checks without a diverging module, followers or a reason of their own share one by
    chapter.
    """
    failed = sorted((check for check in checks if check.outcome == "failed"), key=_rank)
    names = failed_names(failed)
    caused = _groups((check for check in checks if check.because in names), key=lambda check: check.because)
    groups: dict[tuple[bool, str], list[CheckResult]] = {}
    for check in failed:
        if check.because not in names:
            is_cause = check.name in caused or (check.reason is not None and not check.measurements)
            place = check.diverges_at or (check.name if is_cause else check.chapter)
            groups.setdefault((check.diverges_at is not None, place), []).append(check)
    sentences = []
    for (diverges, place), roots in groups.items():
        after = sorted((check for root in roots for check in caused.get(root.name, ())), key=_rank)
        failures = [check for check in after if check.outcome == "failed" and diverges and check.diverges_at]
        same = [check for check in failures if check.diverges_at in (place, twin(place))]
        predicate = f"diverge first at {_places([*roots, *same])}" if diverges else f"of {place} failed"
        sentences.append(
            _failed_group([*roots, *same], predicate) + _followed([one for one in after if one not in same])
        )
    return sentences


def _places(group: Sequence[CheckResult]) -> str:
    return " or ".join(dict.fromkeys(check.diverges_at for check in group if check.diverges_at))


def _rank(check: CheckResult) -> tuple[int, int, bool, int]:
    """The order of failures: first classes that do not load or build, then by scope, module and directness."""
    place = directness(check)
    return (0 if place < 2 else 1, SCOPES.index(check.scope), not check.diverges_at, place)


def _followed(after: Sequence[CheckResult]) -> str:
    """Sentences about what follows from a failure."""
    failed = [check for check in after if check.outcome == "failed"]
    unasked = sum(check.outcome == "not_run" for check in after)
    more = f" {_number(len(failed))} may follow from it: {_checks(failed)}." if failed else ""
    return more + (f" {_number(unasked)} could not be asked because of it." if unasked else "")


def _number(count: int) -> str:
    return f"{count} check{'' if count == 1 else 's'}"


def _failed_group(group: Sequence[CheckResult], predicate: str) -> str:
    if len(group) == 1 and group[0].reason:
        return f"{group[0].name} failed: {_line(group[0].reason, limit=_PARAGRAPH).rstrip('.')}."
    if len(group) == 1:
        place = f"; it diverges first at {group[0].diverges_at}" if group[0].diverges_at else ""
        return f"{group[0].name} failed: {_evidence(group[0])}{place}."
    gravest = worst(measurement for check in group for measurement in check.measurements)
    example = next((check for check in group if gravest in check.measurements), group[0])
    return f"{len(group)} checks {predicate}: {_checks(group)}. The worst is {example.name}: {_evidence(example)}."


def _evidence(check: CheckResult) -> str:
    measurement = worst(check.measurements)
    if measurement is None or measurement.passed:
        return _clause(cause(check))
    return _against(measurement)


def _against(measurement: Measurement) -> str:
    name = _line(measurement.name, limit=_NAME)
    if measurement.error is None or measurement.bound is None:
        return f"{name} is {_line(measurement.observed)}, expected {_line(measurement.expected)}"
    unit = f" {measurement.unit}" if measurement.unit else ""
    error, bound = format_number(measurement.error), format_number(measurement.bound)
    return f"error {error}{unit} of {name} against bound {bound}{unit} ({measurement.budget})"


def _open_changes(changes: Sequence[SurfaceChange]) -> list[str]:
    """A sentence for each of a few changes, or for each consequence of many; then how to accept them."""
    still_open = [change for change in changes if change.accepted is None]
    if not still_open:
        return []
    sentences = [_change(change) for change in still_open]
    if len(still_open) > _SHOWN:
        groups = [group for group in grouped(changes) if group.open]
        sentences = [_consequence(kind, members) for kind, members in by_consequence(groups).items()]
    return [*sentences, "Accept intended changes with --accepted FILE; summary.md has a draft of it."]


def _consequence(kind: Consequence, groups: Sequence[ChangeGroup]) -> str:
    told = ", ".join(f"{group.label} ({len(group.open)})" for group in groups)
    return f"{_not_accepted(sum(len(group.open) for group in groups))}, {CONSEQUENCES[kind]}: {told}."


def _reason(change: SurfaceChange) -> str | None:
    return change.accepted


def _change(change: SurfaceChange) -> str:
    return (
        f"Surface change {change.id} is not accepted: {change.what} changed from "
        f"'{_line(change.before)}' to '{_line(change.after)}' ({change.check})."
    )


def _task(task: TaskResult) -> str:
    score = f"{format_number(task.score, digits=4)}{_interval(task.interval_low, task.interval_high, digits=4)}"
    against = "" if task.reference is None else f" against {format_number(task.reference, digits=4)} of the baseline"
    why = f": {_clause(task.reason)}" if task.reason else ""
    return f"Task {task.name} failed with {score}{against}{why}."


def _timing(timing: ThroughputResult) -> str:
    ratio = f"{format_number(timing.ratio, digits=4)}{_interval(timing.interval_low, timing.interval_high, digits=4)}"
    why = f": {_clause(timing.reason)}" if timing.reason else ""
    reference = timing.reference or "its reference"
    return f"Throughput {timing.name} failed: it takes {ratio} times as long as {reference}{why}."


def _is_of(check: CheckResult, timing: ThroughputResult) -> bool:
    """Whether a check failed for what a timing already says: its measurement has the timing's name."""
    return any(one.name.startswith(f"{timing.name}: ") for one in check.measurements if not one.passed)


def _interval(low: float | None, high: float | None, *, digits: int) -> str:
    if low is None or high is None:
        return ""
    return f" ({format_number(low, digits=digits)} to {format_number(high, digits=digits)})"


def _checks(group: Sequence[CheckResult]) -> str:
    return listed([check.name for check in group])


def _groups(items: Iterable[_T], *, key: Callable[[_T], _K]) -> dict[_K, list[_T]]:
    groups: dict[_K, list[_T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _clause(text: str | None) -> str:
    """The text as part of a sentence: one line, without a full stop."""
    return _line(text or "no reason was given").rstrip(".")


def _line(text: str, *, limit: int = _SENTENCE) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 4]} ..."
