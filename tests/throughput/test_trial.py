"""What is timed: the batch, that both sides embed the same, and what the run record says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from support.lone_towers import CLASSIFIER, TEXT, TEXT_PROJECTED, VISION, write_part
from support.timing_stand_ins import found

from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.families.clip.family import CLIP
from clip_eval.families.config import ClipConfig, TextConfig, VisionConfig
from clip_eval.families.holding import HOLDINGS
from clip_eval.families.roles import WHOLE
from clip_eval.probes.batches import Batch, make_batch
from clip_eval.subject import Subject, projected_features, transformers_release
from clip_eval.throughput.ratio import in_one_run
from clip_eval.throughput.trial import KINDS, Trial, make_trial, throughput_result, untimed


@pytest.fixture(scope="module")
def subject(bare_model: Path) -> Subject:
    """A small random checkpoint."""
    return Subject(open_checkpoint(bare_model), "float32")


@pytest.fixture(scope="module")
def batch(subject: Subject) -> Batch:
    """The probe."""
    return make_batch(subject.checkpoint.config)


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_both_sides_embed_the_same_batch(subject: Subject, batch: Batch, kind: str) -> None:
    """Subject and floor return as many embeddings as the batch has rows, and the same ones."""
    trial = make_trial(kind, subject, batch)
    observed = projected_features(trial.subject(), transformers_release())
    expected = trial.floor()
    assert observed.shape == expected.shape == (trial.rows, 24)
    np.testing.assert_allclose(observed.numpy(), expected.numpy(), atol=1e-4)
    assert trial.rows == 16


def test_both_sides_score_the_same_pairs(subject: Subject, batch: Batch) -> None:
    """CLIPModel and floor return the same logits, of every image for every text."""
    trial = make_trial("pairs", subject, batch, rows=3)
    observed, expected = trial.subject().logits_per_image, trial.floor()
    assert observed.shape == expected.shape == (3, 3)
    np.testing.assert_allclose(observed.numpy(), expected.numpy(), atol=1e-3)


def test_texts_fill_every_position(subject: Subject, batch: Batch) -> None:
    """A text of the trial has as many real tokens as the model has positions, so that its count of operations holds."""
    trial = make_trial("texts", subject, batch)
    assert trial.inputs["input_ids"].shape == (trial.rows, 16)
    assert trial.inputs["attention_mask"].all()


def test_shorter_texts_end_as_they_should(subject: Subject, batch: Batch) -> None:
    """A text cut to fewer tokens keeps its end, and both sides embed it alike."""
    trial = make_trial("texts", subject, batch, rows=2, tokens=5)
    assert trial.inputs["input_ids"].shape == (2, 5)
    assert (trial.inputs["input_ids"][:, -1] == subject.checkpoint.config.text.eos_token_id).all()
    observed = projected_features(trial.subject(), transformers_release())
    np.testing.assert_allclose(observed.numpy(), trial.floor().numpy(), atol=1e-4)
    assert trial.operations < make_trial("texts", subject, batch).operations


@pytest.mark.parametrize(
    ("kind", "plain", "projected"), [("texts", TEXT, TEXT_PROJECTED), ("images", VISION, CLASSIFIER)]
)
def test_a_tower_without_projection_is_counted_without_it(
    tmp_path: Path, kind: str, plain: str, projected: str
) -> None:
    """The operations of a lone tower are those up to what it gives: pooled states, of an image classifier too."""
    operations = {}
    for role in (plain, projected):
        subject = Subject(open_checkpoint(write_part(tmp_path / role, role)), "float32")
        operations[role] = make_trial(kind, subject, make_batch(subject.checkpoint.config), rows=1).operations
    text = subject.checkpoint.config.text
    more = 2 * text.hidden_size * subject.checkpoint.config.projection_dim if kind == "texts" else 0
    assert operations[projected] - operations[plain] == more


def full_size(device: str) -> Subject:
    """Stands for a ViT-B/32 on a device, of which a trial asks shapes and no results."""
    stand_in = SimpleNamespace(
        family=CLIP,
        checkpoint=SimpleNamespace(config=ClipConfig(text=TextConfig(), vision=VisionConfig()), holds=HOLDINGS[WHOLE]),
        device=device,
        dtype="float32",
        tensors=lambda inputs: inputs,
        weights=lambda _: {},
        prepared=lambda *_, **__: None,
    )
    return cast("Subject", stand_in)


def test_a_large_model_is_timed_on_few_rows(batch: Batch) -> None:
    """The batch follows from the operations of a row: one image of a ViT-B/32 on a CPU, two of its texts."""
    full = replace(batch, input_ids=np.zeros((1, 77), dtype=np.int64), attention_mask=np.ones((1, 77), dtype=np.int64))
    rows = {kind: make_trial(kind, full_size("cpu"), full).rows for kind in KINDS}
    assert rows == {"images": 1, "texts": 2, "pairs": 1}


@pytest.mark.parametrize(("rows", "replays"), [(4, True), (512, False)])
def test_small_batches_of_a_gpu_have_a_replayed_floor(
    batch: Batch, rows: int, replays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CUDA the floor of a batch that launches bind is the replay of a graph; that of a large one is the call."""
    seen = []
    monkeypatch.setattr("clip_eval.throughput.trial.replayed", lambda call, device: seen.append(device) or call)
    make_trial("images", full_size("cuda:1"), batch, rows=rows)
    assert seen == (["cuda:1"] if replays else [])


def test_what_is_called_can_go_through_something(subject: Subject, batch: Batch) -> None:
    """A compiler sees the model's own method, and what it returns is what the trial calls."""
    seen = []

    def through(method: object) -> object:
        seen.append(method)
        return lambda **_: "compiled"

    trial = make_trial("images", subject, batch, through=through)
    assert seen == [subject.model("CLIPModel").get_image_features]
    assert trial.subject() == "compiled"


def test_the_record_says_what_was_measured() -> None:
    """Speeds and latencies follow from the seconds, the outcome from the judgement."""
    trial = Trial(
        kind="texts", rows=4, tokens=16, operations=10**9, inputs={}, subject=lambda: None, floor=lambda: None
    )
    pairs = found(1.25)
    result = throughput_result(trial, pairs, in_one_run(pairs.ratio, "plain torch forward"), {"threads": 1})
    assert (result.name, result.outcome, result.unit) == ("text_embeddings", "failed", "texts/s")
    assert (result.ratio, result.interval_low, result.interval_high, result.rounds) == (1.25, 1.2, 1.3, 40)
    assert result.reference == "plain torch forward"
    assert result.details["texts_per_s"] == 8.0
    assert result.details["reference_texts_per_s"] == pytest.approx(10.0)
    assert result.details["latency_ms"] == pytest.approx({"p50": 500, "p90": 500, "p99": 500})
    assert (result.details["verdict"], result.details["margin"], result.details["batch"]) == ("slower", 0.02, 4)
    assert result.details["visible_slow_down"] == pytest.approx(1.02 * 1.25 / 1.2 - 1)
    assert (result.details["gflop_per_row"], result.details["threads"]) == (1.0, 1)


def test_what_broke_down_is_inconclusive() -> None:
    """A timing without a ratio says why, and neither passes nor fails."""
    result = untimed("logits", "the worker died")
    assert (result.outcome, result.ratio, result.reason) == ("inconclusive", None, "the worker died")
