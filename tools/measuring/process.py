"""One measuring process: what a release makes of three checkpoints in every dtype, attention, thread count and batch.

`python -m measuring.process DIRECTORY` prints one JSON object a line. DIRECTORY holds the checkpoints and is filled on
first use, so that every release measures the same files.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from faults.healthy import many_heads, outlier_channels
from faults.runner import Runner
from faults.watch import CHECKPOINT
from support.resizing import RESIZED, torch_resize
from support.small_clip import write_small_clip

from clip_eval.families.config import ClipConfig
from clip_eval.oracle.expected.identities import logits_from_embeddings, loss_from_logits, unit_norms
from clip_eval.oracle.expected.outputs import Expected, Oracle
from clip_eval.oracle.preprocessing.image_processor import preprocess
from clip_eval.probes.batches import Batch, make_batch
from clip_eval.probes.images import pattern
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings
from clip_eval.subject.observations import Clip
from clip_eval.user_values import DTYPES
from clip_eval.verdict.budgets import pixels, real_resize
from clip_eval.verdict.compare import Compare, to_array
from clip_eval.verdict.measurement import Measurement

__all__ = ["Reading", "checkpoints", "large_batch", "readings"]

ATTENTIONS = ("eager", "sdpa")
THREADS = (1, 2)
BATCHES = {
    "shapes-clip": (1, 2, 8, 32),
    "outlier channels": (1, 2, 8, 32),
    "many heads": (1, 8),
    "wide": (1, 8),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """The largest share of a budget that one healthy run used.

    Attributes:
        where: the run in words.
        budget: the rule of the budget.
        ratio: error over bound at the worst element.
        output: what that element belongs to.
        passed: whether every element was inside.
    """

    where: str
    budget: str
    ratio: float
    output: str
    passed: bool


def checkpoints(directory: Path) -> dict[str, Path]:
    """The shipped checkpoint, the same with planted outlier channels, and random ones: many heads, wide towers."""
    makers = {"outlier channels": outlier_channels, "many heads": many_heads, "wide": _write_wide}
    for name, make in makers.items():
        if not (directory / name).exists():
            make(directory / name)
    return {"shapes-clip": CHECKPOINT, **{name: directory / name for name in makers}}


def large_batch(config: ClipConfig, rows: int) -> Batch:
    """A batch of more rows than the suite's probe has, of the same kinds."""
    parts = [make_batch(config, seed=seed) for seed in range(-(-rows // 5))]
    arrays = ("pixel_values", "input_ids", "attention_mask", "interior_mask")
    return Batch(*(np.concatenate([getattr(part, name) for part in parts])[:rows] for name in arrays))


def readings(name: str, checkpoint: Path, dtype: str, directory: Path) -> Iterator[Reading]:
    """Measure a checkpoint in one dtype: every attention, thread count and batch size, against one oracle."""
    session = Session(Settings(model=str(checkpoint), dtype=dtype))
    batch = large_batch(session.candidate.checkpoint.config, max(BATCHES[name]))
    oracle = _oracle(session, batch, directory / f"{name} {dtype}.pickle")
    for attention, threads, rows in product(ATTENTIONS, THREADS, BATCHES[name]):
        where = f"{name}, {dtype}, {attention}, {threads} thread{'s' * (threads > 1)}, batch {rows}"
        with _threads(threads):
            yield from _largest(where, _measure(Clip(session.candidate.subject, batch), oracle, rows, attention))
    for attention in ATTENTIONS if dtype == "float32" else ():  # gradients are judged in float32 alone
        yield from _gradients(f"{name}, {dtype}, {attention}", checkpoint, "--clip-attn", attention)


def resizes() -> Iterator[Reading]:
    """Measure torch's resize of real numbers, as torchvision resizes them, on pictures of the size that gates use."""
    height, width, channels = pattern().shape
    rows, columns = np.indices((height, width))
    noise = np.random.Generator(np.random.PCG64(5)).integers(0, 2, pattern().shape)
    pictures = {
        "pattern": pattern(),
        "noise": noise * 255,
        "checkerboard": np.stack([(rows + columns) % 2 * 255] * channels, axis=-1),
        "stripes": np.stack([columns % 2 * 255] * channels, axis=-1),
    }
    budget = pixels((0.0,), (1.0,), levels=real_resize(height, width), scale=255.0)
    for name, levels in pictures.items():
        expected = preprocess(levels.astype(np.float64), RESIZED)  # (channels, 37, 31)
        kept: list[Measurement] = []
        with contextlib.suppress(AssertionError):
            observed = torch_resize(levels.astype(np.uint8), np.float32)
            Compare(kept.append).within(observed, expected, budget, name=f"resized {name}")
        yield from _largest("torch's resize", kept)


def _gradients(where: str, checkpoint: Path, *options: str) -> Iterator[Reading]:
    record = Runner().run(checkpoint, "--clip-dtype", "float32", *options, parts=("gradients",)).record
    yield from _largest(where, [measurement for check in record.checks for measurement in check.measurements])


def _oracle(session: Session, batch: Batch, kept: Path) -> Oracle:
    """The reference for a batch; it does not depend on the release, so that the next process takes it from the file."""
    if not kept.exists():
        oracle = session.candidate.oracle.on(batch)
        oracle.vision(images=1)
        oracle.text(texts=1, mask="interior")
        oracle.text(texts=1)
        kept.write_bytes(pickle.dumps(oracle))
    oracle: Oracle = pickle.loads(kept.read_bytes())
    return oracle


def _measure(clip: Clip, oracle: Oracle, rows: int, attention: str) -> list[Measurement]:
    kept: list[Measurement] = []
    for name, observed, expected, where in _pairs(clip, oracle, rows, attention):
        with contextlib.suppress(AssertionError):  # a mismatch is kept as a measurement, too
            Compare(kept.append).close(observed, expected, name=name, where=where)
    return kept


def _pairs(clip: Clip, oracle: Oracle, rows: int, attention: str) -> Iterator[tuple[str, Any, Expected, Any]]:
    ask = {"attention": attention, "output_hidden_states": True}
    text, vision = clip.text_model(texts=rows, mask="interior", **ask), clip.vision_model(images=rows, **ask)
    texts, images = oracle.text(texts=rows, mask="interior"), oracle.vision(images=rows)
    real = clip.real(rows, "interior")[:, :, None]  # (texts, tokens, 1)
    for index, state in enumerate(text.hidden_states):
        yield f"text hidden_states[{index}]", state, texts.hidden_states[index], real
    for index, state in enumerate(vision.hidden_states):
        yield f"vision hidden_states[{index}]", state, images.hidden_states[index], None
    yield "text pooler_output", text.pooler_output, texts.pooler_output, None
    yield "vision pooler_output", vision.pooler_output, images.pooler_output, None
    out = clip.forward(images=rows, texts=rows, attention=attention, return_loss=True)
    head = oracle.forward(images=rows, texts=rows)
    for name in ("text_embeds", "image_embeds", "logits_per_text", "logits_per_image", "loss"):
        yield name, getattr(out, name), getattr(head, name), None
    yield from _steps(clip, out)


def _steps(clip: Clip, out: Any) -> Iterator[tuple[str, Any, Expected, None]]:
    precision, scale = clip.subject.precision, float(clip.subject.checkpoint.weights(clip.dtype)["logit_scale"])
    text, image, logits = (to_array(out[name]) for name in ("text_embeds", "image_embeds", "logits_per_text"))
    for name, embeddings in (("text_embeds", text), ("image_embeds", image)):
        yield f"norm of {name}", np.linalg.norm(embeddings, axis=-1), unit_norms(embeddings, precision), None
    yield "logits of embeddings", out.logits_per_text, logits_from_embeddings(text, image, scale, precision), None
    yield "loss of logits", out.loss, loss_from_logits(logits, precision), None


def _largest(where: str, measurements: list[Measurement]) -> Iterator[Reading]:
    rules = dict.fromkeys(measurement.budget for measurement in measurements)
    for rule in rules:
        worst = max((m for m in measurements if m.budget == rule), key=lambda m: (not m.passed, m.ratio or 0.0))
        yield Reading(where, rule, worst.ratio or 0.0, worst.name, worst.passed)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _write_wide(directory: Path) -> None:
    write_small_clip(
        directory,
        seed=11,
        processor=False,
        projection_dim=512,
        text_config={"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "projection_dim": 512},
        vision_config={
            "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 2,
            "image_size": 224, "patch_size": 32, "projection_dim": 512,
        },
    )  # fmt: skip


def main(directory: Path) -> None:
    """Print every reading of this release."""
    for (name, checkpoint), dtype in product(checkpoints(directory).items(), DTYPES):
        for reading in readings(name, checkpoint, dtype, directory):
            print(json.dumps(asdict(reading)), flush=True)
    for reading in resizes():
        print(json.dumps(asdict(reading)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
