"""The run in the Common Test Report Format (https://ctrf.io): the cases of junit.xml as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from clip_eval.report.cases import Case, cases
from clip_eval.report.summary import name_of
from clip_eval.report.text import clean, clip, epoch_ms
from clip_eval.verdict.run_record import RunRecord

__all__ = ["render_ctrf"]

_SPEC = "1.0.0"  # of the format
_STATUS = {"passed": "passed", "failure": "failed", "error": "failed", "skipped": "skipped"}
_STATES = ("passed", "failed", "skipped", "pending", "other")


def render_ctrf(record: RunRecord) -> str:
    """The run as CTRF JSON. What crashed and an inconclusive verdict count as failed, so that nothing passes by
    absence; `rawStatus` has the outcome of the record.
    """
    every = cases(record)
    report = {
        "reportFormat": "CTRF",
        "specVersion": _SPEC,
        "timestamp": record.started,
        "generatedBy": f"clip-eval {record.provenance['clip_eval']}",
        "results": {
            "tool": {"name": "clip-eval", "version": str(record.provenance["clip_eval"])},
            "summary": _summary(every, record),
            "tests": [_test(case) for case in every],
            "environment": _environment(record),
        },
    }
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"


def _summary(every: Sequence[Case], record: RunRecord) -> dict[str, int]:
    start = epoch_ms(record.started)
    counts = {state: sum(_STATUS[case.outcome] == state for case in every) for state in _STATES}
    suites = len({case.suite for case in every})
    return {"tests": len(every), **counts, "suites": suites, "start": start, "stop": start + _ms(record.duration_s)}


def _test(case: Case) -> dict[str, Any]:
    told = {"message": clip(case.message, limit=500), "trace": clean(case.text)} if case.outcome != "passed" else {}
    return {
        "name": clean(case.name) or "unnamed",
        "status": _STATUS[case.outcome],
        "duration": _ms(case.duration_s),
        "suite": [clean(case.suite)],
        **{key: text for key, text in told.items() if text},
        "rawStatus": case.status,
        "extra": {clip(name): clip(value, limit=2000) for name, value in case.facts.items()},
    }


def _environment(record: RunRecord) -> dict[str, Any]:
    commit = record.provenance.get("git_revision")
    revision = record.candidate.revision
    return {
        "appName": clean(name_of(record.candidate)),
        **({"appVersion": clean(revision)} if revision else {}),
        **({"commit": clean(commit)} if isinstance(commit, str) else {}),
        "osPlatform": clean(str(record.provenance["platform"])),
        "healthy": record.verdict == "pass",
        "extra": {key: clean(str(value)) for key, value in record.provenance.items() if value is not None},
    }


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
