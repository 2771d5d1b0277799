"""The text tower: one layer worked by hand, causality, pooling, masks, and the refusals."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from clip_eval.errors import CheckpointError
from clip_eval.families.clip.text_tower import pooled_positions
from clip_eval.families.config import TextConfig
from clip_eval.oracle import text_tower

EOS, ADDED = 7, 9
CONFIG = TextConfig(
    hidden_size=6,
    intermediate_size=10,
    num_hidden_layers=2,
    num_attention_heads=3,
    max_position_embeddings=8,
    vocab_size=10,
    eos_token_id=EOS,
    projection_dim=4,
)
IDS = np.array([[1, 2, ADDED, 3, EOS], [4, EOS, 0, 0, 0]])  # (texts, tokens)


def _by_hand():
    """One layer, one head of width 4, two tokens: u = (3, -3, 3, -3), then -u, which is the end of the text.

    The layer norm's eps of 16 takes u to n = 0.6 (1, -1, 1, -1), with n.n = 1.44. Queries are n ln(3) / 1.44, keys n,
    values n; the scale for a width of 4 is 1/2. `out_proj` multiplies by 5. The second layer norm gives its bias, ones,
    for any input, so the inner layer holds relu(1 + 1) = 2, and the block adds 2 (1, 2, 3, 4).
    """
    config = TextConfig(
        hidden_size=4,
        intermediate_size=1,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=2,
        vocab_size=2,
        eos_token_id=1,
        hidden_act="relu",
        layer_norm_eps=16.0,
    )
    layer, ones, zeros, identity = "text_model.encoder.layers.0", np.ones(4), np.zeros(4), np.eye(4)
    up_down = np.array([1.0, -1.0, 1.0, -1.0])  # (width,)
    weights = {
        "text_model.embeddings.token_embedding.weight": np.array([2.0 * up_down, -4.0 * up_down]),
        "text_model.embeddings.position_embedding.weight": np.array([up_down, up_down]),
        f"{layer}.layer_norm1.weight": ones,
        f"{layer}.layer_norm1.bias": zeros,
        f"{layer}.self_attn.q_proj.weight": identity * (math.log(3.0) / 1.44),
        f"{layer}.self_attn.k_proj.weight": identity,
        f"{layer}.self_attn.v_proj.weight": identity,
        f"{layer}.self_attn.out_proj.weight": identity * 5.0,
        f"{layer}.layer_norm2.weight": zeros,
        f"{layer}.layer_norm2.bias": ones,
        f"{layer}.mlp.fc1.weight": np.full((1, 4), 0.25),
        f"{layer}.mlp.fc1.bias": np.ones(1),
        f"{layer}.mlp.fc2.weight": np.array([[1.0], [2.0], [3.0], [4.0]]),
        f"{layer}.mlp.fc2.bias": zeros,
        "text_model.final_layer_norm.weight": ones,
        "text_model.final_layer_norm.bias": zeros,
        "text_projection.weight": np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]]),
    }
    biases = {f"{layer}.self_attn.{side}_proj.bias": zeros for side in ("q", "k", "v", "out")}
    return weights | biases, config


def test_one_layer_agrees_with_the_hand_worked_attention():
    """The first token sees itself; the second weighs scores of -ln(3)/2 and ln(3)/2: 1/4 and 3/4."""
    weights, config = _by_hand()
    observed = text_tower(weights, config, np.array([[0, 1]]))
    np.testing.assert_allclose(observed.attentions[0], [[[[1.0, 0.0], [0.25, 0.75]]]], rtol=1e-14)


def test_one_layer_agrees_with_the_hand_worked_states():
    """Contexts n and n/4 - 3n/4 = -n/2, times 5, are (3, -3, ...) and (-1.5, 1.5, ...); the block adds (2, 4, 6, 8)."""
    weights, config = _by_hand()
    observed = text_tower(weights, config, np.array([[0, 1]]))
    np.testing.assert_array_equal(observed.hidden_states[0], [[[3.0, -3.0, 3.0, -3.0], [-3.0, 3.0, -3.0, 3.0]]])
    expected = [[[8.0, -2.0, 12.0, 2.0], [-2.5, 8.5, 1.5, 12.5]]]
    np.testing.assert_allclose(observed.hidden_states[1], expected, rtol=1e-14)


def test_one_layer_agrees_with_the_hand_worked_pooling():
    """(8, -2, 12, 2) has mean 5 and variance 29; the end, (-2.5, 8.5, 1.5, 12.5), has mean 5 and variance 34.25."""
    weights, config = _by_hand()
    observed = text_tower(weights, config, np.array([[0, 1]]))
    first = np.array([3.0, -7.0, 7.0, -3.0]) / math.sqrt(45.0)  # (width,)
    second = np.array([-7.5, 3.5, -3.5, 7.5]) / math.sqrt(50.25)  # (width,)
    np.testing.assert_allclose(observed.last_hidden_state, [[first, second]], rtol=1e-13)
    np.testing.assert_allclose(observed.pooler_output, [second], rtol=1e-13)
    np.testing.assert_allclose(observed.projected, [[0.0, 7.5 / math.sqrt(50.25)]], rtol=1e-13, atol=1e-14)


def test_states_have_documented_shapes(random_weights):
    """Layers + 1 hidden states, one attention map a layer, one pooled and one projected row a text."""
    observed = text_tower(random_weights(CONFIG), CONFIG, IDS)
    assert [state.shape for state in observed.hidden_states] == [(2, 5, 6)] * 3
    assert [attention.shape for attention in observed.attentions] == [(2, 3, 5, 5)] * 2
    assert observed.last_hidden_state.shape == (2, 5, 6)
    assert observed.pooler_output.shape == (2, 6)
    assert observed.projected.shape == (2, 4)


def test_a_later_token_changes_no_earlier_state(random_weights):
    """Replace the fourth token: states of the first three stay bit for bit, the fourth changes."""
    weights, changed = random_weights(CONFIG), IDS.copy()
    changed[:, 3] = 5
    before, after = (text_tower(weights, CONFIG, ids).last_hidden_state for ids in (IDS, changed))
    np.testing.assert_array_equal(after[:, :3], before[:, :3])
    assert (after[:, 3] != before[:, 3]).any(axis=-1).all()


def test_attention_is_causal_and_sums_to_one(random_weights):
    """A key after the query weighs exactly 0, and the others make up the whole."""
    for attention in text_tower(random_weights(CONFIG), CONFIG, IDS).attentions:
        np.testing.assert_array_equal(np.triu(attention, k=1), 0.0)
        np.testing.assert_allclose(attention.sum(axis=-1), 1.0, rtol=1e-14)


def test_a_masked_token_weighs_nothing_and_changes_no_other_state(random_weights):
    """Mask the second of five tokens: what stands there changes no other state, and later ones differ from unmasked."""
    weights, mask, changed = random_weights(CONFIG), np.ones_like(IDS), IDS.copy()
    mask[:, 1], changed[:, 1] = 0, 5
    before, after = (text_tower(weights, CONFIG, ids, mask) for ids in (IDS, changed))
    others = [0, 2, 3, 4]
    for attention in before.attentions:
        np.testing.assert_array_equal(attention[..., 1], 0.0)
    np.testing.assert_array_equal(after.last_hidden_state[:, others], before.last_hidden_state[:, others])
    unmasked = text_tower(weights, CONFIG, IDS).last_hidden_state  # (2, 5, 6)
    assert (unmasked[:, 2:] != before.last_hidden_state[:, 2:]).any(axis=-1).all()


def test_left_padding_keeps_every_state_finite(random_weights):
    """A masked first token attends to nothing; neither it nor its successors become NaN."""
    mask = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])  # (texts, tokens)
    observed = text_tower(random_weights(CONFIG), CONFIG, IDS, mask)
    np.testing.assert_array_equal(observed.attentions[0][0, :, :2], 0.0)
    assert np.isfinite(observed.last_hidden_state).all()


def test_a_mask_of_ones_is_no_mask(random_weights):
    """Permitting all tokens changes nothing."""
    weights = random_weights(CONFIG)
    observed = text_tower(weights, CONFIG, IDS, np.ones_like(IDS)).projected  # (2, 4)
    np.testing.assert_array_equal(observed, text_tower(weights, CONFIG, IDS).projected)


@pytest.mark.parametrize(
    ("eos_token_id", "ids", "position"),
    [
        (EOS, [1, ADDED, 3, EOS, 0], 3),  # a larger id before the end: the largest id is not the rule
        (EOS, [1, EOS, 3, EOS, EOS], 1),  # several ends: the first
        (EOS, [1, 3, ADDED, 4, 5], 0),  # no end: the first token
        (2, [1, ADDED, 2, 3, 0], 1),  # legacy: the largest id, though 2 occurs
        (2, [1, ADDED, 3, ADDED, ADDED], 1),  # legacy: its first occurrence
    ],
)
def test_pooling_follows_the_rule_of_the_config(random_weights, eos_token_id, ids, position):
    """The pooled state is the row of the first end-of-text token, or by the legacy rule of the largest id."""
    config, tokens = replace(CONFIG, eos_token_id=eos_token_id), np.array([ids])
    observed = text_tower(random_weights(CONFIG), config, tokens)
    np.testing.assert_array_equal(observed.pooler_output, observed.last_hidden_state[:, position])
    np.testing.assert_array_equal(pooled_positions(tokens, eos_token_id), [position])


def test_projection_is_none_where_the_weights_hold_none(random_weights):
    """A tower saved alone has no projection, and that is no error."""
    weights = random_weights(CONFIG)
    del weights["text_projection.weight"]
    assert text_tower(weights, CONFIG, IDS).projected is None


def test_projection_width_is_the_files_own(random_weights):
    """A stale `projection_dim` in the tower's config does not matter: the model's own decides."""
    stale = replace(CONFIG, projection_dim=512)
    assert text_tower(random_weights(CONFIG), stale, IDS).projected.shape == (2, 4)


@pytest.mark.parametrize("token", [-1, 10])
def test_ids_without_an_embedding_are_refused(random_weights, token):
    """An id outside the vocabulary is named; a negative one would otherwise count from the end."""
    ids = IDS.copy()
    ids[1, 2] = token
    with pytest.raises(CheckpointError, match=rf"token id {token} .*vocab_size is 10.*tokenizer"):
        text_tower(random_weights(CONFIG), CONFIG, ids)


def test_texts_longer_than_the_model_are_refused(random_weights):
    """Nine tokens do not fit eight positions."""
    with pytest.raises(CheckpointError, match=r"9 tokens .* 8 positions.*Truncate"):
        text_tower(random_weights(CONFIG), CONFIG, np.zeros((1, 9), dtype=np.int64))


@pytest.mark.parametrize("ids", [IDS[0], IDS.astype(np.float64), IDS[:, :0]])
def test_ids_of_another_kind_are_refused(random_weights, ids):
    """One text without a batch axis, floats, and texts without tokens are programming errors."""
    with pytest.raises(ValueError, match="input_ids must be integers"):
        text_tower(random_weights(CONFIG), CONFIG, ids)


def test_a_mask_of_another_shape_is_refused(random_weights):
    """A mask that broadcasts is as wrong as one that does not."""
    with pytest.raises(ValueError, match="attention_mask has shape"):
        text_tower(random_weights(CONFIG), CONFIG, IDS, np.ones((1, 5), dtype=np.int64))


def test_every_missing_tensor_is_named(random_weights):
    """Whichever tensor is absent, the error says which; the projection alone may be."""
    weights = random_weights(CONFIG)
    for name in sorted(set(weights) - {"text_projection.weight"}):
        rest = {key: value for key, value in weights.items() if key != name}
        with pytest.raises(CheckpointError, match=f"missing tensor {name}:"):
            text_tower(rest, CONFIG, IDS)


def test_every_tensor_of_another_shape_is_named(random_weights):
    """A length of 1 would broadcast silently; it is refused for every tensor."""
    weights = random_weights(CONFIG)
    for name in sorted(weights):
        with pytest.raises(CheckpointError, match=f"tensor {name} has shape"):
            text_tower(weights | {name: weights[name][..., :1]}, CONFIG, IDS)
