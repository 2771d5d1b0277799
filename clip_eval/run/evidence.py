"""The evidence of one check, as properties of its pytest item: one JSON string each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NoReturn

from clip_eval.verdict.measurement import Measurement
from clip_eval.verdict.plain_values import Json, plain
from clip_eval.verdict.run_record import CheckOutcome, SurfaceChange, TaskResult, ThroughputResult

if TYPE_CHECKING:
    from clip_eval.checkpoint.checkpoint import Absence

__all__ = ["PROPERTY_PREFIX", "Evidence"]

PROPERTY_PREFIX = "clip_eval."
"""Prefix of the properties that hold evidence."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence of one check besides passing or failing; `properties` is the pytest item's list."""

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
        """Record something that a reader should know and that is not a failure."""
        self._leave("note", json.dumps(sentence))

    def reason(self, sentence: str) -> None:
        """Record why the check fails, if no measurement does."""
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

    def image(self, name: str, data: str) -> None:
        """Record a small picture, a data URI, under the name by which a report finds it."""
        self._leave("image", json.dumps([name, data]))

    def samples(self, score: str, sections: Sequence[Mapping[str, Json]]) -> None:
        """Record the samples that a report shows of a score: they join the details of its result."""
        self._leave("samples", json.dumps([score, plain(sections)]))

    def similarity(self, found: Mapping[str, Json]) -> None:
        """Record the probe's logits; see `RunRecord`."""
        self._leave("similarity", json.dumps(plain(found)))

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

    def absent(self, absence: Absence) -> NoReturn:
        """Leave the check without a part of the processor: not run where a checkpoint of its kind should have it."""
        if absence.missed:
            self.not_run(absence.reason)
        self.not_applicable(absence.reason)

    def _leave(self, kind: str, text: str) -> None:
        self.properties.append((PROPERTY_PREFIX + kind, text))

    def leave_not_run(self, reason: str, *, because: str | None = None) -> None:
        """As `not_run`, for a hook that changes the report itself."""
        self._leave_skip("not_run", reason, because)

    def leave_not_applicable(self, reason: str) -> None:
        """As `not_applicable`, for a hook that changes the report itself."""
        self._leave_skip("not_applicable", reason)

    def _leave_skip(self, outcome: CheckOutcome, reason: str, because: str | None = None) -> None:
        self._leave("skip", json.dumps({"outcome": outcome, "reason": reason, "because": because}))

    def _skip(self, outcome: CheckOutcome, reason: str, because: str | None = None) -> NoReturn:
        import pytest

        self._leave_skip(outcome, reason, because)
        pytest.skip(reason)
