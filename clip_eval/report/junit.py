"""JUnit XML: one suite a chapter, one case a check, and the verdict itself as a case.

It keeps to the schema of Jenkins' xUnit plugin, junit-10.xsd, which is the strictest in use: a case has no properties
there, so what was measured is in its system-out, a line each.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from xml.etree import ElementTree as ET

from clip_eval.report.cases import Case, cases
from clip_eval.report.text import clean, clip
from clip_eval.verdict.run_record import RunRecord

__all__ = ["render_junit"]


def render_junit(record: RunRecord) -> str:
    """The run as JUnit XML.

    Failed checks, unaccepted changes, failed tasks and failed timings are failures, crashed checks are errors, what was
    not run, not applicable, not asked or not decided is skipped with its reason.
    """
    root = ET.Element("testsuites", name="clip-eval", time=f"{record.duration_s:.3f}")
    for name, members in groupby(cases(record), key=lambda case: case.suite):
        _suite(root, name, list(members), started=record.started)
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(root: ET.Element, name: str, members: Sequence[Case], *, started: str) -> None:
    counts = {
        "tests": len(members),
        "failures": sum(case.outcome == "failure" for case in members),
        "errors": sum(case.outcome == "error" for case in members),
        "skipped": sum(case.outcome == "skipped" for case in members),
    }
    seconds = sum(case.duration_s for case in members)
    suite = ET.SubElement(root, "testsuite", name=clean(name), timestamp=clean(started), time=f"{seconds:.3f}")
    for key, count in counts.items():
        suite.set(key, str(count))
    suite.extend(map(_case, members))


def _case(case: Case) -> ET.Element:
    element = ET.Element(
        "testcase", classname=clean(case.classname), name=clean(case.name), time=f"{case.duration_s:.3f}"
    )
    if case.outcome != "passed":
        told = ET.SubElement(element, case.outcome, message=clip(case.message, limit=500))
        told.text = clean(case.text)
    said = (case.message, *case.text.splitlines()) if case.outcome == "passed" else ()
    facts = (f"{clip(name)}: {clip(value, limit=2000)}" for name, value in case.facts.items())
    lines = [clean(line) for line in (*said, *facts) if line]
    if lines:
        ET.SubElement(element, "system-out").text = "\n".join(lines)
    return element
