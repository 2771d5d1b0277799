"""The vision tower: values worked by hand, and the refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clip_eval.errors import CheckpointError
from clip_eval.families.config import VisionConfig
from clip_eval.oracle import vision_tower

CONFIG = VisionConfig(
    hidden_size=6,
    intermediate_size=10,
    num_hidden_layers=2,
    num_attention_heads=3,
    image_size=8,
    patch_size=4,
    projection_dim=5,
)
PIXELS = np.random.default_rng(0).standard_normal((2, 3, 8, 8))  # (images, channels, height, width)


def _without_layers():
    """No encoder layers, one grey channel, two pixels a side, width 2: small enough for paper."""
    config = VisionConfig(
        hidden_size=2,
        intermediate_size=1,
        num_hidden_layers=0,
        num_attention_heads=1,
        image_size=2,
        patch_size=1,
        num_channels=1,
        layer_norm_eps=16.0,
    )
    ones, zeros = np.ones(2), np.zeros(2)
    weights = {
        "vision_model.embeddings.class_embedding": np.array([1.0, 0.0]),
        "vision_model.embeddings.patch_embedding.weight": np.array([1.0, -1.0]).reshape(2, 1, 1, 1),
        "vision_model.embeddings.position_embedding.weight": np.array([[2.0, -3.0]] + [[2.0, -2.0]] * 4),
        "vision_model.pre_layrnorm.weight": ones * 5.0,
        "vision_model.pre_layrnorm.bias": zeros,
        "vision_model.post_layernorm.weight": ones * 10.0,
        "vision_model.post_layernorm.bias": np.array([0.0, 1.0]),
        "visual_projection.weight": np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 1.0]]),
    }
    return weights, config


def test_class_token_comes_first_and_patches_follow_row_by_row():
    """The tokens before any layer: class (1, 0) + (2, -3), then p (1, -1) + (2, -2) for the pixels p in reading order.

    A vector (a, -a) is normalised to a / sqrt(a^2 + 16), times 5: a = 3 gives 3, which fixes class and first pixel.
    """
    weights, config = _without_layers()
    pixels = np.array([[1.0, -5.0], [-2.0, 10.0]]).reshape(1, 1, 2, 2)  # (1, 1, 2, 2)
    observed = vision_tower(weights, config, pixels)
    levels = [3.0, 3.0, -3.0, 0.0, 60.0 / math.sqrt(160.0)]
    assert len(observed.hidden_states) == 1
    np.testing.assert_allclose(observed.hidden_states[0], [[[a, -a] for a in levels]], rtol=1e-15)


def test_pooling_normalises_the_class_token_alone():
    """The class token (3, -3) becomes (6, -6 + 1); the last hidden state stays as it is."""
    weights, config = _without_layers()
    observed = vision_tower(weights, config, np.zeros((1, 1, 2, 2)))
    np.testing.assert_allclose(observed.pooler_output, [[6.0, -5.0]], rtol=1e-15)
    np.testing.assert_allclose(observed.projected, [[1.0, 12.0, -5.0]], rtol=1e-14)
    assert observed.last_hidden_state is observed.hidden_states[-1]


def test_states_have_documented_shapes(random_weights):
    """Layers + 1 hidden states, one attention map a layer, one pooled and one projected row an image."""
    observed = vision_tower(random_weights(CONFIG), CONFIG, PIXELS)
    assert [state.shape for state in observed.hidden_states] == [(2, 5, 6)] * 3
    assert [attention.shape for attention in observed.attentions] == [(2, 3, 5, 5)] * 2
    assert observed.pooler_output.shape == (2, 6)
    assert observed.projected.shape == (2, 5)


def test_attention_rows_sum_to_one_and_see_every_patch(random_weights):
    """Vision attention is not causal: every weight is positive."""
    for attention in vision_tower(random_weights(CONFIG), CONFIG, PIXELS).attentions:
        np.testing.assert_allclose(attention.sum(axis=-1), 1.0, rtol=1e-14)
        assert (attention > 0.0).all()


def test_images_do_not_influence_each_other(random_weights):
    """An image alone has the states that it has in a batch, to rounding."""
    weights = random_weights(CONFIG)
    together = vision_tower(weights, CONFIG, PIXELS).projected  # (2, 5)
    alone = vision_tower(weights, CONFIG, PIXELS[1:]).projected  # (1, 5)
    np.testing.assert_allclose(alone, together[1:], rtol=1e-12)


def test_float32_pixels_are_widened(random_weights):
    """Pixels of a float32 processor mean their exact values in float64."""
    weights, single = random_weights(CONFIG), PIXELS.astype(np.float32)
    observed = vision_tower(weights, CONFIG, single).projected  # (2, 5)
    assert observed.dtype == np.float64
    np.testing.assert_array_equal(observed, vision_tower(weights, CONFIG, single.astype(np.float64)).projected)


def test_projection_is_none_where_the_weights_hold_none(random_weights):
    """A tower saved alone has no projection, and that is no error."""
    weights = random_weights(CONFIG)
    del weights["visual_projection.weight"]
    assert vision_tower(weights, CONFIG, PIXELS).projected is None


@pytest.mark.parametrize("shape", [(1, 3, 8, 6), (1, 3, 9, 9), (1, 1, 8, 8)])
def test_images_of_another_shape_are_refused(random_weights, shape):
    """A non-square image, another size and another number of channels name both shapes."""
    with pytest.raises(CheckpointError, match=r"\(3, 8, 8\).*pixel_values.*image processor"):
        vision_tower(random_weights(CONFIG), CONFIG, np.zeros(shape))


def test_one_image_without_a_batch_axis_is_refused(random_weights):
    """Three axes are a programming error."""
    with pytest.raises(ValueError, match="must be"):
        vision_tower(random_weights(CONFIG), CONFIG, PIXELS[0])


def test_every_missing_tensor_is_named(random_weights):
    """Whichever tensor is absent, the error says which; the projection alone may be."""
    weights = random_weights(CONFIG)
    for name in sorted(set(weights) - {"visual_projection.weight"}):
        rest = {key: value for key, value in weights.items() if key != name}
        with pytest.raises(CheckpointError, match=f"missing tensor {name}:"):
            vision_tower(rest, CONFIG, PIXELS)


def test_every_tensor_of_another_shape_is_named(random_weights):
    """A length of 1 would broadcast silently; it is refused for every tensor."""
    weights = random_weights(CONFIG)
    for name in sorted(weights):
        wrong = weights | {name: weights[name][..., :1]}
        with pytest.raises(CheckpointError, match=f"tensor {name} has shape"):
            vision_tower(wrong, CONFIG, PIXELS)


def test_weights_of_another_dtype_are_refused(random_weights):
    """A float32 weight would make the reference as coarse as what it judges."""
    weights = random_weights(CONFIG)
    name = "vision_model.encoder.layers.1.mlp.fc2.weight"
    with pytest.raises(TypeError, match=f"{name} is float32"):
        vision_tower(weights | {name: weights[name].astype(np.float32)}, CONFIG, PIXELS)
