"""The dtypes of floating-point tensors: their NumPy types, their codes in a safetensors file, and rounding to them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

__all__ = ["CODES", "NUMPY_DTYPES", "ROUNDED_DTYPES", "round_values"]

NUMPY_DTYPES: Mapping[str, np.dtype[np.generic]] = MappingProxyType({
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype("<f2"),
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
})  # fmt: skip
"""The dtypes that weights are stored in."""

CODES: Mapping[str, str] = MappingProxyType({
    "bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"
})  # fmt: skip
"""Their names in a safetensors file."""

ROUNDED_DTYPES = ("bfloat16", "float16", "float32")
"""The dtypes that a model can run in and values can be rounded to, from the fewest significant bits to the most.
"""


def round_values(values: NDArray[np.float32] | NDArray[np.float64], dtype: str) -> NDArray[np.float32]:
    """Values rounded to the nearest number of `dtype`, ties to even, held in float32; too large ones become infinite.

    float64 goes through float32 on its way to a narrower dtype, as it does in torch.

    Args:
        values: any shape.
        dtype: one of `ROUNDED_DTYPES`.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        single = np.asarray(values, dtype=np.float32)  # the shape of values
        return single if dtype == "float32" else single.astype(NUMPY_DTYPES[dtype]).astype(np.float32)
