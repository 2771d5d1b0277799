"""JUnit XML: one suite a chapter, one case a check, and the verdict itself as a case.

The verdict is a case of its own because a CI server that reads only this file would show an inconclusive run, whose
checks were skipped, as green.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from clip_eval.report.failure_text import terminal_failure
from clip_eval.report.text import by_chapter, clean, clip, error_against_bound, index_text
from clip_eval.verdict.measurement import Measurement, format_number
from clip_eval.verdict.reasons import cause
from clip_eval.verdict.run_record import CheckResult, RunRecord, SurfaceChange, TaskResult, ThroughputResult

__all__ = ["render_junit"]


def render_junit(record: RunRecord) -> str:
    """The run as JUnit XML.

    Failed checks, unaccepted changes, failed tasks and failed timings are failures, crashed checks are errors, what was
    not run, not applicable, not asked or not decided is skipped with its reason.
    """
    root = ET.Element("testsuites", name="clip-eval", time=f"{record.duration_s:.3f}")
    _suite(root, "verdict", [_verdict(record)], record=record)
    for chapter in by_chapter(record.checks):
        _suite(root, chapter.name, [_check(check) for check in chapter.checks], record=record)
    _suite(root, "surface_changes", [_change(change) for change in record.surface_changes], record=record)
    trials = [_trial("tasks", task) for task in record.tasks]
    timings = [_trial("throughput", timing) for timing in record.throughput]
    _suite(root, "task_scores", trials, record=record)
    _suite(root, "throughput_ratios", timings, record=record)
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(root: ET.Element, name: str, cases: Sequence[ET.Element], *, record: RunRecord) -> None:
    if not cases:
        return
    counts = {
        "tests": len(cases),
        "failures": _having(cases, "failure"),
        "errors": _having(cases, "error"),
        "skipped": _having(cases, "skipped"),
    }
    seconds = sum(float(case.get("time", "0")) for case in cases)
    suite = ET.SubElement(root, "testsuite", name=clean(name), timestamp=record.started, time=f"{seconds:.3f}")
    for key, count in counts.items():
        suite.set(key, str(count))
    suite.extend(cases)


def _having(cases: Sequence[ET.Element], tag: str) -> int:
    return sum(case.find(tag) is not None for case in cases)


def _case(classname: str, name: str, *, duration_s: float = 0.0) -> ET.Element:
    return ET.Element("testcase", classname=clean(classname), name=clean(name), time=f"{duration_s:.3f}")


def _outcome(case: ET.Element, tag: str, *, message: str, text: str = "") -> None:
    ET.SubElement(case, tag, message=clip(message, limit=500)).text = clean(text)


def _properties(case: ET.Element, values: dict[str, str]) -> None:
    if not values:
        return
    parent = ET.SubElement(case, "properties")
    for name, value in values.items():
        ET.SubElement(parent, "property", name=clean(name), value=clip(value, limit=2000))


def _verdict(record: RunRecord) -> ET.Element:
    case = _case("verdict", "verdict", duration_s=record.duration_s)
    _properties(case, {f"scope.{entry.name}": f"{entry.status}: {entry.reason or ''}" for entry in record.scope})
    tags = {"fail": "failure", "inconclusive": "error"}
    if record.verdict in tags:
        _outcome(case, tags[record.verdict], message=record.headline, text="\n".join(record.reasons))
    else:
        ET.SubElement(case, "system-out").text = clean("\n".join((record.headline, *record.reasons)))
    return case


def _check(check: CheckResult) -> ET.Element:
    case = _case(check.chapter, check.name.removeprefix(f"{check.chapter}."), duration_s=check.duration_s)
    measured = {f"measurement.{item.name}": _measured(item) for item in check.measurements}
    facts = {"promise": check.promise, "diverges_at": check.diverges_at, "deviation": check.deviation}
    facts["because"] = check.because
    _properties(case, {**{name: value for name, value in facts.items() if value}, **measured})
    if check.outcome == "failed":
        text = "\n\n".join(part for part in (terminal_failure(check), check.detail) if part)
        _outcome(case, "failure", message=cause(check), text=text)
    elif check.outcome == "error":
        _outcome(case, "error", message=cause(check), text=check.detail or "")
    elif check.outcome == "warned":
        _outcome(case, "skipped", message=f"failed, which only warns: {cause(check)}", text=terminal_failure(check))
    elif check.outcome in ("not_run", "not_applicable"):
        because = f"because of {check.because}: " if check.because else ""
        _outcome(case, "skipped", message=f"{check.outcome}: {because}{check.reason or 'no reason was given'}")
    return case


def _measured(measurement: Measurement) -> str:
    outcome = "passed" if measurement.passed else "failed"
    at = index_text(measurement.worst_index)
    return (
        f"{outcome}: {error_against_bound(measurement)}; worst{at and ' ' + at} observed {measurement.observed}, "
        f"expected {measurement.expected}; required {format_number(measurement.required)}"
    )


def _change(change: SurfaceChange) -> ET.Element:
    case = _case("surface_changes", change.id)
    _properties(case, {"what": change.what, "before": change.before, "after": change.after, "check": change.check})
    if change.accepted is None:
        message = f"{change.what} was {change.before}, now {change.after}, and nothing accepts it"
        _outcome(case, "failure", message=message)
    else:
        ET.SubElement(case, "system-out").text = clean(f"accepted: {change.accepted}")
    return case


def _trial(classname: str, trial: TaskResult | ThroughputResult) -> ET.Element:
    case = _case(classname, trial.name)
    _properties(case, _trial_numbers(trial))
    reason = trial.reason or "no reason was given"
    if trial.outcome == "failed":
        _outcome(case, "failure", message=reason)
    elif trial.outcome != "passed":
        _outcome(case, "skipped", message=f"{trial.outcome}: {reason}")
    return case


def _trial_numbers(trial: TaskResult | ThroughputResult) -> dict[str, str]:
    low, high = format_number(trial.interval_low, digits=4), format_number(trial.interval_high, digits=4)
    if isinstance(trial, TaskResult):
        reference = format_number(trial.reference, digits=4)
        score = format_number(trial.score, digits=4)
        return {"score": score, "interval": f"{low} to {high}", "reference": reference, "count": str(trial.count)}
    ratio = format_number(trial.ratio, digits=4)
    return {"ratio": ratio, "interval": f"{low} to {high}", "reference": str(trial.reference)}
