"""Interpolated position embeddings: hand-worked weights, and torch in float64."""

from __future__ import annotations

import numpy as np
import pytest

from clip_eval.errors import CheckpointError
from clip_eval.families.config import VisionConfig
from clip_eval.families.reference.bicubic import cubic_weights, source_positions
from clip_eval.oracle import EXACT, vision_tower

VISION = VisionConfig(
    hidden_size=6, intermediate_size=10, num_hidden_layers=1, num_attention_heads=2, image_size=9, patch_size=3
)


def test_positions_by_hand():
    """Pixel centres lie at halves: two pixels over four samples lie between the first and the last two."""
    assert source_positions(4, 2).tolist() == [0.5, 2.5]
    assert source_positions(2, 4).tolist() == [-0.25, 0.25, 0.75, 1.25]
    assert source_positions(3, 3).tolist() == [0.0, 1.0, 2.0]


def test_weights_by_hand():
    """Half way between two samples they count 19/32 each and their neighbours -3/32; beyond the border the last
    sample goes on.
    """
    inside = cubic_weights(np.array([1.5]), 4)[0]  # (inputs,)
    assert (inside * 32).tolist() == [-3.0, 19.0, 19.0, -3.0]
    border = cubic_weights(np.array([0.5]), 4)[0]  # (inputs,)
    assert (border * 32).tolist() == [16.0, 19.0, -3.0, 0.0]


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 3), (4, 7), (7, 4), (24, 30)])
def test_weights_sum_to_one(inputs, outputs):
    """A constant stays what it is."""
    weights = cubic_weights(source_positions(inputs, outputs), inputs)  # (outputs, inputs)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=0, atol=1e-14)


def test_own_size_is_kept():
    """As many outputs as inputs give the identity, exactly."""
    assert np.array_equal(cubic_weights(source_positions(5, 5), 5), np.eye(5))


@pytest.mark.parametrize(
    ("side", "rows", "columns"), [(4, 2, 8), (4, 7, 7), (7, 5, 9), (3, 2, 2), (1, 2, 3), (2, 4, 1)]
)
def test_resize_agrees_with_torch(side, rows, columns):
    """Every element is what torch gives in float64, but for the source positions, which torch computes in float32."""
    functional = pytest.importorskip("torch.nn.functional")
    torch = pytest.importorskip("torch")
    grid = np.random.default_rng(side).standard_normal((side, side, 5))  # (rows_in, columns_in, width)
    given = torch.tensor(grid).permute(2, 0, 1)[None]
    expected = functional.interpolate(given, size=(rows, columns), mode="bicubic", align_corners=False)
    observed = EXACT.resize(grid, rows, columns)[0]  # (rows, columns, width)
    steepest, samples = 2.0, 16  # of the kernel's slope, and of samples behind an output
    bound = 3 * side * 2.0**-24 * steepest * samples * np.abs(grid).max()
    np.testing.assert_allclose(observed, expected[0].permute(1, 2, 0).numpy(), rtol=0, atol=bound)


def test_tower_gives_each_patch_its_place(random_weights):
    """An image of another size has the patches of that size, the class token keeps its position embedding, and the
    embeddings of the patches are the interpolated ones, row by row.
    """
    weights = random_weights(VISION)
    table = weights["vision_model.embeddings.position_embedding.weight"]  # (patches + 1, width)
    pixels = np.random.default_rng(0).standard_normal((2, 3, 6, 12))  # (images, channels, height, width)
    observed = vision_tower(weights, VISION, pixels, interpolate=True).hidden_states[0]  # (images, tokens, width)
    positions = np.concatenate([table[:1], EXACT.resize(table[1:].reshape(3, 3, 6), 2, 4)[0].reshape(8, 6)])
    patches = EXACT.patches(pixels, weights["vision_model.embeddings.patch_embedding.weight"])
    first = np.broadcast_to(weights["vision_model.embeddings.class_embedding"], (2, 1, 6))
    embedded = np.concatenate([first, patches], axis=1) + positions  # (images, tokens, width)
    norm = (weights[f"vision_model.pre_layrnorm.{name}"] for name in ("weight", "bias"))
    np.testing.assert_allclose(observed, EXACT.layer_norm(embedded, *norm, 1e-5), rtol=1e-12, atol=0)


def test_own_size_needs_no_interpolation(random_weights):
    """Images of the model's own size give the same with and without interpolation, bit for bit."""
    weights = random_weights(VISION)
    pixels = np.random.default_rng(0).standard_normal((2, 3, 9, 9))  # (images, channels, height, width)
    plain, asked = (vision_tower(weights, VISION, pixels, interpolate=flag) for flag in (False, True))
    assert np.array_equal(plain.last_hidden_state, asked.last_hidden_state)


@pytest.mark.parametrize("shape", [(3, 2, 9), (3, 9, 2), (1, 9, 9)])
def test_images_without_a_patch_are_refused(random_weights, shape):
    """An image smaller than one patch, or with other channels, has no tokens."""
    with pytest.raises(CheckpointError, match="images have shape"):
        vision_tower(random_weights(VISION), VISION, np.zeros((1, *shape)), interpolate=True)
