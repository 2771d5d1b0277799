"""The leaf operations of CLIP in float64: everything that rounds, and nothing else.

The towers and the contrastive head compute with these methods only. A subclass that overrides them intercepts every
floating-point operation of the model; `clip_eval.oracle.rounding` injects errors that way.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from clip_eval.errors import CheckpointError
from clip_eval.families.reference.bicubic import cubic_weights, source_positions

__all__ = ["ACTIVATIONS", "EXACT", "Arithmetic", "Array", "Ids"]

Array = NDArray[np.float64]
Ids = NDArray[np.int64]


def _expit(x: Array) -> Array:
    from scipy.special import expit  # whoever reads a config alone need not wait for it

    return np.asarray(expit(x))


def _quick_gelu(x: Array) -> Array:
    """The sigmoid approximation x sigmoid(1.702 x) of Hendrycks & Gimpel 2016 (arXiv 1606.08415), section 2."""
    return np.multiply(x, _expit(1.702 * x))


def _gelu(x: Array) -> Array:
    """The definition x Phi(x), Phi the normal distribution function, of Hendrycks & Gimpel 2016, section 2."""
    from scipy.special import ndtr

    return np.multiply(x, ndtr(x))


def _gelu_tanh(x: Array) -> Array:
    """The tanh approximation of Hendrycks & Gimpel 2016, section 2."""
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


def _relu(x: Array) -> Array:
    return np.maximum(x, 0.0)


def _silu(x: Array) -> Array:
    """The SiLU, x sigmoid(x), of Hendrycks & Gimpel 2016, section 2."""
    return np.multiply(x, _expit(x))


def _selu(x: Array) -> Array:
    """The scaled exponential linear unit of Klambauer et al. 2017 (arXiv 1706.02515), equations 2 and 14."""
    alpha, factor = 1.6732632423543772, 1.0507009873554805
    # expm1 of a large positive x overflows, even where the result is not used
    return factor * np.where(x > 0.0, x, alpha * np.expm1(np.minimum(x, 0.0)))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": _gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "quick_gelu": _quick_gelu,
    "relu": _relu,
    "selu": _selu,
    "silu": _silu,
}


class Arithmetic:
    """The leaf operations, exact to float64 rounding. All arrays are float64; `...` stands for any leading axes.

    No method changes its operands. Additive attention masks hold -inf for forbidden keys, so `add` and `softmax`
    meet -inf; no other method does.
    """

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """The product x W^T, plus b. x (..., in), weight (out, in), bias (out,) or None; returns (..., out)."""
        # one product of two matrices: for a three-dimensional x NumPy would run a stack of small ones
        rows = x.reshape(-1, x.shape[-1]) @ weight.T  # (rows, out)
        if bias is not None:
            rows += bias  # (rows, out)
        return rows.reshape(*x.shape[:-1], weight.shape[0])

    def matmul(self, a: Array, b: Array) -> Array:
        """The matrix product over the last two axes. a (..., m, k), b (..., k, n); returns (..., m, n)."""
        product: Array = np.matmul(a, b)  # (..., m, n)
        return product

    def add(self, a: Array, b: Array) -> Array:
        """The elementwise sum with broadcasting: residuals, position embeddings, attention masks."""
        return np.asarray(np.add(a, b))

    def layer_norm(self, x: Array, weight: Array, bias: Array, eps: float) -> Array:
        """Layer normalisation over the last axis with the biased variance (Ba et al. 2016, arXiv 1607.06450, eq. 3).

        x (..., width), weight and bias (width,); returns (..., width). `eps` is added to the variance.
        """
        centred: Array = x - x.mean(axis=-1, keepdims=True)  # (..., width)
        variance: Array = np.square(centred).mean(axis=-1, keepdims=True)  # (..., 1)
        return centred / np.sqrt(variance + eps) * weight + bias

    def activation(self, x: Array, name: str) -> Array:
        """The activation that a config names in `hidden_act`, elementwise.

        Raises:
            CheckpointError: the oracle has no definition of `name`; the message lists those it has.
        """
        if name not in ACTIVATIONS:
            known = ", ".join(sorted(ACTIVATIONS))
            raise CheckpointError(f"unknown activation {name!r}", where="hidden_act", fix=f"Use one of {known}")
        return ACTIVATIONS[name](x)

    def softmax(self, scores: Array) -> Array:
        """The softmax over the last axis. scores (..., keys), with -inf where a key is forbidden; same shape returned.

        A forbidden key gets exactly 0. A row without any permitted key gets 0 everywhere: it attends to nothing.
        """
        powers = np.exp(scores - _peak(scores))  # (..., keys)
        total: Array = powers.sum(axis=-1, keepdims=True)  # (..., 1)
        return powers / np.where(total == 0.0, 1.0, total)

    def log_softmax(self, scores: Array) -> Array:
        """The logarithm of the softmax over the last axis. scores (..., classes), finite; same shape returned."""
        shifted: Array = scores - _peak(scores)  # (..., classes)
        total: Array = np.exp(shifted).sum(axis=-1, keepdims=True)  # (..., 1)
        return shifted - np.log(total)

    def scale(self, x: Array, factor: Array | float) -> Array:
        """Every element of x times one factor, a Python float or an array of shape ()."""
        return np.asarray(np.multiply(x, factor))

    def mean(self, x: Array) -> Array:
        """The mean of all elements, an array of shape ()."""
        return np.asarray(x.mean())

    def average(self, x: Array) -> Array:
        """The mean over the tokens. x (images, tokens, width); returns (images, width)."""
        return np.asarray(x.mean(axis=-2))

    def embedding(self, table: Array, ids: Ids) -> Array:
        """Rows of a table. table (rows, width), ids (...) int64 in [0, rows); returns (..., width)."""
        return table[ids]

    def patches(self, pixel_values: Array, weight: Array) -> Array:
        """The patch embedding: a convolution without bias whose stride is its kernel size, so one linear map a patch.

        pixel_values (images, channels, height, width), weight (width_out, channels, patch, patch); returns
        (images, patches, width_out), patches row by row from the top left. Pixels right of and below the last whole
        patch are dropped. Source: Dosovitskiy et al. 2020 (arXiv 2010.11929), section 3.1, equation 1.
        """
        images, channels, height, width = pixel_values.shape
        out, _, patch, _ = weight.shape
        rows, columns = height // patch, width // patch
        whole = pixel_values[:, :, : rows * patch, : columns * patch]  # (images, channels, rows*patch, columns*patch)
        grid = whole.reshape(images, channels, rows, patch, columns, patch).transpose(0, 2, 4, 1, 3, 5)
        flat = grid.reshape(images * rows * columns, channels * patch * patch)  # (images*patches, pixels of a patch)
        return (flat @ weight.reshape(out, -1).T).reshape(images, rows * columns, out)

    def resize(self, grid: Array, rows: int, columns: int) -> Array:
        """Bicubic interpolation. grid (rows_in, columns_in, width); returns (1, rows, columns, width).

        The first axis is for subclasses whose results differ from run to run. Source: see `bicubic`.
        """
        by_row = cubic_weights(source_positions(grid.shape[0], rows), grid.shape[0])  # (rows, rows_in)
        by_column = cubic_weights(source_positions(grid.shape[1], columns), grid.shape[1])  # (columns, columns_in)
        return np.asarray(np.einsum("ra,cb,abw->rcw", by_row, by_column, grid)[None])

    def normalize(self, x: Array) -> Array:
        """Each x divided by its Euclidean length over the last axis; NaN for a zero vector, which has no direction."""
        length: Array = np.sqrt(np.square(x).sum(axis=-1, keepdims=True))  # (..., 1)
        with np.errstate(invalid="ignore"):  # the NaN is wanted: no warning
            return x / length

    def exp(self, x: Array) -> Array:
        """The exponential, elementwise; an array of the same shape."""
        return np.asarray(np.exp(x))


def _peak(scores: Array) -> Array:
    """The largest score of each row, (..., 1), which keeps exp from overflowing; 0 where every score is -inf."""
    peak: Array = scores.max(axis=-1, keepdims=True)  # (..., 1)
    return np.where(np.isneginf(peak), 0.0, peak)


EXACT = Arithmetic()
