"""A subject over batch sizes and text lengths: its speed, its share of the machine's ceiling, and where throughput
saturates.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clip_eval.families.roles import IMAGE_EMBEDS, TEXT_EMBEDS
from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.probes.batches import Batch
from clip_eval.subject import Subject, projected_features, transformers_release
from clip_eval.throughput.clock import clock_of
from clip_eval.throughput.memory import peak_mb
from clip_eval.throughput.paired import Turns, measure
from clip_eval.throughput.ratio import Ratio
from clip_eval.throughput.roofline import Binding, Ceilings, roof
from clip_eval.throughput.trial import Trial, make_trial, work_of
from clip_eval.verdict.compare import Expected, agrees

__all__ = ["Point", "batch_sweep", "lengths", "point", "saturated", "stays_within_budget"]

_POINT_S = 0.6  # of pairs; usually more than enough for a point of a curve
_LEAST_PAIRS = 3
_LONGEST_CALL_S = 1.5  # a batch whose call takes longer is not doubled
_GAIN = 1.05  # of throughput: the least that a doubled batch has to bring
_MOST_ROWS = {"cpu": 256, "cuda": 8192}
_LENGTHS = (8, 16, 32, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One batch of one subject.

    Attributes:
        kind: one of `clip_eval.throughput.trial.KINDS`.
        rows: of the batch.
        tokens: of a text; None for images.
        per_s: rows a second.
        latency_ms: of the batch, by "p50", "p90" and "p99".
        ratio: subject time over the plain forward's.
        share: of the ceiling that binds.
        binds: which ceiling that is.
        peak_mb: of one call, above what the process holds already; None if the system does not report it.
        pairs: how many were timed.
    """

    kind: str
    rows: int
    tokens: int | None
    per_s: float
    latency_ms: dict[str, float]
    ratio: Ratio
    share: float
    binds: Binding
    peak_mb: float | None
    pairs: int


def point(trial: Trial, subject: Subject, limits: Ceilings) -> Point:
    """Time one batch in turns with the plain forward."""
    trial.subject()
    trial.floor()
    seconds = clock_of(subject.device).seconds
    turns = Turns(trial.subject, trial.floor, seconds)
    measured = measure(turns, 10_000, longest_s=_POINT_S, least_pairs=_LEAST_PAIRS)
    median_s = statistics.median(measured.subject_s)
    reached = roof(work_of(trial.kind, subject, rows=trial.rows, tokens=trial.tokens), limits, median_s)
    return Point(
        kind=trial.kind,
        rows=trial.rows,
        tokens=None if trial.kind == "images" else trial.tokens,
        per_s=trial.rows / median_s,
        latency_ms={f"p{level}": float(np.percentile(measured.subject_s, level)) * 1000 for level in (50, 90, 99)},
        ratio=measured.ratio,
        share=reached.share,
        binds=reached.binds,
        peak_mb=peak_mb(trial.subject, subject.device),
        pairs=measured.pairs,
    )


def batch_sweep(
    kind: str, subject: Subject, batch: Batch, limits: Ceilings, *, most: int | None = None
) -> Iterator[Point]:
    """Yield points of doubled batches, until two doublings in a row gain almost nothing, or a call takes too long.

    Args:
        kind: one of `clip_eval.throughput.trial.KINDS`.
        subject: the subject.
        batch: the probe.
        limits: the machine's ceilings.
        most: rows; by default what usually fits the kind of device.
    """
    import torch

    rows, best, idle = 1, 0.0, 0
    while rows <= (most or _MOST_ROWS[subject.device.partition(":")[0]]) and idle < 2:
        try:
            result = point(make_trial(kind, subject, batch, rows=rows), subject, limits)
        except torch.OutOfMemoryError:
            return
        yield result
        idle = 0 if result.per_s > _GAIN * best else idle + 1
        best = max(best, result.per_s)
        if result.latency_ms["p50"] > 1000 * _LONGEST_CALL_S:
            return
        rows *= 2


def saturated(points: Sequence[Point]) -> Point:
    """Return the smallest batch whose throughput is within 5 % of the best: more rows only add latency."""
    best = max(point.per_s for point in points)
    return min((point for point in points if point.per_s * _GAIN >= best), key=lambda point: point.rows)


def lengths(subject: Subject, batch: Batch, limits: Ceilings, rows: int) -> Iterator[Point]:
    """Yield points of shorter texts, at one number of rows."""
    for tokens in _LENGTHS:
        if tokens < batch.input_ids.shape[1]:
            yield point(make_trial("texts", subject, batch, rows=rows, tokens=tokens), subject, limits)


def stays_within_budget(trial: Trial, oracle: Oracle) -> bool:
    """Return whether each embedding or logit of a trial's batch is within its budget of the expected value."""
    probes, texts = len(oracle.batch.pixel_values), len(oracle.batch.input_ids)
    images = [row % probes for row in range(trial.rows)]
    full = [int(oracle.batch.attention_mask.all(axis=1).argmax())] * trial.rows
    output = trial.subject()
    if trial.kind == "pairs":
        logits = oracle.forward(images=probes, texts=texts).logits_per_image
        return agrees(output.logits_per_image, _taken(logits, np.ix_(images, full)))
    tower = oracle.vision(images=probes) if trial.kind == "images" else oracle.text(texts=texts)
    rows = images if trial.kind == "images" else full
    if oracle.holds.whole:
        return agrees(projected_features(output, transformers_release()), _taken(tower.projected, rows))
    embeds = output.get(IMAGE_EMBEDS if trial.kind == "images" else TEXT_EMBEDS)
    if embeds is None:
        return agrees(output.pooler_output, _taken(tower.pooler_output, rows))
    return agrees(embeds, _taken(tower.projected, rows))


def _taken(expected: Expected, rows: Any) -> Expected:
    """The expected values of these rows, in this order."""
    return Expected(expected.value[rows], expected.bound[rows], expected.rule)
