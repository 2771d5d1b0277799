"""From pytest's reports to check results: outcome and evidence.

Evidence is in `user_properties` as one JSON string each, the only form that survives every pytest plugin and process
boundary.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clip_eval.run.declared_checks import Case
from clip_eval.run.evidence import PROPERTY_PREFIX
from clip_eval.verdict.measurement import Measurement
from clip_eval.verdict.plain_values import Json, decode_float
from clip_eval.verdict.run_record import CheckOutcome, CheckResult, SurfaceChange, TaskResult, ThroughputResult

if TYPE_CHECKING:
    import pytest

__all__ = ["Outcomes", "name_in_suite"]


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
    images: dict[str, str] = field(default_factory=dict)
    similarity: dict[str, Json] | None = None

    def add(self, report: pytest.TestReport, case: Case) -> None:
        """Add one phase of one test. The call phase decides; setup and teardown can only make it worse."""
        if report.when == "call" or report.outcome != "passed":
            self.checks[case] = self.result(report, case)
        if report.when == "call":
            self.surface_changes += _read(report, "surface_change", lambda data: SurfaceChange(**data))
            self.notes += [note for note in _read(report, "note", str) if note not in self.notes]
            samples = dict(_read(report, "samples", tuple))
            self.tasks += _read(report, "task", lambda data: _task(_floats(data), samples))
            self.images.update(_read(report, "image", tuple))
            self.similarity = next(iter(_read(report, "similarity", dict)), self.similarity)
            self.throughput += _read(report, "throughput", lambda data: ThroughputResult(**_floats(data)))

    def not_run(self, case: Case, reason: str) -> None:
        """Add a test that was collected and has no result."""
        if case not in self.checks:
            self.checks[case] = _not_run(case, reason)

    def result(self, report: pytest.TestReport, case: Case) -> CheckResult:
        """Return the check result that one report amounts to."""
        check = case.check
        outcome, reason = _outcome(report)
        skips = _read(report, "skip", dict)
        deviations = _read(report, "deviation", str)
        diverges = _read(report, "diverges_at", str)
        reasons = _read(report, "reason", str) if outcome == "failed" else []
        return CheckResult(
            id=check.id,
            chapter=check.chapter,
            promise=check.promise,
            case=case.case,
            outcome="deviation" if outcome == "passed" and deviations else outcome,
            scope=check.scope,
            reason=reasons[-1] if reasons else reason,
            measurements=tuple(
                Measurement.from_json(str(value))
                for name, value in report.user_properties
                if name == PROPERTY_PREFIX + "measurement"
            ),
            diverges_at=diverges[0] if diverges else None,
            deviation=deviations[0] if deviations else None,
            rerun=self.rerun(check.id.partition(".")[2]) if outcome in ("failed", "error") else None,
            duration_s=report.duration,
            detail=report.longreprtext or None if outcome in ("failed", "error") else None,
            because=skips[-1]["because"] if outcome == "not_run" and skips else None,
        )


def name_in_suite(report: pytest.TestReport) -> str | None:
    """Return FILE::FUNCTION[CASE] of a test of the suite; None for any other test, and if its process died."""
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
    """A failed call is a failed check; a failure in setup or teardown, or a dead xdist worker (`when` is ???), an
    error.
    """
    if report.outcome == "passed":
        return "passed", None
    if report.outcome == "failed":
        return ("failed", None) if report.when == "call" else ("error", _last_line(report))
    skips = _read(report, "skip", dict)
    if skips:
        return skips[-1]["outcome"], skips[-1]["reason"]
    return "not_run", f"skipped from outside: {_last_line(report)}"


def _last_line(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):  # file, line and message of a skip
        return report.longrepr[2].removeprefix("Skipped: ")
    lines = [line for line in report.longreprtext.splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else f"{report.when} {report.outcome}"


def _read(report: pytest.TestReport, kind: str, build: Callable[[Any], Any]) -> list[Any]:
    properties: Iterable[tuple[str, object]] = report.user_properties
    return [build(json.loads(str(value))) for name, value in properties if name == PROPERTY_PREFIX + kind]


def _task(data: dict[str, Any], samples: Mapping[str, Json]) -> TaskResult:
    """A score, with the samples that are shown of it."""
    shown = {"samples": samples[data["name"]]} if data["name"] in samples else {}
    return TaskResult(**{**data, "details": {**data["details"], **shown}})


def _floats(data: dict[str, Any]) -> dict[str, Any]:
    names = ("score", "ratio", "interval_low", "interval_high", "reference")
    return {
        key: decode_float(value) if key in names and value in ("nan", "inf", "-inf") else value
        for key, value in data.items()
    }
