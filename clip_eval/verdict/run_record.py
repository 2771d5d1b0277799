"""The run record: one gate run, complete, as plain values. `run.json` is its text, with a JSON Schema in the package.

A record holds what happened and what was decided. It decides nothing and needs neither torch nor NumPy, so a report can
be rendered on a machine without them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

from clip_eval.errors import UsageError
from clip_eval.files.untrusted import complaint, parse_json
from clip_eval.verdict.measurement import Measurement
from clip_eval.verdict.plain_values import Json, encoded, plain, with_floats
from clip_eval.verdict.policy_info import PolicyInfo
from clip_eval.verdict.schema import fault

__all__ = [
    "PROVENANCE_KEYS",
    "SCHEMA_VERSION",
    "SCOPES",
    "CheckOutcome",
    "CheckResult",
    "RunRecord",
    "Scope",
    "ScopeEntry",
    "ScopeStatus",
    "SubjectInfo",
    "SurfaceChange",
    "TaskResult",
    "ThroughputResult",
    "TrialOutcome",
    "Verdict",
    "dump",
    "load",
]

CheckOutcome = Literal["passed", "failed", "warned", "error", "not_run", "not_applicable", "deviation"]
Scope = Literal["contract", "baseline", "tasks", "throughput"]
ScopeStatus = Literal["judged", "not_asked", "could_not"]
TrialOutcome = Literal["passed", "failed", "warned", "inconclusive", "not_asked"]
Verdict = Literal["pass", "fail", "inconclusive"]

SCHEMA_VERSION = 1
SCOPES: tuple[Scope, ...] = get_args(Scope)

# null if there is none (gpu, git_revision), but always present
PROVENANCE_KEYS = (
    "clip_eval",
    "cpu",
    "git_revision",
    "gpu",
    "pillow",
    "platform",
    "python",
    "seed",
    "tf32",
    "threads",
    "tokenizers",
    "torch",
    "transformers",
)

_AS_WRITTEN = "Use the run.json as the gate wrote it"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectInfo:
    """One checkpoint as it was loaded.

    Args:
        source: the path or hub id the user named.
        revision: the hub revision or the pack's own; None for a plain directory.
        fingerprints: of weights, config, tokenizer, image_processor; None for a part the checkpoint lacks.
        dtype: float32, bfloat16 or float16; None where the checkpoint was never loaded.
        device: such as cpu or cuda:0; None where the checkpoint was never loaded.
        attention: the attention implementation; None where the checkpoint was never loaded.
        surface: of a pack, the environment whose surface was compared, such as "transformers 5.23.0 with sdpa
            attention"; None for a candidate, and in records of before.
    """

    source: str
    revision: str | None
    fingerprints: Mapping[str, str | None]
    dtype: str | None
    device: str | None
    attention: str | None
    surface: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check on one case.

    Args:
        id: `chapter.name`, without the case.
        chapter: the chapter of the contract the check belongs to.
        promise: the property that the check asserts.
        case: the parametrisation; None for a check without one.
        outcome: "warned" failed, and blocks nothing by a policy.
        scope: the scope it counts for.
        reason: why it failed, was not run or does not apply, one sentence; None where the measurements say it.
        because: name of the check whose failure may be the cause of this failure, or is why this one was not run.
        measurements: all of them, in the order they were taken.
        diverges_at: path of the first module that diverges from the oracle; None where unknown or meaningless.
        deviation: id of the declared deviation that was asserted instead of the contract.
        rerun: the command that runs this check alone.
        duration_s: seconds, its fixtures not counted.
        detail: traceback or assertion text of a failed check or an error.
    """

    id: str
    chapter: str
    promise: str
    case: str | None
    outcome: CheckOutcome
    scope: Scope
    reason: str | None
    measurements: tuple[Measurement, ...]
    diverges_at: str | None
    deviation: str | None
    rerun: str | None
    duration_s: float
    detail: str | None
    because: str | None = None

    def __post_init__(self) -> None:
        _one_of(self.outcome, get_args(CheckOutcome), "outcome")
        _one_of(self.scope, SCOPES, "scope")

    @property
    def name(self) -> str:
        """`chapter.name[case]`, unique within a run."""
        return self.id if self.case is None else f"{self.id}[{self.case}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceChange:
    """One difference of the observable surface against the baseline pack.

    Args:
        id: what an acceptance names.
        what: what changed, such as "fields of CLIPOutput".
        before: its value in the pack.
        after: its value now.
        check: id of the check that saw it.
        accepted: the reason of the acceptance that excuses it; None without one.
        cause: id of the declared cause that it follows from; None without one.
        warned: whether it is accepted by a policy that only warns of it, not by a review.
    """

    id: str
    what: str
    before: str
    after: str
    check: str
    accepted: str | None
    cause: str | None = None
    warned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """One task score with its interval.

    Args:
        name: the task's name, such as zero_shot_top1.
        outcome: the judgement against the reference.
        score: the score; None where the task did not run.
        interval_low: lower end of the score's interval.
        interval_high: upper end of the score's interval.
        higher_is_better: direction of the score.
        count: samples that were scored; None where the task did not run.
        reason: one sentence behind the outcome.
        reference: the baseline's score; None without a baseline.
        details: plain JSON values; non-finite floats in it become strings.
        policy: the judgement by a policy's thresholds alone; None without any.
    """

    name: str
    outcome: TrialOutcome
    score: float | None
    interval_low: float | None
    interval_high: float | None
    higher_is_better: bool
    count: int | None
    reason: str | None
    reference: float | None
    details: Mapping[str, Json] = field(default_factory=dict)
    policy: TrialOutcome | None = None

    def __post_init__(self) -> None:
        _one_of(self.outcome, get_args(TrialOutcome), "outcome")
        object.__setattr__(self, "details", plain(self.details))


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputResult:
    """One paired speed ratio.

    Args:
        name: what was timed, such as image_tower.
        outcome: the judgement of the ratio against its margin.
        ratio: the subject's time over the reference's: above 1 is slower. None where nothing was timed.
        interval_low: lower end of the ratio's interval.
        interval_high: upper end of the ratio's interval.
        reference: what the subject was timed against, such as "plain torch forward".
        unit: unit of the speeds in `details`, such as images/s.
        rounds: interleaved rounds; None where nothing was timed.
        reason: one sentence behind the outcome.
        details: plain JSON values; non-finite floats in it become strings.
    """

    name: str
    outcome: TrialOutcome
    ratio: float | None
    interval_low: float | None
    interval_high: float | None
    reference: str | None
    unit: str | None
    rounds: int | None
    reason: str | None
    details: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _one_of(self.outcome, get_args(TrialOutcome), "outcome")
        object.__setattr__(self, "details", plain(self.details))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeEntry:
    """Whether one scope was judged.

    Args:
        name: the scope.
        status: judged, not_asked or could_not.
        reason: the result, or why it could not be judged; None if not asked.
    """

    name: Scope
    status: ScopeStatus
    reason: str | None

    def __post_init__(self) -> None:
        _one_of(self.name, SCOPES, "name")
        _one_of(self.status, get_args(ScopeStatus), "status")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run. Renderers keep the order of `checks`: give it the order of the declared checks.

    Args:
        schema_version: the form of `run.json`.
        started: ISO 8601 with a time zone.
        duration_s: seconds from start to verdict.
        arguments: every option of the run with its value, so that it can be repeated.
        verdict: pass, fail or inconclusive.
        headline: the verdict in one line, with its scope.
        reasons: sentences behind the verdict, the most important first.
        scope: one entry for each of SCOPES, in that order.
        provenance: PROVENANCE_KEYS at least.
        candidate: the subject under test.
        baseline: what the pack approved; None without one.
        checks: all results, including checks that were not run.
        surface_changes: including accepted ones.
        tasks: task scores.
        throughput: speed ratios.
        notes: what only warns, then facts about the candidate that are not failures, a sentence each.
        images: small pictures as data URIs, by the names that `similarity` and the details of tasks use.
        similarity: of the probe: names of `images`, `texts`, logits `observed` and `expected`, (images, texts).
        policy: None without one.
    """

    schema_version: int = SCHEMA_VERSION
    started: str
    duration_s: float
    arguments: Mapping[str, Json]
    verdict: Verdict
    headline: str
    reasons: tuple[str, ...]
    scope: tuple[ScopeEntry, ...]
    provenance: Mapping[str, Json]
    candidate: SubjectInfo
    baseline: SubjectInfo | None
    checks: tuple[CheckResult, ...]
    surface_changes: tuple[SurfaceChange, ...]
    tasks: tuple[TaskResult, ...]
    throughput: tuple[ThroughputResult, ...]
    notes: tuple[str, ...] = ()
    images: Mapping[str, str] = field(default_factory=dict)
    similarity: Mapping[str, Json] | None = None
    policy: PolicyInfo | None = None

    def __post_init__(self) -> None:
        _one_of(self.verdict, get_args(Verdict), "verdict")
        for name in ("arguments", "provenance", "images", "similarity"):
            object.__setattr__(self, name, plain(getattr(self, name)))


def dump(record: RunRecord) -> str:
    """The text of `run.json`: the same record always gives the same text.

    Raises:
        ValueError: the record breaks the schema; the message names the place.
        TypeError: a field holds a value that is not plain.
    """
    data = encoded(record)
    fault = _fault(data)
    if fault is not None:
        raise ValueError(f"the run record breaks its schema at {fault}")
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def load(text: str, *, where: object = "run.json") -> RunRecord:
    """The record behind the text of a `run.json`.

    Args:
        text: what `dump` wrote.
        where: the file it came from, for messages.

    Raises:
        UsageError: the text is not JSON, comes from a newer schema, or breaks the schema; the message names the place.
    """
    data = _parse(text, where=where)
    _refuse_newer(data, where=where)
    fault = _fault(data)
    if fault is not None:
        raise UsageError(f"the run record is invalid at {fault}", where=where, fix=_AS_WRITTEN)
    try:
        return _record(data)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the run record contradicts itself ({error})", where=where, fix=_AS_WRITTEN) from error


def _one_of(value: str, allowed: Sequence[str], name: str) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is one of {', '.join(allowed)}, not {value!r}")


def _fault(data: object) -> str | None:
    return fault(data, package="clip_eval.verdict", schema="run_record.schema.json")


def _parse(text: str, *, where: object) -> Any:
    try:
        return parse_json(text, own=True)
    except ValueError as error:
        raise UsageError(f"the run record {complaint(error, 'JSON')}", where=where, fix=_AS_WRITTEN) from error


def _refuse_newer(data: object, *, where: object) -> None:
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UsageError(
            f"the run record has schema_version {version} and this clip-eval reads up to {SCHEMA_VERSION}",
            where=where,
            fix="Install the clip-eval release that wrote it, or a newer one",
        )


def _record(data: dict[str, Any]) -> RunRecord:
    baseline, policy = data["baseline"], data.get("policy")
    parts = {
        "reasons": tuple(data["reasons"]),
        "notes": tuple(data["notes"]),
        "scope": _each(data["scope"], lambda item: ScopeEntry(**item)),
        "candidate": SubjectInfo(**data["candidate"]),
        "baseline": None if baseline is None else SubjectInfo(**baseline),
        "policy": None if policy is None else PolicyInfo(**policy),
        "checks": _each(data["checks"], _check),
        "surface_changes": _each(data["surface_changes"], lambda item: SurfaceChange(**item)),
        "tasks": _each(data["tasks"], lambda item: TaskResult(**with_floats(item, _TASK_FLOATS))),
        "throughput": _each(data["throughput"], lambda item: ThroughputResult(**with_floats(item, _THROUGHPUT_FLOATS))),
    }
    return RunRecord(**{**data, **parts})


def _check(data: dict[str, Any]) -> CheckResult:
    return CheckResult(**{**data, "measurements": _each(data["measurements"], Measurement.from_data)})


def _each(items: Sequence[Any], build: Callable[[Any], _T]) -> tuple[_T, ...]:
    return tuple(build(item) for item in items)


_TASK_FLOATS = ("score", "interval_low", "interval_high", "reference")
_THROUGHPUT_FLOATS = ("ratio", "interval_low", "interval_high")
