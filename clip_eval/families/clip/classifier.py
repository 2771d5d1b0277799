"""CLIPForImageClassification's head in float64: a linear layer on the mean of the patches, and the three losses.

Source: https://huggingface.co/docs/transformers/model_doc/clip, "a linear layer on top of the pooled final hidden
states of the patch tokens", and the description of `labels` and `problem_type` there and in PretrainedConfig.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from clip_eval.families.reference.arithmetic import EXACT, Arithmetic, Array, Ids

__all__ = ["class_logits", "cross_entropy", "multi_label_loss", "squared_error"]


def class_logits(weights: Mapping[str, Array], last_hidden_state: Array, *, arithmetic: Arithmetic = EXACT) -> Array:
    """The logits of each image: the patches' states, averaged without the class token, through `classifier`.

    Args:
        weights: `classifier.weight` (labels, width) and `classifier.bias` (labels,), both float64; without them,
            as with no labels, the averages themselves are returned.
        last_hidden_state: (images, patches + 1, width) float64, the class token first.
        arithmetic: the leaf operations.

    Returns:
        (images, labels) float64.
    """
    pooled = arithmetic.average(last_hidden_state[:, 1:])  # (images, width)
    if "classifier.weight" not in weights:
        return pooled
    return arithmetic.linear(pooled, weights["classifier.weight"], weights["classifier.bias"])


def squared_error(logits: Array, labels: Array, *, arithmetic: Arithmetic = EXACT) -> Array:
    """The mean squared difference, the loss of a regression. Both (images, labels) or (images,); returns ()."""
    difference = arithmetic.add(logits, -labels)  # the shape of logits
    return arithmetic.mean(arithmetic.scale(difference, difference))


def cross_entropy(logits: Array, labels: Ids, *, arithmetic: Arithmetic = EXACT) -> Array:
    """The mean cross entropy in nats, the loss of single labels. (images, labels), (images,) int64; returns ()."""
    chosen = np.take_along_axis(arithmetic.log_softmax(logits), labels[:, None], axis=-1)  # (images, 1)
    return -arithmetic.mean(chosen)


def multi_label_loss(logits: Array, labels: Array, *, arithmetic: Arithmetic = EXACT) -> Array:
    """The mean binary cross entropy in nats, the loss of multiple labels.

    It is (1 - y) x - log sigmoid(x); the sigmoid is a softmax of x and 0.

    Args:
        logits: (images, labels) float64.
        labels: the same shape, 0 or 1.
        arithmetic: the leaf operations.
    """
    against_nothing = np.stack([logits, np.zeros_like(logits)], axis=-1)  # (images, labels, 2)
    likely = arithmetic.log_softmax(against_nothing)[..., 0]  # (images, labels)
    return arithmetic.mean(arithmetic.add(arithmetic.scale(logits, 1 - labels), -likely))
