"""Pixel values by a checkpoint's own image processor, in threads, with the same bits as calling the processor alone.

Rescaling and normalising give one value to each of the 256 levels of a channel. The processor computes these values
once, on a picture of all levels; then it resizes and crops each image, and its bytes are looked up. A processor that
does more to a pixel is found out on a probe, and called in full.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clip_eval.subject.runtime import Runtime

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Pixels"]

_PROBE_PX = (61, 47)
_UNCHANGED = {"do_resize": False, "do_center_crop": False}
_AS_BYTES = {"do_rescale": False, "do_normalize": False}


@dataclass(frozen=True, slots=True)
class _Ready:
    """A loaded image processor, and the values of the levels, (3, 256); None where it is called in full."""

    processor: Any
    levels: NDArray[np.float32] | None


class Pixels:
    """Images to pixel values, (channels, height, width) float32. The processor is loaded for the first image.

    Args:
        runtime: a checkpoint with an image processor.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = Lock()
        self._made: _Ready | None = None

    def __call__(self, image: Image) -> NDArray[np.float32]:
        """Return an image's pixel values; any thread may ask.

        Raises:
            ValueError: the processor takes no such image, or makes another size of it than the model takes.
        """
        ready = self.load()
        pixels = _looked_up(ready, image)
        if pixels is None:
            pixels = _processed(ready.processor, image)
        vision = self._runtime.checkpoint.config.vision
        expected = (vision.num_channels, vision.image_size, vision.image_size)
        if pixels.shape != expected:
            made, taken = (" x ".join(map(str, shape)) for shape in (pixels.shape, expected))
            raise ValueError(f"the processor makes {made} values of it, and the model takes {taken}")
        return pixels

    def load(self) -> _Ready:
        """Load the processor if that has not happened yet. Raises NotAskable where the checkpoint's does not load."""
        with self._lock:
            if self._made is None:
                processors = self._runtime.processors
                processor = processors.load()
                processor = getattr(processor, "image_processor", processor)
                self._made = _Ready(processor, _levels(processor))
            return self._made


def _processed(processor: Any, image: Image, **options: bool) -> NDArray[Any]:
    batch = processor(images=[image], return_tensors="pt", **options)
    values: NDArray[Any] = batch["pixel_values"].numpy()[0]  # (channels, height, width)
    return values


def _looked_up(ready: _Ready, image: Image) -> NDArray[np.float32] | None:
    """The pixel values by level; None where the levels do not say them."""
    if ready.levels is None:
        return None
    levels = _processed(ready.processor, image, **_AS_BYTES)
    if levels.dtype != np.uint8 or len(levels) != len(ready.levels):
        return None
    pixels = np.empty(levels.shape, dtype=np.float32)  # (channels, height, width)
    for values, channel, out in zip(ready.levels, levels, pixels, strict=True):
        np.take(values, channel, out=out, mode="clip")
    return pixels


def _levels(processor: Any) -> NDArray[np.float32] | None:
    """What each level of each channel becomes, (3, 256); None where that does not give the processor's own pixels."""
    from PIL import Image

    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)  # (16, 16, 3)
    noise = np.random.default_rng(0).integers(0, 256, (*_PROBE_PX, 3), dtype=np.uint8)  # (height, width, 3)
    try:
        levels = _processed(processor, Image.fromarray(ramp), **_UNCHANGED)
        if levels.shape != (3, 16, 16) or levels.dtype != np.float32:
            return None
        ready = _Ready(processor, levels.reshape(3, 256))
        probe = Image.fromarray(noise)
        found = _looked_up(ready, probe)
        return ready.levels if found is not None and np.array_equal(found, _processed(processor, probe)) else None
    except (TypeError, ValueError):  # it has no such options
        return None
