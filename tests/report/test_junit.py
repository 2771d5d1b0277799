"""JUnit XML parses, counts right, and shows an inconclusive run as anything but green."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import sample_records as sample

from clip_eval.report import render_junit
from clip_eval.verdict.run_record import RunRecord

RECORDS = [sample.passing_record, sample.failing_record, sample.inconclusive_record]


def parsed(record: RunRecord) -> ET.Element:
    """The rendered XML, parsed."""
    return ET.fromstring(render_junit(record))


def case(root: ET.Element, name: str) -> ET.Element:
    """The one case of this name."""
    (found,) = [element for element in root.iter("testcase") if element.get("name") == name]
    return found


@pytest.mark.parametrize("make", RECORDS, ids=lambda make: make.__name__)
def test_counts_are_right(make: Callable[[], RunRecord]) -> None:
    """Each suite and the root count the cases, failures, errors and skips that they hold."""
    root = parsed(make())
    tags = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}
    for element in (root, *root):
        held = {name: str(sum(1 for _ in element.iter(tag))) for name, tag in tags.items()}
        if element is root:
            del held["skipped"]  # the schema has no such attribute there
        assert {name: element.get(name) for name in held} == held


def test_a_suite_for_each_chapter() -> None:
    """Suites are the chapters in order, between the verdict and the scores; every check is a case of its chapter."""
    record = sample.passing_record()
    root = parsed(record)
    chapters = list(dict.fromkeys(check.chapter for check in record.checks))
    names = ["verdict", *chapters, "surface_changes", "task_scores", "throughput_ratios"]
    assert [suite.get("name") for suite in root] == names
    vision = case(root, "hidden_states[vision]")
    assert vision.get("classname") == "reference_values"


def test_a_failure_holds_five_lines_and_traceback() -> None:
    """A failed check is a failure with the assertion as message and the five lines before its traceback."""
    failure = case(parsed(sample.record(checks=(sample.failed_check(),))), "hidden_states[vision]").find("failure")
    assert failure is not None
    assert "differs by 0.0421" in (failure.get("message") or "")
    text = failure.text or ""
    assert text.index("promise") < text.index("diverges") < text.index("def test_hidden_states")


def test_an_error_is_an_error() -> None:
    """A crashed check is an error, not a failure."""
    crashed = case(parsed(sample.failing_record()), "vision_equals_nested")
    assert crashed.find("failure") is None
    error = crashed.find("error")
    assert error is not None
    assert error.get("message") == "the worker that ran it died"


def test_what_was_not_run_is_skipped_with_its_reason() -> None:
    """A check that was not run, and one that does not apply, say why they are skipped."""
    skipped = case(parsed(sample.inconclusive_record()), "pixels_follow_the_reference").find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "not_run: the checkpoint has no tokenizer"
    idle = case(parsed(sample.passing_record()), "fast_tokenizer_agrees").find("skipped")
    assert idle is not None
    assert (idle.get("message") or "").startswith("not_applicable: ")


def test_a_consequence_names_its_cause() -> None:
    """A check that was not run because of another, and one that may follow from it, name that."""
    root = sample.failed_check()
    unasked = sample.check("b.unasked", outcome="not_run", because=root.name, reason="not loaded", measurements=())
    follower = sample.check("c.follower", outcome="failed", because=root.name)
    record = dataclasses.replace(sample.failing_record(), checks=(root, unasked, follower))
    skipped = case(parsed(record), "unasked").find("skipped")
    assert skipped is not None
    assert skipped.get("message") == f"not_run: because of {root.name}: not loaded"
    failure = case(parsed(record), "follower").find("failure")
    assert failure is not None
    assert f"may follow from {root.name}" in " ".join((failure.text or "").split())


@pytest.mark.parametrize(
    ("make", "tag"),
    [(sample.passing_record, None), (sample.failing_record, "failure"), (sample.inconclusive_record, "error")],
    ids=["pass", "fail", "inconclusive"],
)
def test_the_verdict_is_a_case(make: Callable[[], RunRecord], tag: str | None) -> None:
    """A fail is a failure and an inconclusive run an error, with headline and reasons; a pass is neither."""
    record = make()
    verdict = case(parsed(record), "verdict")
    if tag is None:
        assert verdict.find("failure") is None
        assert verdict.find("error") is None
        assert record.headline in (verdict.findtext("system-out") or "")
        return
    element = verdict.find(tag)
    assert element is not None
    assert element.get("message") == record.headline
    assert element.text == "\n".join(record.reasons)


def test_measurements_are_told() -> None:
    """Each measurement of a check, passed ones too, is a line with error, bound, budget and worst element."""
    vision = case(parsed(sample.passing_record()), "hidden_states[vision]")
    values = dict(line.split(": ", 1) for line in (vision.findtext("system-out") or "").splitlines())
    assert values["promise"].startswith("Every hidden state")
    assert len([name for name in values if name.startswith("measurement.")]) == 5
    assert values["measurement.hidden_states[0]"] == (
        "passed: 4e-07 against 1.31e-05, 0.031 of the bound (budget whole_model.float32); "
        "worst [0, 3, 0] observed 18.402113, expected 18.402111; required 2.1e-06"
    )


def test_changes_scores_and_timings_are_cases() -> None:
    """An unaccepted change, a failed task and a failed timing are failures; what was not decided is skipped."""
    root = parsed(sample.failing_record())
    assert case(root, sample.change().id).find("failure") is not None
    assert case(root, "fingerprint.tokenizer").find("failure") is None
    assert case(root, "zero_shot_top1").find("failure") is not None
    assert case(root, "text_tower").find("failure") is not None
    undecided = case(parsed(sample.inconclusive_record()), "image_tower").find("skipped")
    assert undecided is not None
    assert (undecided.get("message") or "").startswith("inconclusive: the interval")


def regressed() -> RunRecord:
    """A run that regressed in numbers, in a task, in the surface and in speed, each with the check that judges it."""
    judged = sample.check(
        "zero_shot.top1_is_no_worse_than_approved", scope="tasks", outcome="failed", promise="As good."
    )
    slow = sample.failed_measurement(name="text_tower: time over the reference")
    timed = sample.check(
        "throughput.forward_is_timed", case="texts", scope="throughput", outcome="failed", promise="As fast.",
        measurements=(slow,),
    )  # fmt: skip
    base = sample.failing_record()
    worst = {"class": "star", "hits": 3, "images": 11, "taken_for": "square"}
    task = dataclasses.replace(base.tasks[0], details={"worst_classes": [worst]})
    slow_timing = dataclasses.replace(base.throughput[1], details={"images_per_s": 812.5, "batch": 8})
    return sample.record(
        checks=(*base.checks, judged, timed),
        surface_changes=base.surface_changes,
        tasks=(task,),
        throughput=(base.throughput[0], slow_timing),
    )


@pytest.mark.parametrize(
    ("name", "labels", "said"),
    [
        ("hidden_states[vision-last]", "promise worst error diverges rerun", "observed 1.284071"),
        ("zero_shot_top1", "promise worst error where rerun", "star (3 of 11, most often taken for square)"),
        (sample.change().id, "promise worst error where rerun", "observed last_hidden_state, pooler_output, expected"),
        ("text_tower", "promise worst error where rerun", "1.081 (1.064 to 1.103) times as long"),
    ],
    ids=["numbers", "task", "surface", "speed"],
)
def test_each_kind_of_regression_is_a_failure_with_five_lines(name: str, labels: str, said: str) -> None:
    """A regression in numbers, in a task, in the surface or in speed is a failed case, and says what a check says."""
    failure = case(parsed(regressed()), name).find("failure")
    assert failure is not None
    assert failure.get("message")
    lines = (failure.text or "").partition("\n\n")[0]
    assert [line.split()[0] for line in lines.splitlines() if line[:1] != " "] == labels.split()
    assert said in " ".join(lines.split())


def test_without_its_check_a_regression_is_still_told() -> None:
    """A change, a score or a timing whose check is not in the record has the lines that are known."""
    failure = case(parsed(sample.failing_record()), "zero_shot_top1").find("failure")
    assert failure is not None
    assert (failure.text or "").startswith("worst     zero_shot_top1: observed 0.912 (0.883 to 0.934), expected 0.9833")


CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"testsuite", "properties", "testcase", "system-out", "system-err"},
    "testcase": {"skipped", "error", "failure", "system-out", "system-err"},
    "failure": set(),
    "error": set(),
    "skipped": set(),
    "system-out": set(),
}
REQUIRED = {"testsuite": {"name", "tests", "failures", "errors"}, "testcase": {"name"}}
ALLOWED = {
    "testsuites": {"name", "time", "tests", "failures", "errors"},
    "testsuite": {
        *("name", "tests", "failures", "errors", "group", "time", "skipped", "timestamp", "hostname", "id"),
        *("package", "file", "log", "url", "version"),
    },
    "testcase": {"name", "time", "classname", "group"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
    "skipped": {"type", "message"},
    "system-out": set(),
}
SECONDS = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]{0,3})?")


def schema_faults(element: ET.Element) -> list[str]:
    """What breaks the rules of junit-10.xsd of Jenkins' xUnit plugin, as far as they concern what is written here."""
    tag, attributes = element.tag, set(element.attrib)
    if tag not in CHILDREN:
        return [f"unknown element {tag}"]
    faults = [f"{tag} in {tag}: {child.tag}" for child in element if child.tag not in CHILDREN[tag]]
    faults += [f"{tag} has {name}" for name in attributes - ALLOWED[tag]]
    faults += [f"{tag} lacks {name}" for name in REQUIRED.get(tag, set()) - attributes]
    if tag in ("testsuites", "testsuite") and not SECONDS.fullmatch(element.get("time", "")):
        faults.append(f"time of {tag}")
    if tag in ("testsuites", "testsuite", "testcase") and (element.text or "").strip():
        faults.append(f"text in {tag}")
    return faults + [fault for child in element for fault in schema_faults(child)]


@pytest.mark.parametrize("make", [*RECORDS, regressed], ids=lambda make: make.__name__)
def test_it_keeps_to_the_common_schema(make: Callable[[], RunRecord]) -> None:
    """The file is valid under the schema that Jenkins' xUnit plugin holds files to, the strictest in common use."""
    assert schema_faults(parsed(make())) == []


@pytest.mark.parametrize(
    "broken",
    [
        '<testsuites><testsuite name="a" tests="1" failures="0"/></testsuites>',
        '<testsuites skipped="1"/>',
        '<testsuites time="1:2"/>',
        '<testcase name="a"><properties/></testcase>',
        "<testcase/>",
    ],
)
def test_what_breaks_the_schema_is_seen(broken: str) -> None:
    """The rules refuse what the schema refuses."""
    assert schema_faults(ET.fromstring(broken))


@settings(derandomize=True, deadline=None, max_examples=200)
@given(text=st.text(st.characters(exclude_categories=())))
def test_any_text_gives_valid_xml(text: str) -> None:
    """Control characters, surrogates and markup in a record never break the XML."""
    broken = sample.failed_measurement(name=text, observed=text, expected=text)
    check = sample.failed_check(case=text, promise=text, reason=text, detail=text, measurements=(broken,))
    record = sample.record(checks=(check,), surface_changes=(sample.change(before=text),))
    render_junit(record).encode("utf-8")
    parsed(record)
