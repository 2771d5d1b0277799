"""A family says the same of its model in every part, and another pooling rule and a bias need no other file."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from clip_eval.families import roles
from clip_eval.families.clip.family import CLIP
from clip_eval.families.clip.vision_tower import vision_tower
from clip_eval.families.config import ClipConfig, TextConfig, VisionConfig
from clip_eval.families.registry import FAMILIES, family_of
from clip_eval.oracle.expected.identities import logits_from_embeddings
from clip_eval.oracle.precision import Precision

SMALL = ClipConfig(
    TextConfig(hidden_size=4, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=9),
    VisionConfig(
        hidden_size=4, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=4, patch_size=2
    ),
    projection_dim=3,
)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.model_type)
def test_the_parts_of_a_family_agree(family: object) -> None:
    """Entry points have a class, modules have tensors, and every tensor of the whole model belongs to it."""
    assert family is CLIP
    assert {entry.model_class for entry in (*CLIP.entry_points, CLIP.classifier)} == set(CLIP.classes)
    assert tuple(CLIP.head) == roles.HEAD_FIELDS
    names = CLIP.expected_tensors(SMALL)
    for tower in (CLIP.text, CLIP.vision):
        for module in (tower.module, tower.entering, tower.last, tower.pooled, tower.projection):
            assert any(name.startswith(f"{module}.") for name in names), module
        assert any(CLIP.classes[role].tower == tower.module for role in (roles.TEXT, roles.VISION))
    assert all(CLIP.belongs_to(name, roles.WHOLE) for name in names)


@pytest.mark.parametrize("model_type", [None, 3, ["clip"], "siglip"])
def test_what_belongs_to_no_family_is_refused_by_the_reader_of_clip(model_type: object) -> None:
    """Anything else than a known name gives the default family."""
    assert family_of(model_type) is CLIP


def test_another_pooling_rule_is_an_argument() -> None:
    """With a mean over all tokens the states stay, and the pooled state is the normalised mean."""
    generator = np.random.Generator(np.random.PCG64(0))
    weights = {
        name: generator.normal(size=tuple(axis.size for axis in axes))
        for name, axes in CLIP.expected_tensors(SMALL).items()
    }
    pixels = generator.normal(size=(2, 3, 4, 4))  # (images, channels, height, width)
    mean = replace(CLIP.network, vision_tower=partial(vision_tower, pool=lambda states, ops: ops.average(states)))
    plain = CLIP.network.vision_tower(weights, SMALL.vision, pixels)
    found = mean.vision_tower(weights, SMALL.vision, pixels)
    np.testing.assert_array_equal(found.last_hidden_state, plain.last_hidden_state)
    means = plain.last_hidden_state.mean(axis=1)  # (images, width)
    centred = means - means.mean(axis=-1, keepdims=True)  # (images, width)
    normed = centred / np.sqrt(centred.var(axis=-1, keepdims=True) + SMALL.vision.layer_norm_eps)  # (images, width)
    name = "vision_model.post_layernorm"
    expected = normed * weights[f"{name}.weight"] + weights[f"{name}.bias"]  # (images, width)
    np.testing.assert_allclose(found.pooler_output, expected, rtol=1e-12)
    assert not np.allclose(found.pooler_output, plain.pooler_output)


def test_a_bias_moves_the_logits_and_widens_their_bound() -> None:
    """Without one nothing is added; with one it is, and its sum is stored once more."""
    text, image = np.eye(3)[:2], np.eye(3)  # (texts, projection), (images, projection)
    plain = logits_from_embeddings(text, image, 1.0, Precision("float32"))
    moved = logits_from_embeddings(text, image, 1.0, Precision("float32"), bias=-4.0)
    np.testing.assert_array_equal(moved.value, plain.value - 4.0)
    assert (moved.bound > plain.bound).all()
    assert CLIP.network.logit_bias({}) == 0.0
