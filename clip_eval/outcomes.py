"""From pytest's reports to check results: the evidence a check leaves, and what became of it.

Evidence travels in `user_properties` as one JSON string each, the only form that survives every pytest plugin and
every process boundary.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from clip_eval.checks import Case
from clip_eval.measurement import Measurement, decode_float, plain
from clip_eval.run_record import CheckOutcome, CheckResult, SurfaceChange, TaskResult, ThroughputResult

if TYPE_CHECKING:
    import pytest

__all__ = ["Evidence", "Outcomes", "name_in_suite"]

_PREFIX = "clip_eval."


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one check leaves behind besides passing or failing; `properties` is the pytest item's list."""

    properties: list[tuple[str, object]]

    def in_suite(self, name: str) -> None:
        """Record that this is test FILE::FUNCTION[CASE] of the suite."""
        self._leave("test", json.dumps(name))

    def measurement(self, measurement: Measurement) -> None:
        """Record a judged number."""
        self._leave("measurement", measurement.to_json())

    def diverges_at(self, module: str) -> None:
        """Record the first module that diverges."""
        self._leave("diverges_at", json.dumps(module))

    def deviation(self, identity: str) -> None:
        """Record that a declared deviation was asserted instead of the contract."""
        self._leave("deviation", json.dumps(identity))

    def note(self, sentence: str) -> None:
        """Record what a reader should know and what is no failure."""
        self._leave("note", json.dumps(sentence))

    def reason(self, sentence: str) -> None:
        """Record why the check fails, where no measurement says it."""
        self._leave("reason", json.dumps(sentence))

    def surface_change(self, change: SurfaceChange) -> None:
        """Record a difference against the pack's surface."""
        self._leave("surface_change", json.dumps(asdict(change)))

    def task(self, result: TaskResult) -> None:
        """Record a task score."""
        self._leave("task", json.dumps(plain(asdict(result))))

    def throughput(self, result: ThroughputResult) -> None:
        """Record a speed ratio."""
        self._leave("throughput", json.dumps(plain(asdict(result))))

    def not_run(self, reason: str, *, because: str | None = None) -> NoReturn:
        """Leave the check undecided: something it needs is missing, and the run cannot pass without it.

        Args:
            reason: what is missing.
            because: name of the check that fails for the same cause.
        """
        self._skip("not_run", reason, because)

    def not_applicable(self, reason: str) -> NoReturn:
        """Say that the promise does not concern this subject; nothing is missing."""
        self._skip("not_applicable", reason)

    def _leave(self, kind: str, text: str) -> None:
        self.properties.append((_PREFIX + kind, text))

    def leave_not_run(self, reason: str, *, because: str | None = None) -> None:
        """As `not_run`, for a hook: the report is the caller's to change."""
        self._leave("skip", json.dumps({"outcome": "not_run", "reason": reason, "because": because}))

    def _skip(self, outcome: CheckOutcome, reason: str, because: str | None = None) -> NoReturn:
        import pytest

        self._leave("skip", json.dumps({"outcome": outcome, "reason": reason, "because": because}))
        pytest.skip(reason)


@dataclass(slots=True)
class Outcomes:
    """Gathers reports on the process that owns the run record.

    Args:
        rerun: function name -> command line.
    """

    rerun: Callable[[str], str]
    checks: dict[Case, CheckResult] = field(default_factory=dict)
    surface_changes: list[SurfaceChange] = field(default_factory=list)
    tasks: list[TaskResult] = field(default_factory=list)
    throughput: list[ThroughputResult] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, report: pytest.TestReport, case: Case) -> None:
        """Take in one phase of one test. The call phase decides, setup and teardown can only make it worse."""
        if report.when == "call" or report.outcome != "passed":
            self.checks[case] = self.result(report, case)
        if report.when == "call":
            self.surface_changes += _read(report, "surface_change", lambda data: SurfaceChange(**data))
            self.notes += [note for note in _read(report, "note", str) if note not in self.notes]
            self.tasks += _read(report, "task", lambda data: TaskResult(**_floats(data)))
            self.throughput += _read(report, "throughput", lambda data: ThroughputResult(**_floats(data)))

    def not_run(self, case: Case, reason: str) -> None:
        """Account for a test that pytest collected and of which no phase has a result."""
        if case not in self.checks:
            self.checks[case] = _not_run(case, reason)

    def result(self, report: pytest.TestReport, case: Case) -> CheckResult:
        """Return the check result that one report amounts to."""
        check = case.check
        outcome, reason = _outcome(report)
        skips = _read(report, "skip", dict)
        deviations = _read(report, "deviation", str)
        diverges = _read(report, "diverges_at", str)
        told = _read(report, "reason", str) if outcome == "failed" else []
        return CheckResult(
            id=check.id,
            chapter=check.chapter,
            promise=check.promise,
            case=case.case,
            outcome="deviation" if outcome == "passed" and deviations else outcome,
            scope=check.scope,
            reason=told[-1] if told else reason,
            measurements=tuple(
                Measurement.from_json(str(value))
                for name, value in report.user_properties
                if name == _PREFIX + "measurement"
            ),
            diverges_at=diverges[0] if diverges else None,
            deviation=deviations[0] if deviations else None,
            rerun=self.rerun(check.id.partition(".")[2]) if outcome in ("failed", "error") else None,
            duration_s=report.duration,
            detail=report.longreprtext or None if outcome in ("failed", "error") else None,
            because=skips[-1]["because"] if outcome == "not_run" and skips else None,
        )


def name_in_suite(report: pytest.TestReport) -> str | None:
    """Return FILE::FUNCTION[CASE] of a test of the suite; None for any other test, and where its process died."""
    names = _read(report, "test", str)
    return names[0] if names else None


def _not_run(case: Case, reason: str) -> CheckResult:
    return CheckResult(
        id=case.check.id,
        chapter=case.check.chapter,
        promise=case.check.promise,
        case=case.case,
        outcome="not_run",
        scope=case.check.scope,
        reason=reason,
        measurements=(),
        diverges_at=None,
        deviation=None,
        rerun=None,
        duration_s=0.0,
        detail=None,
    )


def _outcome(report: pytest.TestReport) -> tuple[CheckOutcome, str | None]:
    """A failed call is a failed check; anything that broke around it is an error, a dead xdist worker (`when` is ???)
    too.
    """
    if report.outcome == "passed":
        return "passed", None
    if report.outcome == "failed":
        return ("failed", None) if report.when == "call" else ("error", _last_line(report))
    said = _read(report, "skip", dict)
    if said:
        return said[-1]["outcome"], said[-1]["reason"]
    return "not_run", f"skipped from outside: {_last_line(report)}"


def _last_line(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):  # file, line and message of a skip
        return report.longrepr[2].removeprefix("Skipped: ")
    lines = [line for line in report.longreprtext.splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else f"{report.when} {report.outcome}"


def _read(report: pytest.TestReport, kind: str, build: Callable[[Any], Any]) -> list[Any]:
    properties: Iterable[tuple[str, object]] = report.user_properties
    return [build(json.loads(str(value))) for name, value in properties if name == _PREFIX + kind]


def _floats(data: dict[str, Any]) -> dict[str, Any]:
    names = ("score", "ratio", "interval_low", "interval_high", "reference")
    return {
        key: decode_float(value) if key in names and value in ("nan", "inf", "-inf") else value
        for key, value in data.items()
    }
