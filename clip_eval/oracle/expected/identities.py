"""Values that follow from an output's own numbers: norms and logits from its embeddings, the loss from its logits.

The network before them does not matter, so the bounds are those of a few operations: `STEP_SIGMAS` standard deviations
of their rounding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clip_eval.oracle import contrastive_loss
from clip_eval.oracle.precision import Precision
from clip_eval.oracle.rounding import RoundingArithmetic, standard_deviation
from clip_eval.verdict.budgets import STEP_COPIES, STEP_SIGMAS, VECTOR_LANES
from clip_eval.verdict.compare import Expected

__all__ = ["logits_from_embeddings", "loss_from_logits", "unit_norms"]

Array = NDArray[np.float64]


def unit_norms(embeddings: Array, precision: Precision) -> Expected:
    """L2 norms of normalised embeddings: 1.

    The divisor is a stored root of a stored sum, whose error halves. The errors of the stored elements, and of their
    squares, weigh as the squares do. A float32 sum in `VECTOR_LANES` lanes rounds a running sum at each step, and the
    lanes are added in pairs.

    Args:
        embeddings: (rows, projection) float64, as the subject returned them.
        precision: how the subject computes.

    Returns:
        value and bound of shape (rows,).
    """
    norms = np.ones(len(embeddings))  # (rows,)
    width = embeddings.shape[-1]
    single = (1 + 1 / 4) * (1 + (embeddings**4).sum(axis=-1))  # (rows,)
    pairs = sum(1 / lanes for lanes in 2 ** np.arange(int(np.log2(VECTOR_LANES))))
    summed = (width / (3 * VECTOR_LANES**2) + pairs) / 4
    variance = precision.stored**2 * single + precision.internal**2 * summed  # (rows,)
    return _expected(norms, np.sqrt(variance), "unit norm", precision)


def logits_from_embeddings(
    text_embeds: Array, image_embeds: Array, logit_scale: float, precision: Precision, *, bias: float = 0.0
) -> Expected:
    """Logits per text, exp(logit_scale) times the cosines of the embeddings, plus a bias where the family has one.

    A product rounds its running sum at each term (Higham and Mary 2019); product, factor and result are stored. TF32
    rounds both factors of each term first.

    Args:
        text_embeds: (texts, projection) float64, as the subject returned them.
        image_embeds: (images, projection) float64, the same.
        logit_scale: the logarithm of the factor.
        precision: how the subject computes.
        bias: what is added to the scaled cosines.

    Returns:
        value and bound of shape (texts, images).
    """
    terms = text_embeds[:, None, :] * image_embeds  # (texts, images, projection)
    running = np.cumsum(terms, axis=-1)  # (texts, images, projection)
    cosines = running[..., -1]  # (texts, images)
    variance = precision.internal**2 * (running**2).sum(axis=-1) + 3 * precision.storing(cosines) ** 2
    if precision.tf32_products:
        variance = variance + 2 * precision.tf32_factor**2 * (terms**2).sum(axis=-1)  # (texts, images)
    factor = float(np.exp(logit_scale))
    logits = factor * cosines + bias  # (texts, images)
    deviation = factor * np.sqrt(variance)  # (texts, images)
    if bias:  # the sum is stored once more
        deviation = np.hypot(deviation, precision.storing(logits))  # (texts, images)
    return _expected(logits, deviation, "logits from embeddings", precision)


def loss_from_logits(logits: Array, precision: Precision) -> Expected:
    """The contrastive loss of logits, in nats.

    Args:
        logits: (n, n) float64, as the subject returned them.
        precision: how the subject computes.

    Returns:
        value and bound of shape ().
    """
    generators = [np.random.Generator(np.random.PCG64(seed)) for seed in range(STEP_COPIES)]
    noisy = [contrastive_loss(logits, arithmetic=RoundingArithmetic(precision, 1, each)) for each in generators]
    exact = contrastive_loss(logits)  # ()
    return _expected(exact, standard_deviation(exact, np.stack(noisy), STEP_COPIES), "loss from logits", precision)


def _expected(value: Array, deviation: Array, what: str, precision: Precision) -> Expected:
    kind = f"{precision.dtype}{', TF32' if precision.tf32_products else ''}"
    return Expected(value, STEP_SIGMAS * deviation, f"{what}: {STEP_SIGMAS:g} sigma of {kind} rounding")
