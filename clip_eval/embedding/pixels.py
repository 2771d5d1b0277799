"""Pixel values by a checkpoint's own image processor, in threads, with the same bits as calling the processor alone.

Rescaling and normalising give one value to each of the 256 levels of a channel. The processor computes these values
once, on a picture of all levels; then it resizes and crops each image, and its bytes are looked up. An RGB image is
resized by Pillow, as the processor does it, without the copies that it makes of the whole image before. Both ways are
compared with the processor on probes when it is loaded; one that does anything else is called in full.
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

_PROBES_PX = ((61, 47), (47, 61), (40, 40), (30, 97), (333, 500))
_LEAST_PX = 5  # transformers takes a side of 1 or 3 pixels for the channels
_UNCHANGED = {"do_resize": False, "do_center_crop": False}
_AS_BYTES = {"do_rescale": False, "do_normalize": False}


@dataclass(frozen=True, slots=True)
class _Ready:
    """A loaded image processor.

    Attributes:
        processor: the object.
        levels: the values of the levels, (3, 256); None where it is called in full.
        edge_px: what it makes of an image's shorter side; None where it resizes otherwise, or not at all.
    """

    processor: Any
    levels: NDArray[np.float32] | None
    edge_px: int | None = None


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
                self._made = _ready(processor)
            return self._made


def _processed(processor: Any, image: Image, **options: bool) -> NDArray[Any]:
    batch = processor(images=[image], return_tensors="pt", **options)
    values: NDArray[Any] = batch["pixel_values"].numpy()[0]  # (channels, height, width)
    return values


def _looked_up(ready: _Ready, image: Image) -> NDArray[np.float32] | None:
    """The pixel values by level; None where the levels do not say them."""
    if ready.levels is None:
        return None
    if ready.edge_px is not None and image.mode == "RGB" and min(image.size) >= _LEAST_PX:
        small = _resized(image, ready.edge_px, ready.processor.resample)
        levels = _processed(ready.processor, small, do_resize=False, **_AS_BYTES)
    else:
        levels = _processed(ready.processor, image, **_AS_BYTES)
    if levels.dtype != np.uint8 or len(levels) != len(ready.levels):
        return None
    pixels = np.empty(levels.shape, dtype=np.float32)  # (channels, height, width)
    for values, channel, out in zip(ready.levels, levels, pixels, strict=True):
        np.take(values, channel, out=out, mode="clip")
    return pixels


def _resized(image: Image, edge_px: int, resample: int) -> Image:
    """The image with its shorter side at `edge_px`, as transformers' `get_resize_output_image_size` counts."""
    short, long = sorted(image.size)
    longer = int(edge_px * long / short)
    size = (edge_px, longer) if image.width <= image.height else (longer, edge_px)
    return image.resize(size, resample)


def _ready(processor: Any) -> _Ready:
    """The processor with the quickest way that gives its own pixels on every probe."""
    from PIL import Image

    rng = np.random.default_rng(0)
    probes = [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in _PROBES_PX]
    full = _Ready(processor, None)
    try:
        levels = _levels(processor)
        expected = [_processed(processor, probe) for probe in probes]
        for ready in (_Ready(processor, levels, _edge_px(processor)), _Ready(processor, levels)):
            found = [_looked_up(ready, probe) for probe in probes]
            if all(one is not None and np.array_equal(one, other) for one, other in zip(found, expected, strict=True)):
                return ready
    except (TypeError, ValueError):  # it has no such options
        return full
    return full


def _levels(processor: Any) -> NDArray[np.float32] | None:
    """What each level of each channel becomes, (3, 256)."""
    from PIL import Image

    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)  # (16, 16, 3)
    levels = _processed(processor, Image.fromarray(ramp), **_UNCHANGED)
    return levels.reshape(3, 256) if levels.shape == (3, 16, 16) and levels.dtype == np.float32 else None


def _edge_px(processor: Any) -> int | None:
    """The length that the processor resizes the shorter side to, where it says that and nothing else."""
    size = {name: value for name, value in dict(getattr(processor, "size", None) or {}).items() if value is not None}
    edge = size.pop("shortest_edge", None)
    return edge if isinstance(edge, int) and not size and getattr(processor, "do_resize", False) else None
