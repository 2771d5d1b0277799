"""Cubic convolution interpolation, which resizes position embeddings for images of another size.

Source: Keys 1981, Cubic Convolution Interpolation for Digital Image Processing, equation 15.

The free parameter is -0.75, pixel centres lie at halves, and samples beyond the border repeat the outermost one, as
documented for `torch.nn.functional.interpolate(mode="bicubic", align_corners=False)`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["cubic_weights", "source_positions"]

Array = NDArray[np.float64]

_SLOPE = -0.75
"""The derivative of the kernel at a distance of one sample."""


def source_positions(inputs: int, outputs: int) -> Array:
    """The position of each of `outputs` evenly spaced pixels among `inputs` samples: (outputs,), 0 for the first
    sample.
    """
    return np.asarray((np.arange(outputs, dtype=np.float64) + 0.5) * (inputs / outputs) - 0.5)


def cubic_weights(positions: Array, inputs: int) -> Array:
    """The weight of each sample at each position: (outputs, inputs), rows sum to 1.

    Args:
        positions: (outputs,), as from `source_positions`.
        inputs: the number of samples.
    """
    weights = np.zeros((len(positions), inputs))  # (outputs, inputs)
    outputs = np.arange(len(positions))  # (outputs,)
    first = np.floor(positions)  # (outputs,)
    for neighbour in (-1, 0, 1, 2):
        place = np.clip(first + neighbour, 0, inputs - 1).astype(np.int64)  # (outputs,)
        np.add.at(weights, (outputs, place), _kernel(np.abs(positions - first - neighbour)))
    return weights


def _kernel(distance: Array) -> Array:
    """The kernel at distances from 0 to 2 samples."""
    near = ((_SLOPE + 2) * distance - (_SLOPE + 3)) * distance**2 + 1  # the shape of distance
    far = _SLOPE * (((distance - 5) * distance + 8) * distance - 4)  # the shape of distance
    return np.where(distance <= 1, near, far)
