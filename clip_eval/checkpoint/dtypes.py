"""The stored dtypes that values are rounded to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["ROUNDED_DTYPES", "round_values"]

ROUNDED_DTYPES = ("bfloat16", "float16", "float32")
"""The dtypes that a model can be run in, and that values can be rounded to."""


def round_values(values: NDArray[np.float32] | NDArray[np.float64], dtype: str) -> NDArray[np.float32]:
    """Values rounded to the nearest number of `dtype`, ties to even, held in float32; too large ones become infinite.

    float64 goes through float32 on its way to a narrower dtype, as it does in torch.

    Args:
        values: any shape.
        dtype: one of `ROUNDED_DTYPES`.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        single = np.asarray(values, dtype=np.float32)  # the shape of values
        if dtype == "float16":
            return single.astype(np.float16).astype(np.float32)
    return _round_to_bfloat16(single) if dtype == "bfloat16" else single


def _round_to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """bfloat16 is the upper half of a float32: add just under half a unit, and one more where the unit is odd."""
    bits = values.reshape(-1).view(np.uint32)  # (values,)
    odd = (bits >> np.uint32(16)) & np.uint32(1)  # (values,)
    rounded = ((bits + np.uint32(0x7FFF) + odd) & np.uint32(0xFFFF0000)).view(np.float32)  # (values,)
    # The sum would carry a NaN over into a number.
    return np.where(np.isnan(values), np.float32("nan"), rounded.reshape(values.shape))
