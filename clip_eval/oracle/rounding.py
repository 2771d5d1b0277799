"""Rounding errors of a CLIP: the oracle's arithmetic with random errors of the right size after every leaf operation.

The oracle runs once exactly and `COPIES` times here, all copies in one batch (copy-major: row r of copy c is row c *
rows + r). The standard deviation of each output element over the copies is that of its rounding error: local errors are
derived (see `clip_eval.verdict.budgets`), their amplification by the network is measured on this very checkpoint and
input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from clip_eval.families.reference.bicubic import cubic_weights, source_positions
from clip_eval.oracle import Arithmetic
from clip_eval.oracle.precision import Array, Precision
from clip_eval.verdict.budgets import (
    ERF_ERROR,
    PARTIAL_SUMS,
)

__all__ = ["RoundingArithmetic", "error_variance", "pooled_deviation", "standard_deviation", "tile"]

_Scalar = TypeVar("_Scalar", bound=np.generic)

_LARGE_VALUES = 1 << 18
"""Of a matrix that is multiplied in float32: 512 x 512."""

_WIDE = 2048
"""Width from which an activation is evaluated for one copy only; that of the smallest CLIP's text tower."""

_CANCELLING = ("gelu", "gelu_new", "gelu_pytorch_tanh")


@dataclass(slots=True)
class RoundingArithmetic(Arithmetic):
    """`Arithmetic` with an error of the size that `precision` implies in every result.

    Errors are random signs times their standard deviation, so that even a mean over few copies has the right size.
    Copies differ by rounding errors, so the size of an error is computed from the first copy, for all of them.
    """

    precision: Precision
    copies: int
    generator: np.random.Generator = field(default_factory=lambda: np.random.Generator(np.random.PCG64(7)))

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """Product with weight.T and bias: accumulation, TF32 and storage errors."""
        in_two = self.copies > 1 and _is_large(weight)
        exact = self._linear(x, weight, bias) if in_two else Arithmetic.linear(self, x, weight, bias)
        return self._product(exact, self._first(x), weight.T, tf32=self.precision.tf32_products)

    def patches(self, pixel_values: Array, weight: Array) -> Array:
        """The patch convolution: a product over channels * patch * patch terms, channel by channel."""
        exact = Arithmetic.patches(self, pixel_values, weight)
        columns = weight.reshape(len(weight), -1).T  # (channels * patch * patch, width)
        # convolution with the identity puts the pixels of each patch in a row
        identity = np.eye(len(columns)).reshape(-1, *weight.shape[1:])
        flat = Arithmetic.patches(
            self, self._first(pixel_values), identity
        )  # (images, patches, channels * patch * patch)
        return self._product(exact, flat, columns, tf32=self.precision.tf32_convolution, channels=weight.shape[1])

    def matmul(self, a: Array, b: Array) -> Array:
        """Batched product, such as scores and attention-weighted values."""
        exact = Arithmetic.matmul(self, a, b)
        return self._product(exact, self._first(a), self._first(b), tf32=self.precision.tf32_products)

    def add(self, a: Array, b: Array) -> Array:
        """A sum, stored. Infinite entries are masks and carry no error."""
        exact = Arithmetic.add(self, a, b)
        if not np.isneginf(b).any():
            return self._stored(exact)
        allowed = np.isfinite(exact)  # the shape of the sum
        return np.where(allowed, self._stored(np.where(allowed, exact, 0.0)), exact)

    def scale(self, x: Array, factor: Array | float) -> Array:
        """A product with a constant, stored."""
        return self._stored(Arithmetic.scale(self, x, factor))

    def layer_norm(self, x: Array, weight: Array, bias: Array, eps: float) -> Array:
        """Statistics in float32. The error of the mean is proportional to the row's largest values, which cancel in it.
        One error of mean and deviation is shared by the row, four operations have errors of their own; stored.
        """
        exact = Arithmetic.layer_norm(self, x, weight, bias, eps)
        first = self._first(x)  # (rows, ..., width)
        mean = first.mean(axis=-1, keepdims=True)  # (rows, ..., 1)
        size = np.sqrt((first**2).mean(axis=-1, keepdims=True))  # (rows, ..., 1)
        slope = weight / np.sqrt(first.var(axis=-1, keepdims=True) + eps)  # (rows, ..., width)
        centred = first - mean  # (rows, ..., width)
        one_a_row = (len(x) // len(first), *mean.shape)  # (copies, rows, ..., 1)
        shared = self._signs(one_a_row) * (size * slope)  # (copies, rows, ..., width)
        shared += self._signs(one_a_row) * (centred * slope)
        inner = (4 * np.abs(centred) + np.abs(mean)) * np.abs(slope)  # (rows, ..., width)
        own = np.hypot(self.precision.internal * inner, self.precision.storing(self._first(exact)))
        shared *= self.precision.internal
        exact += shared.reshape(x.shape)
        return self._noisy(exact, own)

    def activation(self, x: Array, name: str) -> Array:
        """Up to three stored roundings: the argument, which the slope amplifies, and the factors of the result."""
        if self.copies > 1 and x.shape[-1] >= _WIDE:
            return self._activation_of_copies(x, name)
        exact = Arithmetic.activation(self, x, name)
        return self._noisy(exact, self._activation_error(x, exact, name))

    def _activation_of_copies(self, x: Array, name: str) -> Array:
        """The activation of all copies, of which only the first is evaluated: the others differ from it by rounding
        errors, which the slope at the first one amplifies.
        """
        copies = x.reshape(self.copies, -1, *x.shape[1:])  # (copies, rows, ..., width)
        first, step = copies[0], 1e-4  # (rows, ..., width)
        value, above, below = (Arithmetic.activation(self, first + away, name) for away in (0.0, step, -step))
        exact = copies - first  # (copies, rows, ..., width)
        exact *= (above - below) / (2 * step)
        exact += value
        return self._noisy(exact, self._activation_error(first, value, name)).reshape(x.shape)

    def _activation_error(self, x: Array, exact: Array, name: str) -> Array:
        """Root mean square error of an activation.

        GELU multiplies x / 2 by 1 + erf or 1 + tanh, which cancel where x is negative: the error of erf, as large as
        elsewhere, is then all there is.
        """
        step = 1e-6
        slope = (Arithmetic.activation(self, x * (1 + step), name) - exact) / step  # (...), x times the derivative
        stored = self.precision.stored * np.hypot(slope, 2 * exact)  # (...)
        return np.hypot(stored, ERF_ERROR * x / 2) if name in _CANCELLING else stored

    def softmax(self, scores: Array) -> Array:
        """Computed in float32: the shifted score as argument of exp, three roundings of the quotient; then stored."""
        exact = Arithmetic.softmax(self, scores)
        first, weights = self._first(scores), self._first(exact)  # (rows, ..., keys)
        shift = first.max(axis=-1, keepdims=True) - first  # (rows, ..., keys), infinite where masked
        reach = np.where(np.isfinite(shift), shift, 0.0) + 3.0  # (rows, ..., keys)
        return self._noisy(exact, np.hypot(self.precision.internal * reach * weights, self.precision.storing(weights)))

    def log_softmax(self, scores: Array) -> Array:
        """Computed in float32: the shifted score, and the logarithm of the sum, each within a few roundings. The sum
        and the result are stored; an error of the sum, relative to it, is an absolute one of its logarithm.
        """
        exact = Arithmetic.log_softmax(self, scores)
        inner = self.precision.internal * 3 * (np.abs(exact) + 1)  # (..., classes)
        return self._noisy(exact, np.sqrt(inner**2 + self.precision.stored**2 + self.precision.storing(exact) ** 2))

    def resize(self, grid: Array, rows: int, columns: int) -> Array:
        """Source positions in float32, a rounding each for factor, product and difference; coefficients and the result
        of both passes stored. One result a copy, (copies, rows, columns, width), as the errors of a position are shared
        by all channels of all images.
        """
        grids = []
        for _ in range(self.copies):
            by_row = self._coefficients(grid.shape[0], rows)  # (rows, rows_in)
            by_column = self._coefficients(grid.shape[1], columns)  # (columns, columns_in)
            grids.append(np.einsum("ra,cb,abw->rcw", by_row, by_column, grid))
        exact = np.stack(grids)  # (copies, rows, columns, width)
        return self._noisy(exact, np.sqrt(2) * self.precision.storing(exact))

    def _coefficients(self, inputs: int, outputs: int) -> Array:
        exact = source_positions(inputs, outputs)  # (outputs,)
        positions = self._noisy(exact, math.sqrt(3) * self.precision.internal * (exact + 0.5))  # (outputs,)
        weights = cubic_weights(positions, inputs)  # (outputs, inputs), of one copy
        return self._noisy(weights, self.precision.storing(weights))

    def mean(self, x: Array) -> Array:
        """A mean of numbers in a row, whose running sum is stored at each term, as in torch's losses; stored."""
        exact = np.asarray(Arithmetic.mean(self, x))
        summed = np.square(np.cumsum(x)).sum() / x.size**2
        return self._noisy(exact, np.sqrt(self.precision.stored**2 * summed + self.precision.storing(exact) ** 2))

    def average(self, x: Array) -> Array:
        """A mean over the tokens, whose running sum is rounded in float32 at each of them; stored."""
        exact = np.asarray(Arithmetic.average(self, x))
        summed = np.square(np.cumsum(x, axis=-2)).sum(axis=-2) / x.shape[-2] ** 2  # (images, width)
        return self._noisy(exact, np.sqrt(self.precision.internal**2 * summed + self.precision.storing(exact) ** 2))

    def normalize(self, x: Array) -> Array:
        """Division by the L2 norm: one error shared by the row (the norm, rounded twice), one for each element."""
        exact = Arithmetic.normalize(self, x)
        shared = self._signs(exact.shape[:-1])[..., None]  # (..., 1)
        return self._stored(exact * (1 + 2 * self.precision.stored * shared))

    def exp(self, x: Array) -> Array:
        """Exponential of a stored number, within two roundings."""
        exact = np.asarray(Arithmetic.exp(self, x))
        return self._noisy(exact, 2 * self.precision.stored * exact)

    def _first(self, x: Array) -> Array:
        """The rows of the first copy; sizes of operands hardly differ between copies."""
        return x[: x.shape[0] // self.copies] if x.ndim > 1 and x.shape[0] % self.copies == 0 else x

    def _linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """The linear layer of all copies. They differ by rounding errors: in float64 the first one is multiplied, and
        how far the others are from it in float32, which is twice as fast and right to a millionth of an error.
        """
        copies = x.reshape(self.copies, -1, x.shape[-1])  # (copies, rows, in)
        first = Arithmetic.linear(self, copies[0], weight, bias)  # (rows, out)
        away = np.empty(copies.shape, dtype=np.float32)  # (copies, rows, in)
        np.subtract(copies, copies[0], out=away, casting="same_kind")  # in float64, rounded afterwards
        products = (away.reshape(-1, x.shape[-1]) @ weight.T.astype(np.float32)).reshape(
            self.copies, *first.shape
        )  # (copies, rows, out)
        return np.asarray(products + first).reshape(*x.shape[:-1], len(weight))

    def _product(self, exact: Array, a: Array, b: Array, *, tf32: bool, channels: int = 1) -> Array:
        """Accumulate in float32, one rounding a term; round the factors to TF32 where the device does; store.

        Args:
            exact: (copies * rows, ..., n), the product.
            a: (rows, ..., k), the left factor of one copy.
            b: (..., k, n), the right factor.
            tf32: factors are rounded to TF32.
            channels: of a convolution. Kernels sum channel by channel or pixel by pixel; the worse order counts.
        """
        squares = _squared_partial_sums(a, b)  # (rows, ..., n)
        if channels > 1:
            by_pixel = np.arange(a.shape[-1]).reshape(channels, -1).T.ravel()  # (k,)
            squares = np.maximum(squares, _squared_partial_sums(a[..., by_pixel], b[by_pixel]))  # (rows, ..., n)
        variance = (self.precision.internal**2) * squares  # (rows, ..., n)
        if tf32:
            variance = variance + 2 * self.precision.tf32_factor**2 * np.matmul(a**2, b**2)
        storing = self.precision.storing(exact[: len(variance)])  # (rows, ..., n)
        return self._noisy(exact, np.sqrt(variance + storing**2))

    def _stored(self, exact: Array) -> Array:
        return self._noisy(exact, self.precision.storing(self._first(exact)))

    def _noisy(self, exact: Array, std: Array) -> Array:
        """`exact` (copies * rows, ...) with errors of the deviation `std`, of all copies or of the first, (rows,
        ...).
        """
        noise = self._signs(exact.shape).reshape(-1, *std.shape) * std  # (copies, rows, ...)
        noise = noise.reshape(exact.shape)
        noise += exact
        return noise

    def _signs(self, shape: tuple[int, ...]) -> NDArray[np.int8]:
        """Random signs; of one byte each, since memory takes most of the time of large arrays."""
        count = math.prod(shape)
        packed = np.frombuffer(self.generator.bytes(count // 8 + 1), dtype=np.uint8)  # (count / 8 + 1,)
        signs = np.unpackbits(packed, count=count).view(np.int8)  # (count,)
        signs *= 2
        signs -= 1
        return signs.reshape(shape)


def _squared_partial_sums(a: Array, b: Array) -> Array:
    """Sum over the k terms of each product of the squared partial sum up to there: (..., m, k) and (..., k, n) to (...,
    m, n).

    Each addition rounds the running sum, so the variance of the accumulated error is this times that of one rounding.
    The running sums are sampled at `PARTIAL_SUMS` places. They matter: in trained weights neighbouring terms agree in
    sign, and a sum can go far from zero and come back.
    """
    if b.ndim == 2 and _is_large(b):  # these are sizes of errors: float32 is enough
        a, b = a.astype(np.float32), b.astype(np.float32)
    total: NDArray[Any] = np.zeros((), a.dtype)
    squares: NDArray[Any] = np.zeros((), a.dtype)
    for terms in np.array_split(np.arange(a.shape[-1]), min(PARTIAL_SUMS, a.shape[-1])):
        part = slice(terms[0], terms[-1] + 1)
        total = total + np.matmul(a[..., part], b[..., part, :])  # (..., m, n)
        squares = squares + len(terms) * total**2  # (..., m, n)
    return np.asarray(squares, dtype=np.float64)


def _is_large(weight: Array) -> bool:
    """Whether a product with this matrix costs so much that half of it is worth the conversions to float32."""
    return weight.size >= _LARGE_VALUES


def tile(x: NDArray[_Scalar], copies: int) -> NDArray[_Scalar]:
    """Repeat the rows of a batch copy after copy: (rows, ...) to (copies * rows, ...)."""
    return np.concatenate([x] * copies)


def error_variance(exact: Array, perturbed: Array, copies: int, *, scale: Array | None = None) -> Array:
    """Mean square of each element's rounding error over the copies, in units of `scale` squared.

    Args:
        exact: (rows, ..., channels) float64.
        perturbed: (copies * rows, ..., channels) float64.
        copies: perturbed runs in `perturbed`.
        scale: what errors are proportional to, of the shape of `exact`; one for all by default.

    Returns:
        (rows, ..., channels) float64.
    """
    errors = perturbed.reshape(copies, *exact.shape) - exact  # (copies, rows, ..., channels)
    return np.asarray(((errors if scale is None else errors / scale) ** 2).mean(axis=0))


def pooled_deviation(variance: Array) -> Array:
    """Standard deviation of each element's rounding error, from mean squares over few copies.

    A few copies estimate one element badly, so two estimates are combined and the larger one taken: the element's
    own, and the product of its row's and its channel's share (exact where errors are large in some positions and some
    channels, as the outlier channels of real CLIPs are). Elements without any error, such as masked attention
    weights, do not dilute the others.

    Args:
        variance: (rows, ..., channels) float64.
    """
    if variance.ndim < 2 or not variance.any():
        return np.asarray(np.sqrt(variance))
    live = variance > 0  # (rows, ..., channels)
    leading = tuple(range(variance.ndim - 1))
    row = variance.mean(axis=-1, keepdims=True, where=live | ~live.any(axis=-1, keepdims=True))  # (rows, ..., 1)
    channel = variance.mean(axis=leading, where=live | ~live.any(axis=leading))  # (channels,)
    shared = row * channel / variance.mean(where=live)  # (rows, ..., channels)
    return np.asarray(np.sqrt(np.maximum(variance, shared)))


def standard_deviation(exact: Array, perturbed: Array, copies: int) -> Array:
    """Standard deviation of each element's rounding error: `pooled_deviation` of `error_variance`."""
    return pooled_deviation(error_variance(exact, perturbed, copies))
