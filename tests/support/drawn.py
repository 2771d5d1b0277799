"""Numbers to try arithmetic on: drawn in float64, and as a tensor of another dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def normal(*shape: int, seed: int = 0) -> NDArray[np.float64]:
    """Normal numbers."""
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)


def stored(array: NDArray[np.float64], dtype: str) -> Any:
    """The array as a tensor of `dtype`."""
    import torch

    return torch.tensor(array).to(getattr(torch, dtype))
