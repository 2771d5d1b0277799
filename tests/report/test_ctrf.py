"""CTRF JSON: what its schema asks for, and the same cases as junit.xml."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from support import sample_records as sample

from clip_eval.errors import UsageError
from clip_eval.report import render_ctrf, render_junit
from clip_eval.verdict.run_record import RunRecord

TEXT, COUNT = {"type": "string"}, {"type": "integer"}


def only(required: str, **properties: Any) -> dict[str, Any]:
    """An object with these properties and no others."""
    return {
        "type": "object",
        "required": required.split(),
        "properties": properties,
        "additionalProperties": False,
    }


SCHEMA = only(
    "results reportFormat specVersion",
    reportFormat={"const": "CTRF"},
    specVersion={"type": "string", "pattern": r"^[0-9]+\.[0-9]+\.[0-9]+$"},
    timestamp={"type": "string", "format": "date-time"},
    generatedBy=TEXT,
    results=only(
        "tool summary tests",
        tool=only("name", name={"type": "string", "minLength": 1}, version=TEXT),
        summary=only(
            "tests passed failed skipped pending other start stop",
            **dict.fromkeys(
                ("tests", "passed", "failed", "skipped", "pending", "other", "suites", "start", "stop"), COUNT
            ),
        ),
        tests={
            "type": "array",
            "items": only(
                "name status duration",
                name={"type": "string", "minLength": 1},
                status={"enum": ["passed", "failed", "skipped", "pending", "other"]},
                duration=COUNT,
                suite={"type": "array", "minItems": 1, "items": TEXT},
                message=TEXT,
                trace=TEXT,
                rawStatus=TEXT,
                extra={"type": "object"},
            ),
        },
        environment=only(
            "", appName=TEXT, appVersion=TEXT, commit=TEXT, osPlatform=TEXT, healthy={"type": "boolean"},
            extra={"type": "object"},
        ),
    ),
)  # fmt: skip
"""What the schema of https://ctrf.io says of the fields that are written here; it allows no others."""

RECORDS = [sample.passing_record, sample.failing_record, sample.inconclusive_record]


@pytest.mark.parametrize("make", RECORDS, ids=lambda make: make.__name__)
def test_it_keeps_to_the_schema(make: Callable[[], RunRecord]) -> None:
    """Every field is one of the format, of its type."""
    report = json.loads(render_ctrf(make()))
    assert [error.message for error in Draft7Validator(SCHEMA).iter_errors(report)] == []


def test_what_breaks_the_schema_is_seen() -> None:
    """A field that the format does not know is an error."""
    report = json.loads(render_ctrf(sample.passing_record()))
    report["results"]["tests"][0]["verdict"] = "pass"
    assert not Draft7Validator(SCHEMA).is_valid(report)


@pytest.mark.parametrize("make", RECORDS, ids=lambda make: make.__name__)
def test_it_has_the_cases_of_junit(make: Callable[[], RunRecord]) -> None:
    """The same cases by suite and name, failed where JUnit has a failure or an error; the counts are right."""
    record = make()
    results = json.loads(render_ctrf(record))["results"]
    junit = ET.fromstring(render_junit(record))
    red = ("failure", "error")
    theirs = [
        (suite.get("name"), case.get("name"), any(case.find(tag) is not None for tag in red))
        for suite in junit
        for case in suite
    ]
    assert [(test["suite"][0], test["name"], test["status"] == "failed") for test in results["tests"]] == theirs
    counts = Counter(test["status"] for test in results["tests"])
    assert {key: results["summary"][key] for key in counts} == dict(counts)
    assert results["summary"]["tests"] == len(theirs)
    assert results["summary"]["stop"] - results["summary"]["start"] == round(record.duration_s * 1000)


def test_an_inconclusive_run_is_not_green() -> None:
    """The verdict is a failed test with its headline, and the environment is not healthy."""
    record = sample.inconclusive_record()
    results = json.loads(render_ctrf(record))["results"]
    verdict = results["tests"][0]
    assert (verdict["status"], verdict["rawStatus"], verdict["message"]) == ("failed", "inconclusive", record.headline)
    assert results["environment"]["healthy"] is False


TIMES = ["2025-06-03T14:07:21.5Z", "2025-06-03T14:07:21+00:00", "2025-06-03T16:07:21+02:00"]


@pytest.mark.parametrize("started", TIMES)
def test_times_are_milliseconds_since_1970(started: str) -> None:
    """Every way that a record may write its start is read."""
    record = dataclasses.replace(sample.passing_record(), started=started)
    assert json.loads(render_ctrf(record))["results"]["summary"]["start"] == 1748959641000


def test_an_impossible_time_is_a_usage_error() -> None:
    """A month 13 is one paragraph, not a traceback."""
    record = dataclasses.replace(sample.passing_record(), started="2025-13-03T14:07:21Z")
    with pytest.raises(UsageError, match="no valid time"):
        render_ctrf(record)


@given(text=st.text(st.characters(exclude_categories=())))
def test_any_text_is_json_in_utf8(text: str) -> None:
    """Control characters, lone surrogates and markup in a record never break the file."""
    check = sample.failed_check(case=text, promise=text, reason=text, detail=text)
    written = render_ctrf(sample.record(checks=(check,), surface_changes=(sample.change(id=text, before=text),)))
    json.loads(written.encode("utf-8"))
