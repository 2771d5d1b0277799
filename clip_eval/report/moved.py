"""What moved between any two runs, as plain data.

Run A comes first in the user's mind, run B second; nothing here says which is better. Numbers are compared in the units
in which they are judged: errors over their bounds, ratios of time, scores.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from clip_eval.report.margins import margins
from clip_eval.report.summary import name_of
from clip_eval.report.text import clip
from clip_eval.verdict.changes import ChangeGroup, grouped
from clip_eval.verdict.plain_values import Json
from clip_eval.verdict.reasons import by_cause, cause
from clip_eval.verdict.run_record import (
    CheckOutcome,
    CheckResult,
    RunRecord,
    SubjectInfo,
    SurfaceChange,
    TaskResult,
    ThroughputResult,
)

__all__ = [
    "Difference",
    "Moved",
    "MovedChanges",
    "MovedCheck",
    "MovedMargin",
    "MovedScore",
    "MovedSpeed",
    "compare_runs",
]

LEAST = 0.01
"""A margin moved if it did by more than this part of its bound."""

_TOLD_ELSEWHERE = ("attention", "baseline", "device", "dtype", "model", "out")  # arguments
_BROKEN = ("failed", "error")
_HELD = ("passed", "deviation")

Direction = Literal["fails", "mended", "other", "appeared", "gone"]  # what decides most first
ChangeDirection = Literal["appeared", "differs", "no longer accepted", "now accepted", "gone"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One fact that differs, in words; None where a run has no such fact."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedCheck:
    """A check whose outcome moved.

    Attributes:
        name: `chapter.name[case]`.
        direction: "fails" where it does in B and did not in A; "appeared" and "gone" where only one run has it;
            "mended" where it failed in A and holds in B; else "other".
        before: the outcome in A; None where A has no such check.
        after: the outcome in B; None where B has no such check.
        reason: why it has the outcome in B, or had it in A where it is gone.
        margin_before: largest error over bound in A; None without one.
        margin_after: largest error over bound in B; None without one.
    """

    name: str
    direction: Direction
    before: CheckOutcome | None
    after: CheckOutcome | None
    reason: str
    margin_before: float | None
    margin_after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedMargin:
    """A check with the same outcome in both runs whose largest error over bound moved."""

    name: str
    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedScore:
    """A task score that differs; None where a run has no such score."""

    name: str
    before: TaskResult | None
    after: TaskResult | None

    @property
    def delta(self) -> float | None:
        """B minus A; None unless both were measured."""
        first, second = _value(self.before), _value(self.after)
        return None if first is None or second is None else second - first

    @property
    def other_data(self) -> bool:
        """Whether the two were scored on different datasets, as far as is known."""
        digests = [trial.details.get("dataset") for trial in (self.before, self.after) if trial is not None]
        return len(set(map(str, filter(None, digests)))) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedSpeed:
    """A speed ratio of either run; None where a run has none."""

    name: str
    before: ThroughputResult | None
    after: ThroughputResult | None

    @property
    def apart(self) -> bool:
        """Whether the outcome or the reference differs, or the intervals have no point in common."""
        first, second = self.before, self.after
        if first is None or second is None or first.outcome != second.outcome or first.reference != second.reference:
            return True
        ends = (first.interval_low, first.interval_high, second.interval_low, second.interval_high)
        if any(end is None for end in ends):
            return first.ratio != second.ratio
        low, high, other_low, other_high = (float(end or 0.0) for end in ends)
        return high < other_low or other_high < low


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedChanges:
    """Surface changes that moved in one way, by cause."""

    direction: ChangeDirection
    groups: tuple[ChangeGroup, ...]

    @property
    def count(self) -> int:
        """The number of changes."""
        return sum(len(group.changes) for group in self.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What moved from run A to run B. Within each part, what decides most comes first.

    Attributes:
        before: run A.
        after: run B.
        verdict: the verdict and the results of scopes that differ.
        checkpoint: of candidate and pack, what differs: source, revision, fingerprints, how it was loaded.
        environment: versions, machine and arguments that differ.
        checks: those whose outcome moved, newly failing ones first.
        margins: those that moved by more than `LEAST`, the largest movement first.
        scores: those that differ.
        speeds: all of them, those that are apart first.
        changes: surface changes of one run only, and those with another value or acceptance.
    """

    before: RunRecord
    after: RunRecord
    verdict: tuple[Difference, ...]
    checkpoint: tuple[Difference, ...]
    environment: tuple[Difference, ...]
    checks: tuple[MovedCheck, ...]
    margins: tuple[MovedMargin, ...]
    scores: tuple[MovedScore, ...]
    speeds: tuple[MovedSpeed, ...]
    changes: tuple[MovedChanges, ...]


def compare_runs(before: RunRecord, after: RunRecord) -> Moved:
    """Return what moved from one run to another: of other releases, machines or models as well."""
    checks = _checks(before, after)
    return Moved(
        before=before,
        after=after,
        verdict=_verdict(before, after),
        checkpoint=_checkpoint(before, after),
        environment=_environment(before, after),
        checks=checks,
        margins=_margins(before, after, told={check.name for check in checks}),
        scores=_scores(before, after),
        speeds=_speeds(before, after),
        changes=_changes(before.surface_changes, after.surface_changes),
    )


def _verdict(before: RunRecord, after: RunRecord) -> tuple[Difference, ...]:
    first, second = (
        {"verdict": run.verdict, **{str(entry.name): _joined(entry.status, entry.reason) for entry in run.scope}}
        for run in (before, after)
    )
    return _differing(first, second)


def _joined(status: str, reason: str | None) -> str:
    words = status.replace("_", " ")
    return f"{words}: {reason}" if reason else words


def _checkpoint(before: RunRecord, after: RunRecord) -> tuple[Difference, ...]:
    candidate = _differing(_subject(before.candidate), _subject(after.candidate))
    first, second = before.baseline, after.baseline
    if first is None or second is None:  # one row for a pack that only one run has
        names = [{} if pack is None else {"pack": name_of(pack)} for pack in (first, second)]
        return (*candidate, *_differing(*names))
    return (*candidate, *_differing(_subject(first, "pack: "), _subject(second, "pack: ")))


def _subject(subject: SubjectInfo, prefix: str = "") -> dict[str, str]:
    facts = {
        "model": name_of(subject),
        "revision": subject.revision,
        **subject.fingerprints,
        "dtype": subject.dtype,
        "device": subject.device,
        "attention": subject.attention,
        "surface": subject.surface,
    }
    return {f"{prefix}{name.replace('_', ' ')}": value for name, value in facts.items() if value is not None}


def _environment(before: RunRecord, after: RunRecord) -> tuple[Difference, ...]:
    arguments = [
        {f"argument {name}": value for name, value in run.arguments.items() if name not in _TOLD_ELSEWHERE}
        for run in (before, after)
    ]
    return (*_differing(_texts(before.provenance), _texts(after.provenance)), *_differing(*map(_texts, arguments)))


def _texts(values: Mapping[str, Json]) -> dict[str, str]:
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in values.items()
        if value is not None
    }


def _differing(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Difference, ...]:
    names = dict.fromkeys((*before, *after))
    return tuple(
        Difference(name=name, before=before.get(name), after=after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    )


def _checks(before: RunRecord, after: RunRecord) -> tuple[MovedCheck, ...]:
    first, second = ({check.name: check for check in run.checks} for run in (before, after))
    margin_before, margin_after = margins(before), margins(after)
    counting = {change.check for change in after.surface_changes if change.accepted is None}
    failing_first = {check.name: second[check.name] for check in by_cause(after.checks)}
    found: list[MovedCheck] = []
    for name, one, other in _paired(first, {**failing_first, **second}):
        outcomes = (one.outcome if one else None, other.outcome if other else None)
        if outcomes[0] != outcomes[1]:
            found.append(
                MovedCheck(
                    name=name,
                    direction=_direction(one, other),
                    before=outcomes[0],
                    after=outcomes[1],
                    reason=_reason(other or one, counting),
                    margin_before=margin_before.get(name),
                    margin_after=margin_after.get(name),
                )
            )
    return tuple(sorted(found, key=lambda check: get_args(Direction).index(check.direction)))


def _direction(before: CheckResult | None, after: CheckResult | None) -> Direction:
    if after is None:
        return "gone"
    if after.outcome in _BROKEN and (before is None or before.outcome not in _BROKEN):
        return "fails"
    if before is None:
        return "appeared"
    return "mended" if before.outcome in _BROKEN and after.outcome in _HELD else "other"


def _reason(check: CheckResult | None, counting: set[str]) -> str:
    """Why a check has its outcome; empty where it held."""
    if check is None:
        return ""
    if check.id in counting:
        return "surface changes that are not accepted"  # which are told by themselves
    if check.outcome in _BROKEN:
        follows = f" (may follow from {check.because})" if check.because else ""
        return f"{clip(cause(check))}{follows}"
    if check.outcome == "deviation":
        return f"declared deviation {check.deviation}"
    return f"because of {check.because}" if check.because else clip(check.reason or "")


def _margins(before: RunRecord, after: RunRecord, *, told: set[str]) -> tuple[MovedMargin, ...]:
    first, second = margins(before), margins(after)
    pairs = [
        MovedMargin(name=name, before=first[name], after=second[name])
        for name in first
        if name in second and name not in told
    ]
    moved = (one for one in pairs if one.before != one.after and not abs(one.after - one.before) <= LEAST)
    return tuple(sorted(moved, key=lambda one: -_distance(one)))


def _distance(margin: MovedMargin) -> float:
    distance = abs(margin.after - margin.before)
    return math.inf if math.isnan(distance) else distance


def _scores(before: RunRecord, after: RunRecord) -> tuple[MovedScore, ...]:
    first, second = ({task.name: task for task in run.tasks} for run in (before, after))
    pairs = (MovedScore(name=name, before=one, after=other) for name, one, other in _paired(first, second))
    moved = (one for one in pairs if _value(one.before) != _value(one.after) or _judged_otherwise(one))
    return tuple(sorted(moved, key=lambda one: one.after is None or one.after.outcome != "failed"))


def _speeds(before: RunRecord, after: RunRecord) -> tuple[MovedSpeed, ...]:
    first, second = ({timing.name: timing for timing in run.throughput} for run in (before, after))
    pairs = (MovedSpeed(name=name, before=one, after=other) for name, one, other in _paired(first, second))
    return tuple(sorted(pairs, key=lambda one: not one.apart))


def _paired(before: Mapping[str, _T], after: Mapping[str, _T]) -> list[tuple[str, _T | None, _T | None]]:
    """What has the same name, in the order of B, then what only A has."""
    return [(name, before.get(name), after.get(name)) for name in dict.fromkeys((*after, *before))]


def _value(trial: TaskResult | None) -> float | None:
    """The score; None without one, and for NaN, which equals nothing."""
    return None if trial is None or trial.score is None or math.isnan(trial.score) else trial.score


def _judged_otherwise(score: MovedScore) -> bool:
    first, second = score.before, score.after
    return first is None or second is None or first.outcome != second.outcome


def _changes(before: Sequence[SurfaceChange], after: Sequence[SurfaceChange]) -> tuple[MovedChanges, ...]:
    first, second = {change.id: change for change in before}, {change.id: change for change in after}
    found: dict[ChangeDirection, list[SurfaceChange]] = {
        "appeared": [change for change in after if change.id not in first],
        "differs": [],
        "no longer accepted": [],
        "now accepted": [],
        "gone": [change for change in before if change.id not in second],
    }
    for change in after:
        old = first.get(change.id)
        if old is not None and (old.before, old.after) != (change.before, change.after):
            found["differs"].append(change)
        elif old is not None and (old.accepted is None) != (change.accepted is None):
            found["now accepted" if old.accepted is None else "no longer accepted"].append(change)
    return tuple(
        MovedChanges(direction=direction, groups=grouped(changes)) for direction, changes in found.items() if changes
    )
