"""The slope of the reference against automatic differentiation in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clip_eval.checkpoint.checkpoint import Checkpoint, open_checkpoint
from clip_eval.oracle.expected.directional_derivative import direction, logit_factors, slope
from clip_eval.probes.batches import Batch, make_batch


@pytest.fixture(scope="module")
def checkpoint(bare_model: Path) -> Checkpoint:
    """A small checkpoint."""
    return open_checkpoint(bare_model)


def test_it_is_the_derivative(checkpoint: Checkpoint) -> None:
    """Central differences agree with torch's float64 gradients to ten digits."""
    import torch
    from transformers import CLIPModel

    batch, weights = make_batch(checkpoint.config), checkpoint.weights("float64")
    model = CLIPModel.from_pretrained(checkpoint.path, dtype=torch.float64)
    torch.set_default_dtype(torch.float64)  # 4.57 fills its causal mask in the default dtype
    try:
        logits = _logits(model, batch)
    finally:
        torch.set_default_dtype(torch.float32)
    (logits * torch.tensor(logit_factors(*logits.shape))).sum().backward()
    expected = sum(
        float((parameter.grad.numpy() * direction(name, weights[name])).sum())
        for name, parameter in _named(model, checkpoint)
    )
    found = slope(checkpoint.family.network, weights, checkpoint.config, batch, towers=("text", "vision"))
    assert found == pytest.approx(expected, rel=1e-10)


def _logits(model: Any, batch: Batch) -> Any:
    import torch

    return model(
        input_ids=torch.tensor(batch.input_ids),
        attention_mask=torch.tensor(batch.attention_mask),
        pixel_values=torch.tensor(batch.pixel_values).double(),
    ).logits_per_text


def test_directions_are_signs_of_the_size_of_the_tensor() -> None:
    """Each element moves by the root mean square of its tensor, up or down; a tensor of zeros moves too."""
    values = np.array([[3.0, -4.0], [0.0, 5.0]])
    moved = direction("a", values)
    assert np.abs(moved) == pytest.approx(np.full((2, 2), np.sqrt(12.5)))
    assert (direction("a", values) == moved).all()
    assert (direction("b", np.ones(64)) != direction("a", np.ones(64))).any()
    assert np.abs(direction("a", np.zeros(3))).min() > 0


def _named(model: object, checkpoint: Checkpoint) -> list[tuple[str, object]]:
    return [(name, value) for name, value in model.named_parameters() if name in checkpoint.tensors]  # type: ignore[attr-defined]
