"""The results of a bench run as plain values, for bench.json and the renderers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from clip_eval.throughput.ratio import Judgement, Ratio
from clip_eval.throughput.roofline import Ceilings
from clip_eval.throughput.sweep import Point, saturated
from clip_eval.verdict.plain_values import Json, plain

__all__ = ["SCHEMA_VERSION", "AtOnce", "Bench", "Comparison", "Compiled", "Configuration", "Recommendation"]

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """The effect of torch.compile on one batch.

    Attributes:
        kind: one of `clip_eval.throughput.trial.KINDS`.
        rows: of the batch.
        compile_s: seconds of the first call, which compiles.
        ratio: compiled over plain time, timed in turns.
        break_even: rows after which compiling has paid; None where it does not pay.
        within_budget: whether its outputs are still what weights and inputs determine.
    """

    kind: str
    rows: int
    compile_s: float
    ratio: Ratio
    break_even: int | None
    within_budget: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One way to load the checkpoint, and how fast it is.

    Attributes:
        dtype: of weights and activations.
        attention: the implementation really used.
        within_budget: kind to whether its outputs are what weights and inputs determine, within this dtype's budget.
        batches: points of images, texts and pairs by batch size.
        lengths: points of texts by their length, at its saturated batch.
        ceilings: the machine's, in this dtype.
        joules_per_row: kind to energy at its saturated batch; empty if it cannot be read.
    """

    dtype: str
    attention: str
    within_budget: Mapping[str, bool]
    batches: tuple[Point, ...]
    lengths: tuple[Point, ...]
    ceilings: Ceilings
    joules_per_row: Mapping[str, float]

    @property
    def name(self) -> str:
        """Such as "bfloat16 sdpa"."""
        return f"{self.dtype} {self.attention}"

    @property
    def kinds(self) -> tuple[str, ...]:
        """What was computed: images, texts and pairs, or of a tower alone the one of them."""
        return tuple(self.within_budget)

    def points(self, kind: str) -> list[Point]:
        """Return the points of a kind by batch size."""
        return [point for point in self.batches if point.kind == kind]

    def best(self, kind: str) -> Point:
        """Return the batch at which the throughput of a kind saturates."""
        return saturated(self.points(kind))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The configuration in which to compute images, texts or pairs.

    Attributes:
        kind: one of `clip_eval.throughput.trial.KINDS`.
        configuration: its name.
        rows: of a batch.
        reasons: sentences.
    """

    kind: str
    configuration: str
    rows: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AtOnce:
    """Several devices that compute at the same time, one worker process each, none waiting for another.

    Attributes:
        kind: one of `clip_eval.throughput.trial.KINDS`.
        configuration: of every worker.
        rows: of the batch of each.
        devices: one a worker.
        alone_per_s: rows a second of each while the others wait.
        per_s: rows a second of each while all compute; both empty if it failed.
        reason: why it failed; empty if it did not.
    """

    kind: str
    configuration: str
    rows: int
    devices: tuple[str, ...]
    alone_per_s: tuple[float, ...]
    per_s: tuple[float, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The checkpoint against the other side.

    Attributes:
        kind: one of `clip_eval.throughput.trial.KINDS`.
        configuration: of both sides.
        rows: of the batch.
        judgement: of the ratio; None if it failed.
        reason: why it failed; empty if it did not.
    """

    kind: str
    configuration: str
    rows: int
    judgement: Judgement | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One bench run.

    Attributes:
        started: ISO 8601 with a time zone.
        duration_s: seconds.
        arguments: every option.
        provenance: versions, machine, threads, clock.
        source: the checkpoint.
        configurations: all that were tried.
        compiled: what torch.compile brings to the recommended configuration; empty if not asked for.
        recommendations: one a kind.
        against: the other side and what it runs in; None where there is none.
        comparisons: with the other side.
        at_once: the recommended configurations on all devices at once; empty where only one was named.
        notes: what was not done, and why.
    """

    started: str
    duration_s: float
    arguments: Json
    provenance: Mapping[str, Json]
    source: str
    configurations: tuple[Configuration, ...]
    compiled: tuple[Compiled, ...]
    recommendations: tuple[Recommendation, ...]
    against: str | None
    comparisons: tuple[Comparison, ...]
    at_once: tuple[AtOnce, ...]
    notes: tuple[str, ...]

    def to_data(self) -> Json:
        """Return the record as JSON values, in the order of its fields."""
        return {"schema_version": SCHEMA_VERSION, **_ordered(asdict(self))}


def _ordered(data: dict[str, object]) -> dict[str, Json]:
    return {name: plain(value) for name, value in data.items()}
