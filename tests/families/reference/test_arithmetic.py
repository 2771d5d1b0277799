"""The leaf operations on values worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clip_eval.errors import CheckpointError
from clip_eval.families.config import ACTIVATIONS as ALLOWED_ACTIVATIONS
from clip_eval.families.reference.arithmetic import ACTIVATIONS, EXACT

INFINITY = math.inf


def test_linear_is_the_product_with_the_transposed_weight_plus_bias():
    """A linear layer keeps leading axes and gives x W^T + b."""
    x = np.array([[[1.0, 2.0]], [[3.0, 4.0]]])  # (2, 1, 2)
    weight = np.array([[1.0, 0.0], [0.0, 1.0], [10.0, 100.0]])  # (3, 2)
    bias = np.array([0.5, 0.0, -1.0])  # (3,)
    expected = np.array([[[1.5, 2.0, 209.0]], [[3.5, 4.0, 429.0]]])  # (2, 1, 3)
    np.testing.assert_array_equal(EXACT.linear(x, weight, bias), expected)
    np.testing.assert_array_equal(EXACT.linear(x, weight, None), expected - bias)


def test_linear_of_an_empty_batch_is_empty():
    """No rows in, no rows out, with the right width."""
    assert EXACT.linear(np.zeros((0, 5, 2)), np.ones((3, 2)), None).shape == (0, 5, 3)


def test_matmul_multiplies_the_last_two_axes():
    """Leading axes are a batch of matrix products."""
    a = np.array([[[1.0, 2.0]], [[3.0, 4.0]]])  # (2, 1, 2)
    b = np.array([[[5.0], [6.0]], [[7.0], [8.0]]])  # (2, 2, 1)
    np.testing.assert_array_equal(EXACT.matmul(a, b), [[[17.0]], [[53.0]]])


def test_layer_norm_uses_the_biased_variance_and_adds_eps_to_it():
    """(1, 3, 5, 7) has mean 4 and biased variance 5; an eps of 4 makes the deviation 3."""
    x = np.array([[1.0, 3.0, 5.0, 7.0]])  # (1, 4)
    weight = np.array([1.0, 1.0, 3.0, 3.0])  # (4,)
    bias = np.array([0.0, 0.0, 0.0, 10.0])  # (4,)
    observed = EXACT.layer_norm(x, weight, bias, 4.0)  # (1, 4)
    np.testing.assert_allclose(observed, [[-1.0, -1.0 / 3.0, 1.0, 13.0]], rtol=1e-15)


def test_softmax_gives_hand_worked_weights():
    """Scores of 0 and ln 3 weigh 1/4 and 3/4, whatever is added to both."""
    scores = np.array([[0.0, math.log(3.0)], [1000.0, 1000.0 + math.log(3.0)]])  # (2, 2)
    np.testing.assert_allclose(EXACT.softmax(scores), [[0.25, 0.75], [0.25, 0.75]], rtol=1e-13)


def test_softmax_gives_forbidden_keys_exactly_nothing():
    """A key at -inf weighs 0 and leaves the other weights as if it were absent."""
    scores = np.array([[2.0, -INFINITY, 2.0], [-INFINITY, -INFINITY, -7.0]])  # (2, 3)
    np.testing.assert_array_equal(EXACT.softmax(scores), [[0.5, 0.0, 0.5], [0.0, 0.0, 1.0]])


def test_softmax_of_a_row_without_permitted_keys_is_zero():
    """A row that may attend to nothing is 0, not NaN: NaN would spread to every other row through 0 * NaN."""
    np.testing.assert_array_equal(EXACT.softmax(np.full((1, 3), -INFINITY)), [[0.0, 0.0, 0.0]])


def test_softmax_keeps_nan_visible():
    """NaN in a score is NaN in its row and in no other."""
    observed = EXACT.softmax(np.array([[math.nan, 0.0], [0.0, 0.0]]))  # (2, 2)
    np.testing.assert_array_equal(observed, [[math.nan, math.nan], [0.5, 0.5]])


def test_log_softmax_gives_hand_worked_values_without_overflow():
    """Scores of 0 and ln 3 give -ln 4 and ln 3/4; a class 1000 below costs 1000 nats."""
    scores = np.array([[0.0, math.log(3.0)], [1000.0, 0.0]])  # (2, 2)
    expected = np.array([[-math.log(4.0), math.log(0.75)], [0.0, -1000.0]])  # (2, 2)
    np.testing.assert_allclose(EXACT.log_softmax(scores), expected, rtol=1e-15)


@pytest.mark.parametrize(
    ("name", "at_minus_one", "at_two"),
    [
        ("quick_gelu", -1.0 / (1.0 + math.exp(1.702)), 2.0 / (1.0 + math.exp(-3.404))),
        ("gelu", -0.5 * math.erfc(math.sqrt(0.5)), 1.0 + math.erf(math.sqrt(2.0))),
        (
            "gelu_new",
            -0.5 * (1.0 - math.tanh(math.sqrt(2.0 / math.pi) * 1.044715)),
            1.0 + math.tanh(math.sqrt(2.0 / math.pi) * 2.35772),
        ),
        ("relu", 0.0, 2.0),
        ("silu", -1.0 / (1.0 + math.e), 2.0 / (1.0 + math.exp(-2.0))),
        ("selu", -1.7580993408473768 * (1.0 - math.exp(-1.0)), 2.101401974710961),
    ],
)
def test_activation_gives_hand_worked_values(name, at_minus_one, at_two):
    """Each activation at -1, 0 and 2, from its formula in scalar arithmetic."""
    observed = EXACT.activation(np.array([-1.0, 0.0, 2.0]), name)  # (3,)
    np.testing.assert_allclose(observed, [at_minus_one, 0.0, at_two], rtol=1e-14)


def test_gelu_new_and_gelu_pytorch_tanh_are_one_function():
    """Both names mean the tanh approximation."""
    x = np.linspace(-6.0, 6.0, 49)  # (49,)
    np.testing.assert_array_equal(EXACT.activation(x, "gelu_new"), EXACT.activation(x, "gelu_pytorch_tanh"))


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activation_is_finite_far_from_zero(name):
    """No activation overflows or warns where exp would: outlier channels reach hundreds."""
    assert np.isfinite(EXACT.activation(np.array([-2000.0, 2000.0]), name)).all()


def test_unknown_activation_is_refused_with_the_known_names():
    """A config that names another activation cannot be judged, and the message says what can."""
    with pytest.raises(CheckpointError, match=r"'quik_gelu'.*hidden_act.*gelu_new.*quick_gelu"):
        EXACT.activation(np.zeros(1), "quik_gelu")


def test_every_activation_that_a_config_may_name_is_defined():
    """The oracle knows all that the config parser lets through."""
    assert set(ALLOWED_ACTIVATIONS) <= set(ACTIVATIONS)


def test_patches_run_row_by_row_and_drop_the_remainder():
    """A 5 x 7 image holds 2 x 3 patches of 2 x 2; the last row and column take no part."""
    rows, columns = np.indices((5, 7))
    pixels = np.stack([10.0 * rows + columns, 100.0 * rows])[None]  # (1, 2, 5, 7)
    weight = np.zeros((2, 2, 2, 2))  # (width, channels, patch, patch)
    weight[0, 0, 1, 1] = 1.0  # the lower right pixel of channel 0
    weight[1, 1, :, 0] = 1.0  # the left pixels of channel 1
    observed = EXACT.patches(pixels, weight)  # (1, 6, 2)
    np.testing.assert_array_equal(observed[0, :, 0], [11.0, 13.0, 15.0, 31.0, 33.0, 35.0])
    np.testing.assert_array_equal(observed[0, :, 1], [100.0, 100.0, 100.0, 500.0, 500.0, 500.0])


def test_embedding_takes_rows_of_the_table():
    """Each id is replaced by its row."""
    table = np.array([[1.0, 2.0], [3.0, 4.0]])  # (2, 2)
    observed = EXACT.embedding(table, np.array([[1, 1, 0]]))  # (1, 3, 2)
    np.testing.assert_array_equal(observed, [[[3.0, 4.0], [3.0, 4.0], [1.0, 2.0]]])


def test_normalize_divides_by_the_euclidean_length():
    """(3, 4) has length 5."""
    np.testing.assert_array_equal(EXACT.normalize(np.array([[3.0, 4.0], [0.0, -2.0]])), [[0.6, 0.8], [0.0, -1.0]])


def test_normalize_of_a_zero_vector_is_nan():
    """A vector without a direction is NaN and not a made-up direction."""
    assert np.isnan(EXACT.normalize(np.zeros((1, 2)))).all()


def test_scalar_leaves_return_arrays():
    """Operations on arrays of shape () stay arrays, so that a subclass can treat all leaves alike."""
    two = np.array(2.0)  # ()
    for observed in (EXACT.add(two, two), EXACT.scale(two, 0.5), EXACT.exp(two), EXACT.mean(two)):
        assert isinstance(observed, np.ndarray)
        assert observed.shape == ()
    assert (float(EXACT.add(two, two)), float(EXACT.scale(two, 0.5))) == (4.0, 1.0)
    assert float(EXACT.mean(np.array([1.0, 2.0, 6.0]))) == 3.0
    assert float(EXACT.exp(np.array(0.0))) == 1.0
