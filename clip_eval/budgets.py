"""Every tolerance of the project, each with its reason. Nothing else states how much a number may differ.

How a budget for the model's outputs comes about:

1. Expected values are computed in float64 from weights and inputs that were first rounded to the subject's dtype, so
   a budget covers only the rounding of the computation itself.
2. Each leaf operation (matrix product, layer norm, softmax, ...) commits a local error whose standard deviation
   follows from the dtype's unit roundoff u and the size of its operands. A sum of products rounds at each addition,
   relative to the running sum (Higham and Mary, A New Approach to Probabilistic Rounding Error Analysis, 2019);
   storing the result adds u * |y|. `clip_eval.rounding` writes these down.
3. How much the rest of the network amplifies a local error depends on the weights, so it is measured, not guessed:
   the oracle runs a few more times with errors of exactly that size injected after every leaf, and the spread of each
   output is its standard deviation.
4. The bound of an element is `SIGMAS` of these standard deviations.

Only the constants below are calibrated; `tests/test_budgets.py` holds them to healthy models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = [
    "COPIES",
    "PARTIAL_SUMS",
    "ROUNDING",
    "SIGMAS",
    "SMALLEST_NORMAL",
    "TF32_UNIT_ROUNDOFF",
    "UNIT_ROUNDOFF",
    "Budget",
    "loss_from_logits",
    "pixels",
    "recomputed_logits",
    "unit_norm",
]

UNIT_ROUNDOFF: Mapping[str, float] = MappingProxyType({"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8})
"""Largest relative error of rounding to nearest: half the gap between 1 and the next number (IEEE 754-2019; bfloat16
keeps 8 bits).
"""

SMALLEST_NORMAL: Mapping[str, float] = MappingProxyType(
    {"float32": 2.0**-126, "float16": 2.0**-14, "bfloat16": 2.0**-126}
)
"""Below it the gap between numbers stays as it is (IEEE 754-2019); float16 attention weights get there."""

TF32_UNIT_ROUNDOFF = 2.0**-11
"""TF32 keeps 11 significant bits of each factor of a product (NVIDIA A100 whitepaper); sums stay in float32."""

ROUNDING = 0.42
"""Root mean square of a rounding error in units of u|y|. With mantissas spread log-uniformly it is 0.41 to 0.43;
measured 0.42 on torch's bfloat16 and float16 linear layers.
"""

PARTIAL_SUMS = 8
"""Places at which the running sum of a product is looked at. Measured on torch's CPU kernels, the root mean square
error of a convolution of 192 to 3072 terms is 0.30 u sqrt(k) times the root of the summed squares, where independent
terms give ROUNDING / sqrt(2) = 0.30. Matrix products of more than about 512 terms do better, since kernels sum them in
blocks.
"""

COPIES = 16
"""Perturbed runs of the oracle behind one standard deviation, which is pooled over rows and channels besides."""

SIGMAS = 10.0
"""Bound in standard deviations. An array of ten million Gaussian elements stays below 5.3, and a single rounding error
can reach 2.4 of its own (a mantissa near 1). Where the error of a whole row comes from one number, the row is as good
as its `COPIES` samples, Student-t with 16 degrees of freedom: beyond 10 with a probability of 3e-8.
"""


@dataclass(frozen=True, slots=True)
class Budget:
    """A bound and the rule behind it.

    Attributes:
        rule: the rule in words, as reports print it.
        bound: largest absolute error that passes, a scalar that holds for every element.
    """

    rule: str
    bound: float


def unit_norm(dtype: str, width: int) -> Budget:
    """How far the L2 norm of a normalised embedding of `width` elements may be from 1.

    Each stored element errs by u relative to itself, which moves the norm by at most u. The norm divided by was
    itself computed with a sum of `width` squares in at least float32 and stored in `dtype` twice (the sum and its
    root): half of u, and u.
    """
    u = UNIT_ROUNDOFF[dtype]
    return Budget(f"unit norm, {dtype}: 2.5 u + width * u(float32)", 2.5 * u + width * UNIT_ROUNDOFF["float32"])


def recomputed_logits(dtype: str, width: int, scale: float, *, tf32: bool = False) -> Budget:
    """How far logits may be from scale * text_embeds @ image_embeds.T, both taken from the output itself.

    With unit embeddings the sum of |t_i v_i| is at most 1, so a product errs by at most width * u(float32) (Higham,
    Accuracy and Stability of Numerical Algorithms, 2002, section 3.1), plus three stored roundings: the product, the
    exponential of the scale (whose argument, up to 4.6, is exact), and their product. All are relative to values of
    at most `scale`. TF32 products round both factors first.
    """
    u = UNIT_ROUNDOFF[dtype]
    relative = 3 * u + (width + 1) * UNIT_ROUNDOFF["float32"] + (2 * TF32_UNIT_ROUNDOFF if tf32 else 0.0)
    rule = f"logits from embeddings, {dtype}{', TF32' if tf32 else ''}: (3 u + (width + 1) u(float32)) * scale"
    return Budget(rule, relative * scale)


def loss_from_logits(dtype: str, count: int, largest_logit: float) -> Budget:
    """How far the loss may be from the mean of the two cross entropies of the returned logits, of `count` rows each.

    A log-softmax row errs by about u times its largest logit (the subtraction of the maximum) plus u(float32) a
    summed term; storing the row, the mean of either direction and their mean each add a rounding of values no larger
    than twice the largest logit.
    """
    u = UNIT_ROUNDOFF[dtype]
    bound = 8 * u * max(largest_logit, 1.0) + 2 * count * UNIT_ROUNDOFF["float32"] * max(largest_logit, 1.0)
    return Budget(f"loss from logits, {dtype}: (8 u + 2 count u(float32)) * max(largest logit, 1)", bound)


def pixels(mean: tuple[float, ...], std: tuple[float, ...], *, levels: int = 0) -> Budget:
    """How far a normalised pixel may be from (value / 255 - mean) / std.

    Five float32 roundings (the factor 1/255, the product, mean and std as float32, the difference, the quotient) of
    values of at most 1 before the division; `levels` uint8 levels more where a backend resizes with other arithmetic
    than Pillow (torchvision: 1).
    """
    smallest = min(std)
    largest = max(*mean, 1.0)
    bound = 6 * UNIT_ROUNDOFF["float32"] * (largest + max(mean)) / smallest + levels / 255 / smallest
    return Budget(f"pixels: 6 u(float32) * (1 + mean) / std + {levels} uint8 levels", bound)
