"""The contrastive head on values worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clip_eval.oracle import contrast

TEXTS = np.array([[3.0, 4.0], [0.0, 2.0]])  # (2, 2)
IMAGES = np.array([[5.0, 0.0], [0.0, 7.0]])  # (2, 2)


def test_logits_are_scaled_cosines():
    """Cosines of (0.6, 0.8) and (0, 1) with the axes, times exp(ln 10)."""
    observed = contrast(TEXTS, IMAGES, math.log(10.0))
    np.testing.assert_allclose(observed.text_embeds, [[0.6, 0.8], [0.0, 1.0]], rtol=1e-15)
    np.testing.assert_allclose(observed.image_embeds, [[1.0, 0.0], [0.0, 1.0]], rtol=1e-15)
    np.testing.assert_allclose(observed.logits_per_text, [[6.0, 8.0], [0.0, 10.0]], rtol=1e-14)


def test_logits_per_image_are_the_exact_transpose():
    """Three images and two texts, so that a missing transpose has the wrong shape."""
    images = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])  # (3, 2)
    observed = contrast(TEXTS, images, 0.0)
    assert observed.logits_per_text.shape == (2, 3)
    np.testing.assert_array_equal(observed.logits_per_image, observed.logits_per_text.T)


def test_loss_of_two_pairs_is_the_hand_worked_mean():
    """Logits [[a, b], [0, c]]: each term is ln(1 + exp(wrong - right)), rows and columns, averaged.

    With a scale of ln 10 the logits are [[6, 8], [0, 10]]; rows cost ln(1 + e^2) and ln(1 + e^-10), columns
    ln(1 + e^-6) and ln(1 + e^-2).
    """
    observed = contrast(TEXTS, IMAGES, math.log(10.0)).loss
    expected = sum(math.log1p(math.exp(gap)) for gap in (2.0, -10.0, -6.0, -2.0)) / 4.0
    assert observed is not None
    assert observed.shape == ()
    assert float(observed) == pytest.approx(expected, rel=1e-14)


def test_loss_of_indifferent_logits_is_the_logarithm_of_the_count():
    """Where every text fits every image alike, guessing among n costs ln n."""
    same = np.ones((5, 3))  # (5, 3)
    assert float(contrast(same, same, 2.0).loss) == pytest.approx(math.log(5.0), rel=1e-14)


def test_loss_needs_as_many_texts_as_images():
    """Without a partner for each text there is no diagonal and no loss."""
    assert contrast(TEXTS, IMAGES[:1], 0.0).loss is None


@pytest.mark.parametrize("logit_scale", [2.0, np.float64(2.0), np.array(2.0), np.array([2.0])])
def test_logit_scale_may_be_any_scalar(logit_scale):
    """A float, a NumPy scalar and the array that a file holds mean the same."""
    expected = contrast(TEXTS, IMAGES, 2.0)
    np.testing.assert_array_equal(contrast(TEXTS, IMAGES, logit_scale).logits_per_text, expected.logits_per_text)


def test_logit_scale_must_be_one_number():
    """Several scales have no meaning."""
    with pytest.raises(ValueError, match="reshape"):
        contrast(TEXTS, IMAGES, np.array([1.0, 2.0]))
