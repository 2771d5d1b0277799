"""What is timed: the embeddings of one batch, by the subject and by the floor, on the very same tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from clip_eval.measurement import Json
from clip_eval.probes import Batch
from clip_eval.run_record import ThroughputResult
from clip_eval.subject import Subject
from clip_eval.throughput.floor import Floor
from clip_eval.throughput.paired import CONFIDENCE, PairedRatio
from clip_eval.throughput.roofline import image_operations, text_operations

__all__ = ["Trial", "image_trial", "text_trial", "throughput_result"]

_WORK = {"cpu": 10e9, "cuda": 2e12}  # operations of a batch: one ViT-B/32 image on a CPU, some 10 ms of a large GPU
_MOST_ROWS = {"cpu": 16, "cuda": 256}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One batch to embed.

    Attributes:
        kind: "images" or "texts".
        rows: of the batch.
        operations: floating-point operations of one row, counted from the config.
        subject: embeds the batch with the subject.
        floor: embeds it with the floor.
    """

    kind: str
    rows: int
    operations: int
    subject: Callable[[], object]
    floor: Callable[[], object]


def image_trial(subject: Subject, batch: Batch) -> Trial:
    """Return the trial of the vision tower: the probe's images, repeated to a batch of fit size."""
    operations = image_operations(subject.checkpoint.config)
    rows = _rows(subject, operations)
    pixels = np.resize(batch.pixel_values, (rows, *batch.pixel_values.shape[1:]))  # (rows, channels, height, width)
    inputs = subject.tensors({"pixel_values": pixels})
    return Trial(
        kind="images",
        rows=rows,
        operations=operations,
        subject=subject.prepared("CLIPModel", inputs, method="get_image_features"),
        floor=partial(_floor(subject).image_features, inputs["pixel_values"]),
    )


def text_trial(subject: Subject, batch: Batch) -> Trial:
    """Return the trial of the text tower: the probe's text that fills every position, repeated to a batch of fit size.

    The subject gets its attention mask, which hides nothing, as a processor would give it.
    """
    full = batch.input_ids[batch.attention_mask.all(axis=1)][:1]  # (1, tokens)
    operations = text_operations(subject.checkpoint.config, full.shape[1])
    rows = _rows(subject, operations)
    ids = np.repeat(full, rows, axis=0)  # (rows, tokens)
    inputs = subject.tensors({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    return Trial(
        kind="texts",
        rows=rows,
        operations=operations,
        subject=subject.prepared("CLIPModel", inputs, method="get_text_features"),
        floor=partial(_floor(subject).text_features, inputs["input_ids"]),
    )


def throughput_result(trial: Trial, found: PairedRatio, *, product_rate: float, reason: str) -> ThroughputResult:
    """Return the result that a run record holds; undecided, since nothing here says which ratio is good enough.

    Args:
        trial: what was timed.
        found: what came out.
        product_rate: the machine's own ceiling, operations a second of a matrix product in the subject's dtype.
        reason: why the ratio was not judged.
    """
    speed, floor_speed = (trial.rows / seconds for seconds in (found.subject_s, found.floor_s))
    details: dict[str, Json] = {
        f"{trial.kind}_per_s": speed,
        f"floor_{trial.kind}_per_s": floor_speed,
        "efficiency": 1 / found.ratio,
        "batch": trial.rows,
        "gflop_per_row": trial.operations / 1e9,
        "product_gflop_per_s": product_rate / 1e9,
        "share_of_products": speed * trial.operations / product_rate,
        "threads": torch.get_num_threads(),
        "confidence": CONFIDENCE,
    }
    return ThroughputResult(
        name=f"{trial.kind.removesuffix('s')}_embeddings",
        outcome="inconclusive",
        ratio=found.ratio,
        interval_low=found.low,
        interval_high=found.high,
        reference="plain torch forward",
        unit=f"{trial.kind}/s",
        rounds=found.pairs,
        reason=reason,
        details=details,
    )


def _floor(subject: Subject) -> Floor:
    return Floor(subject.weights("CLIPModel"), subject.checkpoint.config)


def _rows(subject: Subject, operations: int) -> int:
    kind = subject.device.partition(":")[0]
    return max(1, min(_MOST_ROWS[kind], round(_WORK[kind] / operations)))
