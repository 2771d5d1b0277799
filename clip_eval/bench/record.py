"""What a bench run found, as plain values: what bench.json holds, and what the renderers read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from clip_eval.measurement import Json, plain
from clip_eval.speeds import Judgement, Ratio
from clip_eval.throughput.roofline import Ceilings
from clip_eval.throughput.sweep import Point, saturated

__all__ = ["SCHEMA_VERSION", "Bench", "Comparison", "Compiled", "Configuration", "Recommendation"]

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """What torch.compile brings to one tower at one batch.

    Attributes:
        kind: "images" or "texts".
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
        within_budget: tower to whether its outputs are what weights and inputs determine, within this dtype's budget.
        batches: points of either tower by batch size.
        lengths: points of the text tower by text length, at its saturated batch.
        ceilings: the machine's, in this dtype.
        joules_per_row: tower to energy at its saturated batch; empty where nothing says it.
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

    def points(self, kind: str) -> list[Point]:
        """Return the points of a tower by batch size."""
        return [point for point in self.batches if point.kind == kind]

    def best(self, kind: str) -> Point:
        """Return the batch at which a tower's throughput saturates."""
        return saturated(self.points(kind))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The configuration to run a tower in.

    Attributes:
        kind: "images" or "texts".
        configuration: its name.
        rows: of a batch.
        reasons: sentences.
    """

    kind: str
    configuration: str
    rows: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The checkpoint against the other side.

    Attributes:
        kind: "images" or "texts".
        configuration: of both sides.
        rows: of the batch.
        judgement: of the ratio; None where it broke down.
        reason: why it broke down; empty where it did not.
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
        compiled: what torch.compile brings to the recommended configuration; empty where nobody asked.
        recommendations: one a tower.
        against: the other side and what it runs in; None where there is none.
        comparisons: with the other side.
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
    notes: tuple[str, ...]

    def to_data(self) -> Json:
        """Return the record as JSON values, in the order of its fields."""
        return {"schema_version": SCHEMA_VERSION, **_ordered(asdict(self))}


def _ordered(data: dict[str, object]) -> dict[str, Json]:
    return {name: plain(value) for name, value in data.items()}
