"""What is timed: the batch, that both sides embed the same, and what the run record says of it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from small_clip import write_small_clip

from clip_eval.checkpoint import open_checkpoint
from clip_eval.config import ClipConfig, TextConfig, VisionConfig
from clip_eval.probes import Batch, make_batch
from clip_eval.subject import Subject, projected_features, transformers_release
from clip_eval.throughput.paired import PairedRatio
from clip_eval.throughput.trial import Trial, image_trial, text_trial, throughput_result


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A small random checkpoint."""
    return Subject(open_checkpoint(write_small_clip(tmp_path_factory.mktemp("small"), processor=False)), "float32")


@pytest.fixture(scope="module")
def batch(subject: Subject) -> Batch:
    """The probe."""
    return make_batch(subject.checkpoint.config)


@pytest.mark.parametrize("make", [image_trial, text_trial])
def test_both_sides_embed_the_same_batch(subject: Subject, batch: Batch, make: object) -> None:
    """Subject and floor return as many embeddings as the batch has rows, and the same ones."""
    trial = make(subject, batch)  # type: ignore[operator]
    observed = projected_features(trial.subject(), transformers_release())
    expected = trial.floor()
    assert observed.shape == expected.shape == (trial.rows, 24)
    np.testing.assert_allclose(observed.numpy(), expected.numpy(), atol=1e-4)
    assert trial.rows == 16


def test_texts_fill_every_position(subject: Subject, batch: Batch) -> None:
    """A text of the trial has as many real tokens as the model has positions, so that its count of operations holds."""
    seen = {}
    original = Subject.prepared

    def prepared(self: Subject, model_class: str, tensors: dict[str, torch.Tensor], **options: str) -> object:
        seen.update(tensors)
        return original(self, model_class, tensors, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Subject, "prepared", prepared)
        trial = text_trial(subject, batch)
    assert seen["input_ids"].shape == (trial.rows, 16)
    assert seen["attention_mask"].all()


def test_a_large_model_is_timed_on_few_rows(batch: Batch) -> None:
    """The batch follows from the operations of a row: one image of a ViT-B/32 on a CPU, two of its texts."""
    stand_in = SimpleNamespace(
        checkpoint=SimpleNamespace(config=ClipConfig(text=TextConfig(), vision=VisionConfig())),
        device="cpu",
        tensors=lambda inputs: inputs,
        weights=lambda _: {},
        prepared=lambda *_, **__: None,
    )
    full = replace(batch, input_ids=np.zeros((1, 77), dtype=np.int64), attention_mask=np.ones((1, 77), dtype=np.int64))
    images, texts = image_trial(cast("Subject", stand_in), full), text_trial(cast("Subject", stand_in), full)
    assert (images.rows, texts.rows) == (1, 2)


def test_the_record_says_what_was_measured() -> None:
    """Speeds, efficiency and the share of the ceiling follow from the medians; nothing is judged here."""
    trial = Trial(kind="texts", rows=4, operations=10**9, subject=lambda: None, floor=lambda: None)
    found = PairedRatio(ratio=1.25, low=1.2, high=1.3, pairs=40, subject_s=0.5, floor_s=0.4)
    result = throughput_result(trial, found, product_rate=64e9, reason="no baseline pack to judge it by")
    assert (result.name, result.outcome, result.unit) == ("text_embeddings", "inconclusive", "texts/s")
    assert (result.ratio, result.interval_low, result.interval_high, result.rounds) == (1.25, 1.2, 1.3, 40)
    assert result.reference == "plain torch forward"
    details = {name: result.details[name] for name in ("texts_per_s", "floor_texts_per_s", "efficiency", "batch")}
    assert details == {"texts_per_s": 8.0, "floor_texts_per_s": 10.0, "efficiency": 0.8, "batch": 4}
    assert result.details["gflop_per_row"] == 1.0
    assert result.details["product_gflop_per_s"] == 64.0
    assert result.details["share_of_products"] == 0.125
    assert result.details["threads"] == torch.get_num_threads()
