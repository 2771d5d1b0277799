"""How a subject computes: dtype and TF32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clip_eval.verdict.budgets import (
    ROUNDING,
    SMALLEST_NORMAL,
    TF32_UNIT_ROUNDOFF,
    UNIT_ROUNDOFF,
)

__all__ = ["Array", "Precision"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Precision:
    """How a subject computes.

    Attributes:
        dtype: dtype of weights and activations.
        tf32_products: matrix products round float32 factors to TF32 (a CUDA setting).
        tf32_convolution: the same for the patch convolution, on by default in cuDNN.
    """

    dtype: str
    tf32_products: bool = False
    tf32_convolution: bool = False

    @property
    def stored(self) -> float:
        """Root mean square relative error of storing a value."""
        return ROUNDING * UNIT_ROUNDOFF[self.dtype]

    def storing(self, values: Array) -> Array:
        """Root mean square error of storing each finite value; 0 is exact.

        Below the normal numbers it stops shrinking. That is handled for float16 only; in other dtypes values hardly get
        so small.
        """
        sizes = np.abs(values)  # the shape of values
        if self.dtype == "float16":
            sizes = np.where(sizes > 0, np.maximum(sizes, SMALLEST_NORMAL["float16"]), 0.0)  # the shape of values
        sizes *= self.stored
        return sizes

    @property
    def internal(self) -> float:
        """Root mean square relative error of one float32 operation inside a kernel; half-precision kernels compute in
        float32.
        """
        return ROUNDING * UNIT_ROUNDOFF["float32"]

    @property
    def tf32_factor(self) -> float:
        """Root mean square relative error of rounding a factor of a product to TF32."""
        return ROUNDING * TF32_UNIT_ROUNDOFF
