"""The run record is complete, deterministic, validated, and read back as it was written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from support import sample_records as sample

from clip_eval.errors import UsageError
from clip_eval.verdict.measurement import Measurement
from clip_eval.verdict.policy_info import PolicyInfo
from clip_eval.verdict.run_record import (
    PROVENANCE_KEYS,
    SCOPES,
    CheckResult,
    RunRecord,
    ScopeEntry,
    SubjectInfo,
    SurfaceChange,
    TaskResult,
    ThroughputResult,
    dump,
    load,
)

SCHEMA = json.loads((files("clip_eval.verdict") / "run_record.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("make", [sample.passing_record, sample.inconclusive_record], ids=lambda make: make.__name__)
def test_round_trip(make: Callable[[], RunRecord]) -> None:
    """A record comes back equal from its text."""
    assert load(dump(make())) == make()


def test_round_trip_of_nan() -> None:
    """A record with a NaN in it comes back with the same text, since NaN equals nothing."""
    text = dump(sample.failing_record())
    assert '"error": "nan"' in text
    assert dump(load(text)) == text


def test_text_is_deterministic() -> None:
    """The order in which a mapping was filled does not change the text, which ends in one newline."""
    made = sample.passing_record()
    turned = dataclasses.replace(made, provenance=dict(reversed(made.provenance.items())))
    assert dump(turned) == dump(made)
    assert dump(made).endswith("}\n")


def test_schema_is_draft_2020_12() -> None:
    """The shipped schema is a valid schema of the draft it names."""
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(SCHEMA)


ADDED: dict[type, set[str]] = {
    SubjectInfo: {"surface"},
    SurfaceChange: {"cause", "warned"},
    TaskResult: {"policy"},
    RunRecord: {"images", "policy", "similarity"},
}
"""Fields that came after the first records of schema version 1, and are None, false or empty in those."""


@pytest.mark.parametrize(
    ("kind", "definition"),
    [
        (RunRecord, SCHEMA),
        (CheckResult, SCHEMA["$defs"]["check"]),
        (Measurement, SCHEMA["$defs"]["measurement"]),
        (PolicyInfo, SCHEMA["$defs"]["policy"]),
        (ScopeEntry, SCHEMA["$defs"]["scope_entry"]),
        (SubjectInfo, SCHEMA["$defs"]["subject"]),
        (SurfaceChange, SCHEMA["$defs"]["surface_change"]),
        (TaskResult, SCHEMA["$defs"]["task"]),
        (ThroughputResult, SCHEMA["$defs"]["throughput"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_schema_and_dataclasses_agree(kind: type, definition: dict[str, Any]) -> None:
    """Every field is in the schema and required, but for those that records of before do not have; nothing else is
    allowed.
    """
    names = {field.name for field in dataclasses.fields(kind)}
    assert set(definition["properties"]) == names
    assert set(definition["required"]) == names - ADDED.get(kind, set())
    assert definition["additionalProperties"] is False


def test_schema_and_constants_agree() -> None:
    """Required provenance and the order of the scopes are the same in Python and in the schema."""
    assert tuple(SCHEMA["properties"]["provenance"]["required"]) == PROVENANCE_KEYS
    names = [entry["properties"]["name"]["const"] for entry in SCHEMA["properties"]["scope"]["prefixItems"]]
    assert tuple(names) == SCOPES


PICTURE = "data:image/jpeg;base64,AAAA"
SIMILARITY = {"images": ["a"], "texts": ["b"], "observed": [[1.5]], "expected": [["nan"]]}


def test_pictures_come_back() -> None:
    """Small pictures and the similarities of the probe are read as they were written, and may be absent."""
    made = dataclasses.replace(sample.passing_record(), images={"a": PICTURE}, similarity=SIMILARITY)
    assert load(dump(made)) == made
    data = json.loads(dump(made))
    old = load(json.dumps({key: value for key, value in data.items() if key not in ("images", "similarity")}))
    assert (old.images, old.similarity) == ({}, None)


def _edited(edit: Callable[[dict[str, Any]], object]) -> str:
    data = json.loads(dump(sample.passing_record()))
    edit(data)
    return json.dumps(data)


def test_refuses_a_newer_schema() -> None:
    """A newer schema is refused in one paragraph that names both versions and the file."""
    text = _edited(lambda data: data.update(schema_version=2, verdict="maybe"))
    with pytest.raises(UsageError) as caught:
        load(text, where="old/run.json")
    assert "schema_version 2" in str(caught.value)
    assert "old/run.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "place"),
    [
        (lambda data: data.pop("verdict"), "the top level: 'verdict'"),
        (lambda data: data.update(verdict="maybe"), "at verdict"),
        (lambda data: data.update(schema_version=0), "at schema_version"),
        (lambda data: data.update(started="yesterday"), "at started"),
        (lambda data: data.update(reasons=[]), "at reasons"),
        (lambda data: data.update(surprise=1), "surprise"),
        (lambda data: data["scope"].pop(), "at scope"),
        (lambda data: data["scope"].reverse(), r"at scope\[[0-3]\].name"),
        (lambda data: data["checks"][3].update(outcome="skipped"), r"at checks\[3\].outcome: 'skipped'"),
        (lambda data: data["checks"][1]["measurements"][0].update(error="big"), r"checks\[1\].measurements\[0\].error"),
        (lambda data: data["provenance"].pop("torch"), "at provenance: 'torch'"),
        (lambda data: data["candidate"]["fingerprints"].pop("weights"), "at candidate.fingerprints"),
        (lambda data: data["tasks"][0].update(score=True), r"at tasks\[0\].score"),
        (lambda data: data.update(images={"a": "https://example.org/a.png"}), "at images.a"),
        (lambda data: data.update(images={"a": 'data:image/svg+xml,<svg onload="x">'}), "at images.a"),
        (lambda data: data.update(similarity={"images": []}), "at similarity"),
    ],
)
def test_refuses_an_invalid_record(edit: Callable[[dict[str, Any]], object], place: str) -> None:
    """A record that breaks the schema is refused with the place of the breach."""
    with pytest.raises(UsageError, match=place):
        load(_edited(edit))


@pytest.mark.parametrize("text", ["", "{", "[1, 2", '{"schema_version": NaN}', "[" * 100_000])
def test_refuses_text_that_is_no_json(text: str) -> None:
    """Text that is no JSON is refused without a traceback of the parser."""
    with pytest.raises(UsageError, match=r"the run record is (not JSON|nested)"):
        load(text)


@pytest.mark.parametrize("text", ["[]", "null", "3", '"pass"'])
def test_refuses_json_that_is_no_object(text: str) -> None:
    """JSON of another kind is refused at the top level."""
    with pytest.raises(UsageError, match="the top level"):
        load(text)


def test_refuses_a_contradiction() -> None:
    """A measurement that was edited to pass outside its bound is refused."""
    text = _edited(lambda data: data["checks"][4]["measurements"][0].update(error=1.0))
    with pytest.raises(UsageError, match="contradicts itself"):
        load(text)


def test_dump_refuses_an_incomplete_record() -> None:
    """A record without its provenance is not written."""
    with pytest.raises(ValueError, match="at provenance"):
        dump(dataclasses.replace(sample.passing_record(), provenance={}))


def test_dump_unwraps_numpy() -> None:
    """NumPy scalars in details and scores are written as numbers."""
    scored = sample.task(score=np.float32(0.5), details={"classes": np.int64(48), "worst": np.float32("inf")})
    data = json.loads(dump(sample.record(tasks=(scored,))))
    assert data["tasks"][0]["score"] == 0.5
    assert data["tasks"][0]["details"] == {"classes": 48, "worst": "inf"}


@pytest.mark.parametrize(
    "make",
    [
        lambda: sample.check(outcome="skipped"),
        lambda: sample.check(scope="speed"),
        lambda: sample.task(outcome="error"),
        lambda: sample.timing(outcome="slow"),
        lambda: ScopeEntry(name="contract", status="maybe", reason=None),  # type: ignore[arg-type]
        lambda: ScopeEntry(name="speed", status="judged", reason=None),  # type: ignore[arg-type]
        lambda: dataclasses.replace(sample.passing_record(), verdict="ok"),  # type: ignore[arg-type]
    ],
)
def test_unknown_words_are_refused(make: Callable[[], object]) -> None:
    """An outcome, scope, status or verdict outside its list cannot be made."""
    with pytest.raises(ValueError, match="is one of"):
        make()


def test_check_name_has_the_case() -> None:
    """A check's name is its id and, where it has one, its case."""
    assert sample.check("a.b").name == "a.b"
    assert sample.check("a.b", case="text").name == "a.b[text]"
