"""Every tolerance of the project, with its reason. No other file states how much a number may differ.

How a budget for the model's outputs is made:

1. Expected values are computed in float64 from weights and inputs that were first rounded to the subject's dtype, so
   a budget covers only the rounding of the computation itself.
2. Each leaf operation (matrix product, layer norm, softmax, ...) commits a local error whose standard deviation
   follows from the dtype's unit roundoff u and the size of its operands. A sum of products rounds at each addition,
   relative to the running sum (Higham and Mary, A New Approach to Probabilistic Rounding Error Analysis, 2019);
   storing the result adds u * |y|. `clip_eval.oracle.rounding` writes these down.
3. How much the rest of the network amplifies a local error depends on the weights, so it is measured, not guessed:
   the oracle runs a few more times with errors of exactly that size injected after every leaf, and the spread of each
   output is its standard deviation.
4. The bound of an element is `SIGMAS` of these standard deviations.

Only the constants below are calibrated; `tests/verdict/test_budgets.py` holds them to healthy models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = [
    "COPIES",
    "ERF_ERROR",
    "FORCED_COPIES",
    "FORCED_SIGMAS",
    "OTHER_RESIZE",
    "PARTIAL_SUMS",
    "ROUNDING",
    "SIGMAS",
    "SMALLEST_NORMAL",
    "SPEED_MARGIN_AGAINST_PACK",
    "SPEED_MARGIN_IN_RUN",
    "STEP_COPIES",
    "STEP_SIGMAS",
    "TF32_UNIT_ROUNDOFF",
    "UNIT_ROUNDOFF",
    "VECTOR_LANES",
    "Budget",
    "kept_memory",
    "pixels",
    "real_resize",
    "sample",
    "slope",
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
"""Places at which the running sum of a product is sampled. On torch's CPU kernels, the root mean square
error of a convolution of 192 to 3072 terms is 0.30 u sqrt(k) times the root of the summed squares, where independent
terms give ROUNDING / sqrt(2) = 0.30. Matrix products of more than about 512 terms do better, since kernels sum them in
blocks.
"""

COPIES = 16
"""Perturbed runs of the oracle behind one standard deviation, which is pooled over rows and channels besides."""

ERF_ERROR = 1.8e-7
"""Absolute error of erf and tanh near -1: that of the rational approximation that torch's vector code takes (Abramowitz
and Stegun, Handbook of Mathematical Functions, 7.1.26: 1.5e-7), and four float32 roundings of its terms.
"""

FORCED_COPIES = 8
"""The same where each module is given exact inputs: most points then have one source of error, whose size a single run
shows; only attention mixes several.
"""

SIGMAS = 10.0
"""Bound in standard deviations. An array of ten million Gaussian elements stays below 5.3, and a single rounding error
can reach 2.4 of its own (a mantissa near 1). Where the error of a whole row comes from one number, the row is as good
as its `COPIES` samples, Student-t with 16 degrees of freedom: beyond 10 with a probability of 3e-8.
"""

FORCED_SIGMAS = 16.0
"""The same for a value that a single module computed from exact inputs. No network mixes many errors into a Gaussian
one, and a running sum can move between the sampled places: the tails are wider. Measured 7.6 at worst in 20 million
elements of a random model of 151 million parameters, 5.8 on small ones. A scale that is off by a thousandth
gives hundreds.
"""

STEP_SIGMAS = 6.0
"""The same for what follows in a few operations from the output's own numbers: norms, logits, the loss. There are
hundreds of elements at most, and their standard deviation is derived instead of sampled: a Gaussian one exceeds 6 with
a probability of 2e-9.
"""

STEP_COPIES = 64
"""Runs behind the standard deviation of the loss, the one of them that is sampled, from these few operations alone:
Student-t with 64 degrees of freedom, beyond 6 with a probability of 1e-7.
"""

VECTOR_LANES = 8
"""Partial sums in which kernels add up a row: torch's vectors are 256 bits wide on every CPU, and a GPU takes more."""

SPEED_MARGIN_IN_RUN = 0.02
"""The slow-down that passes when subject and reference are timed in turns in one run. Two copies of one model differ by
less, from where their weights are in memory.
"""

SPEED_MARGIN_AGAINST_PACK = 0.10
"""The same against the ratio of another day on the same kind of machine: other memory, clock and neighbours change the
ratio of two programs by some per cent.
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


def slope(relative: float, size: float) -> Budget:
    """How far a derivative, the sum of gradients times random signs, may be from the reference's.

    Args:
        relative: root mean square rounding error of the states, relative to each.
        size: root of the summed squares of the products, which is how large a sum of so many random signs gets.

    The gradient is made of the forward pass's states, and of two products for each of its own, over as many terms:
    thrice the variance of the forward pass. With random signs, the errors of the products add up as the products do.
    """
    rule = f"slope: {STEP_SIGMAS:g} * sqrt(3) * relative error of the states * size"
    return Budget(rule, STEP_SIGMAS * 3**0.5 * relative * size)


def sample(spread: float, count: int) -> tuple[Budget, Budget]:
    """How far the mean and the standard deviation of normally distributed values may be from 0 and from `spread`.

    Args:
        spread: their true standard deviation.
        count: how many are drawn. The standard deviation of the mean is spread / sqrt(count), and that of the sample's
            standard deviation spread / sqrt(2 * count).
    """
    mean = Budget(f"mean of a sample: {STEP_SIGMAS:g} * spread / sqrt(count)", STEP_SIGMAS * spread / count**0.5)
    rule = f"spread of a sample: {STEP_SIGMAS:g} * spread / sqrt(2 * count)"
    return mean, Budget(rule, STEP_SIGMAS * spread / (2 * count) ** 0.5)


def kept_memory() -> Budget:
    """The MB that a call may keep for good, as the least of several blocks of calls.

    A healthy call keeps nothing. A heap that grows once, or is returned late, shows in one block and not in all. What
    is left is the resolution, pages of 4 KB over a block of calls, far below a hundredth of the bound.
    """
    return Budget("memory kept: 0.25 MB a call, in each of the blocks of calls", 0.25)


def pixels(mean: tuple[float, ...], std: tuple[float, ...], *, levels: float = 0, scale: float = 1.0) -> Budget:
    """How far a normalised pixel may be from (value * factor - mean) / std.

    Five float32 roundings (the factor, the product, mean and std as float32, the difference, the quotient) of values
    of at most `scale` before the division; `levels` of 255 levels more where a backend resizes with other arithmetic
    than Pillow, see `OTHER_RESIZE` and `real_resize`.

    Args:
        mean: one value a channel.
        std: the same.
        levels: differences of the resized levels, in units of 1 of 0..255.
        scale: what 255 becomes: 255 times the rescale factor.
    """
    smallest = min(std)
    largest = max(*(abs(value) for value in mean), scale)
    rounding = 6 * UNIT_ROUNDOFF["float32"] * (largest + max(abs(value) for value in mean)) / smallest
    bound = rounding + levels * scale / 255 / smallest
    return Budget(f"pixels: 6 u(float32) * (scale + mean) / std + {levels:.3g} of 255 levels", bound)


OTHER_RESIZE = 2
"""Levels by which another resize of uint8 pictures than Pillow's may differ. Both filter rows, round to uint8, filter
columns and round again, with weights rounded to 22 bits by Pillow and to about 15 by torch. Before rounding a pass
differs by a small part of a level, so after it by at most one; the second pass multiplies that by the sum of its
absolute weights, at most 1.25 for a cubic with a = -1/2 (Keys 1981), adds its own small part, and rounds: at most two.
"""


def real_resize(height: int, width: int) -> float:
    """How far levels resized as real numbers may differ, in units of 1 of 0..255.

    Kernels compute in float32 where an output pixel lies among height or width inputs: the factor rounds relative to
    itself, its product with the pixel's number by half the gap between numbers of that size. A cubic with a = -1/2
    through levels of 0 and 255 in turns, the steepest, rises by 1.5 * 255 a pixel; the absolute values of its weights
    sum up to 1.25 (Keys 1981), in the other pass, too. Each pass then sums products with four stored weights (Higham
    2002, section 3.1); a cubic that reduces spans more, and is as much less steep.
    """
    positions = sum(size + 2.0 ** math.floor(math.log2(size)) for size in (height, width)) * 1.5 * 1.25
    sums = 2 * (4 + 2) * 1.25**2
    return (positions + sums) * UNIT_ROUNDOFF["float32"] * 255
