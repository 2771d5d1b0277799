"""What is timed: one batch, by the subject and by the plain forward, on the same tensors."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_eval.families import roles
from clip_eval.families.family import PlainForward
from clip_eval.families.holding import Holding
from clip_eval.families.roles import IMAGE_FEATURES, TEXT_FEATURES
from clip_eval.probes.batches import Batch
from clip_eval.subject import Subject
from clip_eval.throughput.cuda import is_launch_bound, replayed
from clip_eval.throughput.paired import CONFIDENCE, Paired
from clip_eval.throughput.ratio import Judgement
from clip_eval.throughput.roofline import Work, work
from clip_eval.verdict.plain_values import Json
from clip_eval.verdict.run_record import ThroughputResult

__all__ = [
    "KINDS",
    "Trial",
    "full_texts",
    "kinds_of",
    "make_trial",
    "repeated_images",
    "throughput_result",
    "untimed",
    "work_of",
]

KINDS: Mapping[str, str] = {"images": "image_embeddings", "texts": "text_embeddings", "pairs": "logits"}
"""What is computed, to the name of the timing: one tower's embeddings, or images and texts through the whole model.

A tower without its projection computes pooled states instead.
"""

_WORK = {"cpu": 10e9, "cuda": 2e12}  # operations of a batch: one ViT-B/32 image on a CPU, about 10 ms of a large GPU
_MOST_PAIRS = 200  # that a record shows
_MOST_ROWS = {"cpu": 16, "cuda": 256}


def kinds_of(holding: Holding) -> tuple[str, ...]:
    """Return those of `KINDS` that what a checkpoint holds can compute."""
    alone = (*(("images",) if holding.images else ()), *(("texts",) if holding.texts else ()))
    return tuple(KINDS) if holding.whole else alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One batch to compute.

    Attributes:
        kind: one of `KINDS`.
        rows: of the batch.
        tokens: of a text.
        operations: floating-point operations of one row, counted from the config.
        inputs: by keyword, as the subject gets them.
        subject: computes the batch with the subject.
        floor: computes it with the plain forward.
    """

    kind: str
    rows: int
    tokens: int
    operations: int
    inputs: Mapping[str, NDArray[Any]]
    subject: Callable[[], Any]
    floor: Callable[[], Any]

    @property
    def name(self) -> str:
        """The name of the timing."""
        return KINDS[self.kind]


def make_trial(
    kind: str,
    subject: Subject,
    batch: Batch,
    *,
    rows: int | None = None,
    tokens: int | None = None,
    through: Callable[[Any], Any] | None = None,
) -> Trial:
    """Return a trial on the probe's images, and its text that fills every position, repeated to the number of rows.

    The subject gets texts with their attention mask, all ones, as from a processor. If a batch is so small that
    launching its kernels takes most of the time, the plain forward is replayed as one CUDA graph.

    Args:
        kind: one of `KINDS`.
        subject: the subject; the plain forward uses its tensors.
        batch: the probe.
        rows: of the batch; by default enough to keep the device busy.
        tokens: of a text; by default as many as the model has positions.
        through: wraps the model's method before it is called, such as torch.compile.

    Raises:
        NotApplicable: the checkpoint holds no tower for it.
    """
    config, holding = subject.checkpoint.config, subject.checkpoint.holds
    if kind not in kinds_of(holding):
        raise holding.lacking
    tokens = tokens or batch.input_ids.shape[1]
    operations = work_of(kind, subject, rows=1, tokens=tokens).operations
    rows = rows or _rows(subject.device, operations)
    images = {} if kind == "texts" else {"pixel_values": repeated_images(batch, rows)}
    words = {} if kind == "images" else full_texts(batch, rows, tokens)
    inputs: dict[str, NDArray[Any]] = {**words, **images}
    tensors = subject.tensors(inputs)
    family = subject.family
    model_class = holding.main_class
    bare = _plain_call(kind, family.plain_forward(subject.weights(model_class), config), tensors)
    methods = {"images": IMAGE_FEATURES, "texts": TEXT_FEATURES} if holding.whole else {}
    return Trial(
        kind=kind,
        rows=rows,
        tokens=tokens,
        operations=operations,
        inputs=inputs,
        subject=subject.prepared(model_class, tensors, method=methods.get(kind, "forward"), through=through),
        floor=replayed(bare, subject.device) if is_launch_bound(subject.device, operations * rows) else bare,
    )


def work_of(kind: str, subject: Subject, *, rows: int, tokens: int) -> Work:
    """Return what a batch of a subject takes; for arguments, see `make_trial`."""
    checkpoint = subject.checkpoint
    projected = checkpoint.holds.main_class not in (roles.TEXT, roles.VISION)
    return work(
        subject.family, checkpoint.config, kind, rows=rows, tokens=tokens, dtype=subject.dtype, projected=projected
    )


def _plain_call(kind: str, floor: PlainForward, tensors: Mapping[str, Any]) -> Callable[[], Any]:
    plain: Mapping[str, Callable[..., Any]] = {
        "images": floor.image_features, "texts": floor.text_features, "pairs": floor.logits
    }  # fmt: skip
    # The mask is all ones: the plain forward needs none.
    return partial(plain[kind], **{name: tensor for name, tensor in tensors.items() if name != "attention_mask"})


def repeated_images(batch: Batch, rows: int) -> NDArray[np.float32]:
    """Return the probe's images, repeated to `rows`, (rows, channels, height, width)."""
    return np.resize(batch.pixel_values, (rows, *batch.pixel_values.shape[1:]))


def full_texts(batch: Batch, rows: int, tokens: int | None = None) -> dict[str, NDArray[np.int64]]:
    """Return the probe's text that fills every position, repeated to `rows`, and a mask of ones.

    Args:
        batch: the probe.
        rows: how many.
        tokens: keep the last `tokens` of them, end of text included; all by default.

    Returns:
        input_ids and attention_mask, both (rows, tokens).
    """
    full = batch.input_ids[batch.attention_mask.all(axis=1)][:1]  # (1, tokens)
    ids = np.repeat(full[:, -(tokens or full.shape[1]) :], rows, axis=0)  # (rows, tokens)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def throughput_result(
    trial: Trial, found: Paired, judgement: Judgement, details: Mapping[str, Json]
) -> ThroughputResult:
    """Return the result for the run record.

    Args:
        trial: what was timed.
        found: what came out.
        judgement: what it means.
        details: further values, such as the machine's ceiling.
    """
    seconds = statistics.median(found.subject_s)
    speeds: dict[str, Json] = {
        f"{trial.kind}_per_s": trial.rows / seconds,
        f"reference_{trial.kind}_per_s": trial.rows / statistics.median(found.reference_s),
        "verdict": judgement.verdict,
        "margin": judgement.margin,
        "visible_slow_down": None if judgement.margin is None else judgement.ratio.visible(judgement.margin),
        "time_ratio": found.ratio.value,
        "batch": trial.rows,
        "gflop_per_row": trial.operations / 1e9,
        "latency_ms": _percentiles_ms(found.subject_s),
        "confidence": CONFIDENCE,
        "pairs": [
            round(subject / reference, 4) for subject, reference in zip(found.subject_s, found.reference_s, strict=True)
        ][:_MOST_PAIRS],
        **details,
    }
    return ThroughputResult(
        name=trial.name,
        outcome=judgement.outcome,
        ratio=judgement.ratio.value,
        interval_low=judgement.ratio.low,
        interval_high=judgement.ratio.high,
        reference=judgement.reference,
        unit=f"{trial.kind}/s",
        rounds=found.pairs,
        reason=judgement.reason,
        details=speeds,
    )


def untimed(name: str, reason: str) -> ThroughputResult:
    """Return the result of a timing that failed."""
    return ThroughputResult(
        name=name, outcome="inconclusive", ratio=None, interval_low=None, interval_high=None, reference=None, unit=None,
        rounds=None, reason=reason,
    )  # fmt: skip


def _percentiles_ms(seconds: tuple[float, ...]) -> dict[str, Json]:
    return {f"p{level}": float(np.percentile(seconds, level)) * 1000 for level in (50, 90, 99)}


def _rows(device: str, operations: int) -> int:
    kind = device.partition(":")[0]
    return max(1, min(_MOST_ROWS[kind], round(_WORK[kind] / operations)))
