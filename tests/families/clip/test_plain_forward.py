"""The floor against the float64 oracle: every activation, mask and pooling rule, and the faults it would show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from clip_eval.checkpoint.checkpoint import Checkpoint, open_checkpoint
from clip_eval.families.clip.plain_forward import ClipPlainForward
from clip_eval.families.config import ACTIVATIONS, LEGACY_EOS_TOKEN_ID, ClipConfig
from clip_eval.families.roles import MODEL_CLASSES
from clip_eval.oracle import text_tower, vision_tower
from clip_eval.probes.batches import Batch, make_batch
from clip_eval.subject import Subject


@pytest.fixture(scope="module")
def checkpoint(bare_model: Path) -> Checkpoint:
    """A small random checkpoint."""
    return open_checkpoint(bare_model)


@pytest.fixture(scope="module")
def batch(checkpoint: Checkpoint) -> Batch:
    """The probe."""
    return make_batch(checkpoint.config)


def exact_floor(checkpoint: Checkpoint, config: ClipConfig) -> ClipPlainForward:
    """Return a floor in float64, in which only a wrong step can differ from the oracle."""
    weights = checkpoint.weights("float32")
    return ClipPlainForward({name: torch.from_numpy(np.array(weights[name])) for name in weights}, config)


def assert_same(observed: torch.Tensor, expected: NDArray[np.float64] | None) -> None:
    """Demand equality up to the rounding of float64."""
    assert expected is not None
    np.testing.assert_allclose(observed.numpy(), expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_embeddings_are_the_oracles(checkpoint: Checkpoint, batch: Batch, activation: str) -> None:
    """In float64 both towers agree with the oracle to 1e-12, whatever the activation."""
    towers = {name: replace(getattr(checkpoint.config, name), hidden_act=activation) for name in ("text", "vision")}
    config = replace(checkpoint.config, **towers)
    floor, weights = exact_floor(checkpoint, config), checkpoint.weights("float32")
    pixels = batch.pixel_values.astype(np.float64)
    images = vision_tower(weights, config.vision, pixels).projected
    assert_same(floor.image_features(torch.from_numpy(pixels)), images)
    texts = text_tower(weights, config.text, batch.input_ids, batch.attention_mask).projected
    assert_same(floor.text_features(torch.from_numpy(batch.input_ids)), texts)


@pytest.mark.parametrize("mask", ["padding", "interior"])
@pytest.mark.parametrize("eos_token_id", [None, LEGACY_EOS_TOKEN_ID])
def test_masks_and_pooling_are_the_oracles(
    checkpoint: Checkpoint, batch: Batch, mask: str, eos_token_id: int | None
) -> None:
    """Hidden tokens are hidden, and a text is pooled at its end under the true and the legacy rule."""
    text = (
        checkpoint.config.text if eos_token_id is None else replace(checkpoint.config.text, eos_token_id=eos_token_id)
    )
    floor = exact_floor(checkpoint, replace(checkpoint.config, text=text))
    expected = text_tower(checkpoint.weights("float32"), text, batch.input_ids, batch.mask(mask)).projected
    observed = floor.text_features(torch.from_numpy(batch.input_ids), torch.from_numpy(batch.mask(mask)))
    assert_same(observed, expected)


def test_a_dropped_mask_would_show(checkpoint: Checkpoint, batch: Batch) -> None:
    """Without the mask that hides tokens inside a text, embeddings differ: the comparison above has teeth."""
    floor = exact_floor(checkpoint, checkpoint.config)
    ids = torch.from_numpy(batch.input_ids)
    masked = floor.text_features(ids, torch.from_numpy(batch.mask("interior")))
    assert (floor.text_features(ids) - masked).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_tensors_are_the_subjects_own(checkpoint: Checkpoint, batch: Batch, dtype: str) -> None:
    """ClipPlainForward and subject share storage, dtype and device, under canonical names; results come in the
    subject's dtype.
    """
    subject = Subject(checkpoint, dtype)
    weights = subject.weights("CLIPModel")
    assert set(weights) >= set(checkpoint.tensors)
    parameters = {tensor.data_ptr() for tensor in subject.model("CLIPModel").parameters()}
    assert {weights[name].data_ptr() for name in checkpoint.tensors} == parameters
    inputs = subject.tensors({"pixel_values": batch.pixel_values})
    features = ClipPlainForward(weights, checkpoint.config).image_features(**inputs)
    assert features.dtype is getattr(torch, dtype)
    assert not features.requires_grad
    assert set(subject.weights(MODEL_CLASSES[1])) <= set(weights)


def test_prepared_calls_repeat(checkpoint: Checkpoint, batch: Batch) -> None:
    """A prepared call of the subject is `run` without its preparations, as often as it is called."""
    subject = Subject(checkpoint, "float32")
    inputs: dict[str, Any] = {"pixel_values": batch.pixel_values}
    call = subject.prepared("CLIPVisionModelWithProjection", subject.tensors(inputs))
    expected = subject.answer("CLIPVisionModelWithProjection", inputs).image_embeds
    for _ in range(2):
        observed = call().image_embeds
        assert torch.equal(observed, expected)
        assert not observed.requires_grad
