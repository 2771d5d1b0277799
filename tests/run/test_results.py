"""Evidence and outcomes: what a check leaves behind, and what becomes of each of pytest's reports."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, Literal

import pytest

from clip_eval.run.declared_checks import Case, declared_checks
from clip_eval.run.evidence import Evidence
from clip_eval.run.results import Outcomes, name_in_suite
from clip_eval.verdict.measurement import Measurement
from clip_eval.verdict.run_record import SurfaceChange, TaskResult, ThroughputResult

Properties = list[tuple[str, object]]
CASE = Case(declared_checks()[0], "a case")
MEASUREMENT = Measurement(
    name="logits",
    error=0.5,
    bound=1.0,
    required=0.5,
    budget="a rule",
    worst_index=(0,),
    observed="1.5",
    expected="1",
    passed=True,
)
TASK = TaskResult(
    name="zero_shot_top1",
    outcome="inconclusive",
    score=math.nan,
    interval_low=0.0,
    interval_high=1.0,
    higher_is_better=True,
    count=0,
    reason="nothing was scored",
    reference=None,
)


@pytest.fixture
def properties() -> Properties:
    """An item's user properties, one of another plugin among them."""
    return [("other plugin", object())]


@pytest.fixture
def evidence(properties: Properties) -> Evidence:
    """Evidence of one check."""
    return Evidence(properties)


@pytest.fixture
def outcomes() -> Outcomes:
    """Outcomes of a run without any report yet."""
    return Outcomes(rerun=lambda function: f"rerun {function}")


def report(
    outcome: Literal["passed", "failed", "skipped"], properties: Properties, when: Any = "call", longrepr: Any = None
) -> pytest.TestReport:
    """A report as pytest makes it."""
    return pytest.TestReport(
        "test_x.py::test_y[a case]", ("test_x.py", 1, "test_y"), {}, outcome, longrepr, when,
        user_properties=properties, duration=0.25,
    )  # fmt: skip


def test_evidence_is_plain_text(evidence: Evidence, properties: Properties) -> None:
    """Everything that a check leaves is a JSON string under a name of this package: the one form that every pytest
    plugin and process boundary lets through.
    """
    evidence.measurement(MEASUREMENT)
    evidence.diverges_at("a.module")
    evidence.deviation("a-deviation")
    evidence.task(TASK)
    left = properties[1:]
    assert len(left) == 4
    for name, value in left:
        assert name.startswith("clip_eval.")
        assert type(value) is str
        json.loads(value, parse_constant=pytest.fail)


def test_a_passing_report_keeps_its_measurements(
    outcomes: Outcomes, evidence: Evidence, properties: Properties
) -> None:
    """Measurements are kept on passes too, with the time the call took."""
    evidence.measurement(MEASUREMENT)
    outcomes.add(report("passed", properties), CASE)
    result = outcomes.checks[CASE]
    assert (result.id, result.case, result.outcome) == (CASE.check.id, "a case", "passed")
    assert result.measurements == (MEASUREMENT,)
    assert result.duration_s == 0.25
    assert result.rerun is None
    assert result.detail is None


def test_a_failed_call_is_a_failed_check(outcomes: Outcomes, evidence: Evidence, properties: Properties) -> None:
    """A failed check says where it diverges, how to rerun it and what was printed."""
    evidence.diverges_at("a.module")
    outcomes.add(report("failed", properties, longrepr="five lines"), CASE)
    result = outcomes.checks[CASE]
    assert (result.outcome, result.diverges_at, result.detail) == ("failed", "a.module", "five lines")
    assert result.rerun == f"rerun {CASE.check.id.partition('.')[2]}"


@pytest.mark.parametrize("when", ["setup", "teardown", "???"])
def test_a_failure_around_the_call_is_an_error(outcomes: Outcomes, properties: Properties, when: str) -> None:
    """A fixture that breaks, and a worker that dies, are errors with the last line as reason."""
    outcomes.add(report("failed", properties, when, longrepr="a\ntraceback\nE   broken fixture\n\n"), CASE)
    assert outcomes.checks[CASE].outcome == "error"
    assert outcomes.checks[CASE].reason == "E   broken fixture"


def test_a_broken_teardown_makes_a_pass_an_error(outcomes: Outcomes, properties: Properties) -> None:
    """Phases after the call can only make it worse."""
    for phase, outcome in (("setup", "passed"), ("call", "passed"), ("teardown", "passed")):
        outcomes.add(report(outcome, properties, phase), CASE)  # type: ignore[arg-type]
    assert outcomes.checks[CASE].outcome == "passed"
    outcomes.add(report("failed", properties, "teardown", longrepr="leak"), CASE)
    assert outcomes.checks[CASE].outcome == "error"


def test_a_setup_that_passes_is_no_result(outcomes: Outcomes, properties: Properties) -> None:
    """A check whose call never came has no result: a process that dies in it leaves nothing."""
    outcomes.add(report("passed", properties, "setup"), CASE)
    assert outcomes.checks == {}


@pytest.mark.parametrize(
    ("leave", "outcome"), [(Evidence.not_run, "not_run"), (Evidence.not_applicable, "not_applicable")]
)
def test_a_check_can_say_why_it_does_not_judge(
    outcomes: Outcomes,
    evidence: Evidence,
    properties: Properties,
    leave: Callable[[Evidence, str], object],
    outcome: str,
) -> None:
    """`not_run` and `not_applicable` end the test as skipped, and the outcome is the one that was said."""
    with pytest.raises(pytest.skip.Exception):
        leave(evidence, "there is no tokenizer")
    outcomes.add(report("skipped", properties, longrepr=("file", 1, "Skipped: there is no tokenizer")), CASE)
    assert (outcomes.checks[CASE].outcome, outcomes.checks[CASE].reason) == (outcome, "there is no tokenizer")


def test_a_skip_from_outside_is_not_run(outcomes: Outcomes, properties: Properties) -> None:
    """A check that somebody else skipped was not run, never not applicable."""
    outcomes.add(report("skipped", properties, "setup", longrepr=("conftest.py", 1, "Skipped: too slow")), CASE)
    assert outcomes.checks[CASE].outcome == "not_run"
    assert outcomes.checks[CASE].reason == "skipped from outside: too slow"


def test_a_deviation_is_its_own_outcome(outcomes: Outcomes, evidence: Evidence, properties: Properties) -> None:
    """A check that asserted a deviation and held is a deviation; one that failed under it has failed."""
    evidence.deviation("a-deviation")
    outcomes.add(report("passed", properties), CASE)
    assert (outcomes.checks[CASE].outcome, outcomes.checks[CASE].deviation) == ("deviation", "a-deviation")
    outcomes.add(report("failed", properties, longrepr="stale"), CASE)
    assert (outcomes.checks[CASE].outcome, outcomes.checks[CASE].deviation) == ("failed", "a-deviation")


def test_a_collected_test_without_a_result_was_not_run(outcomes: Outcomes, properties: Properties) -> None:
    """A test that was collected is accounted for; a result that there is stays."""
    other = Case(CASE.check, "another case")
    outcomes.add(report("passed", properties), CASE)
    outcomes.not_run(CASE, "deselected")
    outcomes.not_run(other, "deselected")
    assert outcomes.checks[CASE].outcome == "passed"
    assert (outcomes.checks[other].outcome, outcomes.checks[other].reason) == ("not_run", "deselected")


def test_tasks_and_timings_travel(outcomes: Outcomes, evidence: Evidence, properties: Properties) -> None:
    """Task scores, speed ratios and surface changes arrive as they left, NaN included, once for a call."""
    change = SurfaceChange(id="a", what="b", before="c", after="d", check=CASE.check.id, accepted=None)
    timing = ThroughputResult(
        name="image_tower",
        outcome="passed",
        ratio=1.01,
        interval_low=1.0,
        interval_high=math.inf,
        reference="plain torch forward",
        unit="images/s",
        rounds=3,
        reason=None,
    )
    evidence.task(TASK)
    evidence.throughput(timing)
    evidence.surface_change(change)
    for phase in ("setup", "call", "teardown"):
        outcomes.add(report("passed", properties, phase), CASE)
    assert math.isnan(outcomes.tasks[0].score or 0.0)
    assert len(outcomes.tasks) == 1
    assert outcomes.throughput == [timing]
    assert outcomes.surface_changes == [change]


def test_a_test_of_the_suite_carries_its_name(evidence: Evidence, properties: Properties) -> None:
    """Only a test that was marked is one of the suite; any other has no name there."""
    assert name_in_suite(report("passed", properties)) is None
    evidence.in_suite("test_x.py::test_y[a case]")
    assert name_in_suite(report("passed", properties)) == "test_x.py::test_y[a case]"
