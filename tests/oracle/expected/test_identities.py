"""Norms, logits and losses that torch computes lie within their bounds, and the bounds are no wider than that needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.drawn import normal, stored

from clip_eval.oracle import EXACT
from clip_eval.oracle.expected.identities import logits_from_embeddings, loss_from_logits, unit_norms
from clip_eval.oracle.precision import Precision
from clip_eval.user_values import DTYPES
from clip_eval.verdict.budgets import STEP_SIGMAS
from clip_eval.verdict.compare import Expected, to_array

every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def ratios(observed: Any, expected: Expected) -> NDArray[np.float64]:
    """Error over bound, elementwise."""
    return np.abs(to_array(observed) - expected.value) / expected.bound


def rms(values: NDArray[np.float64]) -> float:
    """Root mean square, in standard deviations."""
    return STEP_SIGMAS * float(np.sqrt(np.square(values).mean()))


@every_dtype
@pytest.mark.parametrize("width", [24, 64, 512, 1024])
@pytest.mark.parametrize("root_of_a_sum", [False, True])
def test_norms_of_normalised_rows(dtype: str, width: int, root_of_a_sum: bool) -> None:
    """Rows that torch normalises, as either generation of transformers does, have norm 1 within the bound."""
    import torch

    rows = stored(3 * normal(200, width), dtype)  # (rows, width)
    divisor = rows.pow(2).sum(-1, keepdim=True).pow(0.5) if root_of_a_sum else rows.norm(dim=-1, keepdim=True)
    unit = to_array(torch.div(rows, divisor))  # (rows, width)
    found = ratios(np.linalg.norm(unit, axis=-1), unit_norms(unit, Precision(dtype)))  # (rows,)
    assert found.max() < 1
    assert 0.5 < rms(found) < 1.6


@every_dtype
@pytest.mark.parametrize("width", [24, 64, 512, 1024])
@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_logits_from_embeddings(dtype: str, width: int, scale: float) -> None:
    """Logits that torch computes from unit embeddings are within the bound of their exact value."""
    drawn = (EXACT.normalize(normal(40, width, seed=seed) + 0.3) for seed in (1, 2))  # (rows, width)
    text, image = (stored(each, dtype) for each in drawn)
    exponent = stored(np.log(np.asarray(scale)), dtype)
    expected = logits_from_embeddings(to_array(text), to_array(image), float(exponent), Precision(dtype))
    found = ratios(text @ image.T * exponent.exp(), expected)  # (texts, images)
    assert found.max() < 1
    assert 0.2 < rms(found) < 1.6  # torch sums long rows in blocks, which errs less


@every_dtype
@pytest.mark.parametrize("count", [2, 4, 32])
@pytest.mark.parametrize("largest", [0.5, 20.0, 90.0])
def test_loss_from_logits(dtype: str, count: int, largest: float) -> None:
    """The loss that torch computes from logits is within the bound of the exact one."""
    found = []
    for seed in range(20):
        logits = stored(largest * np.tanh(normal(count, count, seed=seed)), dtype)  # (texts, images)
        found.append(ratios(_loss(logits), loss_from_logits(to_array(logits), Precision(dtype))))
    assert max(found) < 1
    assert 0.2 < rms(np.array(found)) < 1.6


@every_dtype
def test_a_loss_near_zero(dtype: str) -> None:
    """Where each text is sure of its image, torch stores a sum that is nearly 1 before it takes the logarithm."""
    logits = stored(np.array([[11.1875, -19.5], [1.0391, 11.875]]), dtype)  # (texts, images)
    assert ratios(_loss(logits), loss_from_logits(to_array(logits), Precision(dtype))) < 1


def _loss(logits: Any) -> Any:
    import torch
    from torch.nn.functional import cross_entropy

    targets = torch.arange(len(logits))  # (rows,)
    return (cross_entropy(logits, targets) + cross_entropy(logits.T, targets)) / 2


@pytest.mark.parametrize("what", ["norms", "logits", "loss"])
def test_bounds_grow_with_what_they_depend_on(what: str) -> None:
    """Coarser dtypes and TF32 never have a smaller bound."""
    unit = EXACT.normalize(normal(4, 64))  # (rows, width)

    def bound(precision: Precision) -> float:
        if what == "norms":
            return float(unit_norms(unit, precision).bound.max())
        expected = logits_from_embeddings(unit, unit, 4.6, precision)
        return float((expected if what == "logits" else loss_from_logits(expected.value, precision)).bound.max())

    fine, half, coarse = (bound(Precision(dtype)) for dtype in ("float32", "float16", "bfloat16"))
    assert fine < half < coarse
    if what == "logits":
        assert 10 * fine < bound(Precision("float32", tf32_products=True))
