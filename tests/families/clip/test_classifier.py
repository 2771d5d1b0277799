"""The head of CLIPForImageClassification: hand-worked logits, and its losses against torch in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clip_eval.families.clip.classifier import class_logits
from clip_eval.oracle.expected.classifier import LOSSES, expected_loss
from clip_eval.oracle.precision import Precision

STATES = np.array([[[9.0, 9.0], [1.0, 2.0], [3.0, 6.0]]])  # (images, patches + 1, width)
WEIGHTS = {"classifier.weight": np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), "classifier.bias": np.arange(3.0)}
LOGITS = np.random.default_rng(0).normal(0, 3, (5, 3))  # (images, labels)
GRID = np.arange(15).reshape(5, 3)  # (images, labels)


def test_patches_are_averaged_without_the_class_token() -> None:
    """The mean of (1, 2) and (3, 6) is (2, 4); without a classifier it is what comes out."""
    assert class_logits(WEIGHTS, STATES).tolist() == [[2.0, 5.0, 8.0]]
    assert class_logits({}, STATES).tolist() == [[2.0, 4.0]]


@pytest.mark.parametrize(
    ("problem", "labels", "reference"),
    [
        ("regression", GRID / 4, torch.nn.MSELoss()),
        ("single_label_classification", np.arange(5) % 3, torch.nn.CrossEntropyLoss()),
        ("multi_label_classification", (GRID % 2).astype(float), torch.nn.BCEWithLogitsLoss()),
    ],
)
def test_losses_are_torchs(problem: str, labels: np.ndarray, reference: torch.nn.Module) -> None:
    """Each problem's loss is the one that its name stands for, and its bound is small beside it."""
    expected = reference(torch.tensor(LOGITS), torch.tensor(labels)).item()
    assert float(LOSSES[problem](LOGITS, labels)) == pytest.approx(expected, rel=1e-12)
    judged = expected_loss(problem, LOGITS, labels, Precision("float32"))
    assert float(judged.value) == pytest.approx(expected, rel=1e-12)
    assert 0 < float(judged.bound) < 1e-5 * expected
