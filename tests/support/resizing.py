"""Torch's bicubic resize with antialiasing, which torchvision's is, beside the settings that ask the oracle for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clip_eval.oracle.preprocessing.image_processor import PixelSettings
from clip_eval.verdict.compare import to_array

RESIZED = PixelSettings(size=(37, 31), do_center_crop=False, do_rescale=False, do_normalize=False)


def torch_resize(levels: NDArray[np.uint8], dtype: type) -> NDArray[np.float64]:
    """(channels, 37, 31) of (height, width, channels), computed in `dtype`."""
    import torch

    images = torch.from_numpy(levels.astype(dtype)).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(images, size=RESIZED.size, mode="bicubic", antialias=True)
    return to_array(resized[0])
