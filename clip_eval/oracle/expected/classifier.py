"""Expected values of CLIPForImageClassification, with bounds: logits from pixels, and the loss from the model's own
logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from clip_eval.checkpoint.dtypes import round_values
from clip_eval.families.clip.classifier import class_logits, cross_entropy, multi_label_loss, squared_error
from clip_eval.families.config import VisionConfig
from clip_eval.families.family import Network
from clip_eval.oracle import EXACT, Arithmetic
from clip_eval.oracle.precision import Precision
from clip_eval.oracle.rounding import RoundingArithmetic, standard_deviation, tile
from clip_eval.verdict.budgets import COPIES, SIGMAS, STEP_COPIES, STEP_SIGMAS
from clip_eval.verdict.compare import Expected

__all__ = ["LOSSES", "expected_classes", "expected_loss", "joined"]

Array = NDArray[np.float64]

LOSSES: Mapping[str, Callable[..., Array]] = {
    "regression": squared_error,
    "single_label_classification": cross_entropy,
    "multi_label_classification": multi_label_loss,
}
"""The loss of each problem_type."""


def expected_classes(
    network: Network,
    weights: Mapping[str, Array],
    config: VisionConfig,
    pixel_values: NDArray[np.float32],
    precision: Precision,
) -> Expected:
    """Return the logits of images, (images, labels): expected values with rounding bounds.

    Args:
        network: the reference of the checkpoint's family.
        weights: of the vision tower and the classifier, canonical name -> float64, rounded to the subject's dtype.
        config: the tower's shape.
        pixel_values: (images, channels, side, side); rounded to the subject's dtype here.
        precision: how the subject computes.
    """
    pixels = round_values(pixel_values, precision.dtype).astype(np.float64)  # (images, channels, side, side)

    def run(images: Array, arithmetic: Arithmetic) -> Array:
        states = network.vision_tower(weights, config, images, arithmetic=arithmetic)
        return class_logits(weights, states.last_hidden_state, arithmetic=arithmetic)

    exact = run(pixels, EXACT)  # (images, labels)
    noisy = run(tile(pixels, COPIES), RoundingArithmetic(precision, COPIES))  # (copies * images, labels)
    rule = f"{SIGMAS:g} sigma of {precision.dtype} rounding, amplified by this model"
    return Expected(exact, SIGMAS * standard_deviation(exact, noisy, COPIES), rule)


def joined(rows: Sequence[Expected]) -> Expected:
    """Return expected values of some images, computed apart, as those of one batch."""
    values, bounds = ([getattr(row, name) for row in rows] for name in ("value", "bound"))
    return Expected(np.concatenate(values), np.concatenate(bounds), rows[0].rule)


def expected_loss(problem: str, logits: Array, labels: NDArray[np.generic], precision: Precision) -> Expected:
    """Return the loss of logits, (): expected value with the rounding bound of a few operations.

    Args:
        problem: a name of `LOSSES`.
        logits: (images, labels) float64, as the subject returned them.
        labels: as the loss takes them, exact in the subject's dtype.
        precision: how the subject computes.
    """
    loss = LOSSES[problem]
    generators = [np.random.Generator(np.random.PCG64(seed)) for seed in range(STEP_COPIES)]
    noisy = [loss(logits, labels, arithmetic=RoundingArithmetic(precision, 1, each)) for each in generators]
    exact = loss(logits, labels)  # ()
    rule = f"{problem} loss from logits: {STEP_SIGMAS:g} sigma of {precision.dtype} rounding"
    return Expected(exact, STEP_SIGMAS * standard_deviation(exact, np.stack(noisy), STEP_COPIES), rule)
