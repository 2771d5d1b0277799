"""From a picture to `pixel_values`: CLIP's image preprocessing in Pillow and float64.

The steps are those of Radford et al. 2021 as `CLIPImageProcessor` documents them
(https://huggingface.co/docs/transformers/model_doc/clip#transformers.CLIPImageProcessor): convert to RGB, resize the
shortest edge, crop the centre, rescale, normalise. Pillow is the reference for colour conversion and for resampling,
so both are its own operations on uint8. All that follows the crop is float64.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

import numpy as np
import numpy.typing as npt
from PIL import Image

from clip_eval.errors import CheckpointError, UsageError
from clip_eval.files.read_write import read_json

__all__ = ["Passes", "PixelSettings", "Spare", "Transparency", "preprocess"]

Transparency = Literal["dropped", "white"]
Spare = Literal["before", "after"]
Passes = Literal["pillow", "rows first"]
FloatArray = npt.NDArray[np.float64]

_FILES = ("processor_config.json", "preprocessor_config.json")
_PROCESSOR_TYPES = (
    "CLIPFeatureExtractor",
    "CLIPImageProcessor",
    "CLIPImageProcessorFast",
    "CLIPImageProcessorPil",
)
_TYPE_KEYS = ("image_processor_type", "feature_extractor_type")
_FLAGS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")
_SETTING_KEYS = (*_FLAGS, "size", "resample", "crop_size", "rescale_factor", "image_mean", "image_std")


@dataclass(frozen=True, slots=True)
class PixelSettings:
    """The settings of a CLIP image processor. The defaults are the documented ones of `CLIPImageProcessor`.

    Args:
        do_resize: resize the image to `size`.
        size: an integer is the length of the shortest edge in pixels, the other edge keeping the aspect ratio; a pair
            is (height, width) in pixels.
        resample: Pillow's number of the filter (`PIL.Image.Resampling`).
        do_center_crop: cut (crop_height, crop_width) out of the middle, with zeros where the image is smaller.
        crop_height: in pixels.
        crop_width: in pixels.
        do_rescale: multiply by `rescale_factor`.
        rescale_factor: the factor that takes 0..255 to the range that the mean is given in.
        do_normalize: subtract `image_mean`, divide by `image_std`.
        image_mean: one value a channel.
        image_std: one value a channel, each above zero.
        do_convert_rgb: convert other modes to RGB.
    """

    do_resize: bool = True
    size: int | tuple[int, int] = 224
    resample: int = int(Image.Resampling.BICUBIC)
    do_center_crop: bool = True
    crop_height: int = 224
    crop_width: int = 224
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    image_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    do_convert_rgb: bool = True

    @classmethod
    def from_directory(cls, directory: Path) -> PixelSettings:
        """Read a checkpoint's `processor_config.json` or `preprocessor_config.json`, the first that has settings.

        Raises:
            CheckpointError: neither file is there, a file is not a JSON object, or see `from_dict`.
        """
        files = [directory / name for name in _FILES if (directory / name).is_file()]
        raw = [_object(file) for file in files or [directory / _FILES[-1]]]
        stated = [entry for entry in raw if "image_processor" in entry or "image_mean" in entry or "crop_size" in entry]
        return cls.from_dict((stated or raw)[0], where=directory)

    @classmethod
    def from_dict(cls, raw: Mapping[str, object], *, where: object = None) -> PixelSettings:
        """Read the parsed content of `preprocessor_config.json` or `processor_config.json`.

        `processor_config.json` of transformers 5 nests the settings under `image_processor`. Files of 2021 give `size`
        and `crop_size` as plain integers. An absent setting takes its documented default.

        Raises:
            CheckpointError: a value makes no sense, the settings are another model's, or there are none.
        """
        fields = _Fields(_image_processor_section(raw, where=where), where=where)
        crop = fields.crop_size()
        return cls(
            size=fields.size(),
            resample=fields.resample(),
            crop_height=crop.height,
            crop_width=crop.width,
            rescale_factor=fields.rescale_factor(),
            image_mean=fields.channels("image_mean", cls().image_mean),
            image_std=fields.channels("image_std", cls().image_std, above_zero=True),
            **{name: fields.flag(name) for name in _FLAGS},
        )


def preprocess(
    image: Image.Image | FloatArray,
    settings: PixelSettings,
    *,
    transparency: Transparency = "dropped",
    spare: Spare = "before",
    passes: Passes = "pillow",
) -> FloatArray:
    """Pixel values of one image, float64 of shape (3, height, width).

    The image is taken as it lies in memory: EXIF orientation is not applied, as `CLIPImageProcessor` does not either.

    Args:
        image: a Pillow image of any mode that Pillow converts to RGB; or levels, float64 (height, width, 3), which are
            resized as real numbers: neither rounded nor clipped to 0..255, where the filter overshoots.
        settings: what to do.
        transparency: "dropped" is the contract, `Image.convert("RGB")` as the released CLIP code has it: the alpha
            channel is cut off. "white" lays the image on a white ground instead, which transformers does from 5.21.0.
        spare: the side of the odd zero when an image is smaller than its crop by an odd number of pixels. "before" is
            the contract, `center_crop` of transformers' image_transforms; torchvision's goes "after".
        passes: in which order a resize filters rows and columns. Levels are rounded and clipped in between, so the
            order shows where the filter overshoots. "pillow" is that of the installed Pillow: rows first, and from
            Pillow 13.0 on columns first where that is less work. torchvision has "rows first" always.

    Raises:
        UsageError: the image has no pixels, is not RGB while `do_convert_rgb` is off, or is of a mode that Pillow does
            not convert.
    """
    levels = _levels(image, settings, transparency, passes)  # (height, width, channels)
    if settings.do_center_crop:
        levels = _center_crop(levels, settings, spare)  # (crop_height, crop_width, channels)
    values = levels.astype(np.float64).transpose(2, 0, 1)  # (channels, height, width)
    if settings.do_rescale:
        values = values * settings.rescale_factor  # (channels, height, width)
    if settings.do_normalize:
        mean = np.array(settings.image_mean)[:, None, None]  # (channels, 1, 1)
        std = np.array(settings.image_std)[:, None, None]  # (channels, 1, 1)
        values = (values - mean) / std  # (channels, height, width)
    return np.ascontiguousarray(values)


def _levels(
    image: Image.Image | FloatArray, settings: PixelSettings, transparency: Transparency, passes: Passes
) -> npt.NDArray[Any]:
    """(height, width, channels) after conversion and resizing: uint8 of a picture, float64 of real levels."""
    if isinstance(image, np.ndarray):
        planes = [Image.fromarray(plane) for plane in np.moveaxis(image, -1, 0).astype(np.float32)]
        return np.stack([np.asarray(_scaled(plane, settings, passes), np.float64) for plane in planes], axis=-1)
    if 0 in image.size:
        raise UsageError(f"the image has no pixels, its size is {image.size}", fix="leave it out")
    return np.asarray(_scaled(_rgb(image, settings, transparency), settings, passes))


def _scaled(image: Image.Image, settings: PixelSettings, passes: Passes) -> Image.Image:
    if not settings.do_resize:
        return image
    width, height = _resized(image.size, settings.size)
    if passes == "rows first":
        image = image.resize((width, image.height), settings.resample)
    return image.resize((width, height), settings.resample)


def _rgb(image: Image.Image, settings: PixelSettings, transparency: Transparency) -> Image.Image:
    if not settings.do_convert_rgb:
        if image.mode == "RGB":
            return image
        raise UsageError(
            f"the image is of mode {image.mode} and the settings do not convert it to RGB",
            fix="Convert the image, or set do_convert_rgb to true in the image processor's configuration",
        )
    try:
        return _converted(image, transparency)
    except (ImportError, OSError, ValueError) as error:  # no colour management, or a mode that Pillow cannot convert
        raise UsageError(
            f"Pillow does not convert mode {image.mode} to RGB: {error}", fix="Convert it to another mode first"
        ) from error


def _converted(image: Image.Image, transparency: Transparency) -> Image.Image:
    declared = image.info.get("transparency")
    if transparency == "white" and ("A" in image.getbands() or declared is not None):
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    if declared is not None:
        # Pillow warns when it drops the transparency of a palette; the pixels are the same without that entry.
        image = image.copy()
        del image.info["transparency"]
    return image.convert("RGB")


def _resized(size: tuple[int, int], target: int | tuple[int, int]) -> tuple[int, int]:
    """(width, height) after resizing. The longer edge is rounded down, as torchvision's `Resize` does."""
    if not isinstance(target, int):
        height, width = target
        return width, height
    width, height = size
    shortest = min(size)
    return target * width // shortest, target * height // shortest


def _center_crop(levels: npt.NDArray[Any], settings: PixelSettings, spare: Spare) -> npt.NDArray[Any]:
    """Pixel i of an axis comes from pixel i + floor((length - crop) / 2), and is zero where there is none."""
    height, width = settings.crop_height, settings.crop_width
    cropped = np.zeros((height, width, levels.shape[2]), dtype=levels.dtype)  # (crop_height, crop_width, channels)
    rows = _overlap(levels.shape[0], height, spare)
    columns = _overlap(levels.shape[1], width, spare)
    cropped[rows.target, columns.target] = levels[rows.source, columns.source]
    return cropped


@dataclass(frozen=True, slots=True)
class _Overlap:
    source: slice
    target: slice


def _overlap(length: int, crop: int, spare: Spare) -> _Overlap:
    start = (length - crop) // 2
    if spare == "after" and start < 0:
        start = -((crop - length) // 2)
    count = min(length, crop)
    first = max(start, 0)
    return _Overlap(source=slice(first, first + count), target=slice(first - start, first - start + count))


@dataclass(frozen=True, slots=True)
class _CropSize:
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class _Fields:
    """The settings on disk, read one by one."""

    raw: Mapping[str, object]
    where: object

    def flag(self, name: str) -> bool:
        value = self.raw.get(name, True)
        if not isinstance(value, bool):
            raise self._nonsense(name, "true or false")
        return value

    def size(self) -> int | tuple[int, int]:
        value = self.raw.get("size", 224)
        if isinstance(value, Mapping) and set(value) == {"shortest_edge"}:
            return self._pixels("size", value["shortest_edge"])
        if isinstance(value, Mapping | Sequence):
            edges = self._edges("size", value, "a shortest_edge, or a height and a width, in pixels")
            return edges.height, edges.width
        return self._pixels("size", value)

    def crop_size(self) -> _CropSize:
        value = self.raw.get("crop_size", 224)
        if isinstance(value, Mapping | Sequence):
            return self._edges("crop_size", value, "a height and a width in pixels")
        side = self._pixels("crop_size", value)
        return _CropSize(side, side)

    def resample(self) -> int:
        value = self.raw.get("resample", int(Image.Resampling.BICUBIC))
        numbers = [int(number) for number in Image.Resampling]
        if isinstance(value, bool) or not isinstance(value, int) or value not in numbers:
            raise self._nonsense("resample", f"the number of a Pillow filter, one of {sorted(numbers)}")
        return value

    def rescale_factor(self) -> float:
        value = self.raw.get("rescale_factor", 1 / 255)
        if not _is_number(value) or value <= 0:
            raise self._nonsense("rescale_factor", "a number above zero")
        return float(value)

    def channels(
        self, name: str, default: tuple[float, float, float], *, above_zero: bool = False
    ) -> tuple[float, float, float]:
        value = self.raw.get(name, default)
        values = [value] * 3 if _is_number(value) else value
        expected = "three numbers above zero" if above_zero else "three numbers"
        if not isinstance(values, Sequence) or len(values) != 3:
            raise self._nonsense(name, expected)
        numbers = [float(item) for item in values if _is_number(item) and (item > 0 or not above_zero)]
        if len(numbers) != 3:
            raise self._nonsense(name, expected)
        return numbers[0], numbers[1], numbers[2]

    def _edges(self, name: str, value: object, expected: str) -> _CropSize:
        if isinstance(value, Mapping) and set(value) == {"height", "width"}:
            return _CropSize(self._pixels(name, value["height"]), self._pixels(name, value["width"]))
        if isinstance(value, Sequence) and len(value) == 2:
            return _CropSize(self._pixels(name, value[0]), self._pixels(name, value[1]))
        raise self._nonsense(name, expected)

    def _pixels(self, name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._nonsense(name, "whole pixels, at least 1")
        return value

    def _nonsense(self, name: str, expected: str) -> CheckpointError:
        return CheckpointError(
            f"the image processor's {name} is {self.raw.get(name)!r}",
            where=self.where,
            fix=f"Set it to {expected}, or remove it for CLIP's default",
        )


def _is_number(value: object) -> TypeGuard[int | float]:
    """A finite number; one beyond a float's range counts as none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max and math.isfinite(value)


def _object(file: Path) -> Mapping[str, object]:
    content = read_json(file, error=CheckpointError)
    if not isinstance(content, dict):
        raise CheckpointError("the file is not a JSON object", where=file, fix="Copy it again from its source")
    return content


def _image_processor_section(raw: Mapping[str, object], *, where: object) -> Mapping[str, object]:
    section = raw.get("image_processor", raw)
    if not isinstance(section, Mapping) or not any(key in section for key in (*_TYPE_KEYS, *_SETTING_KEYS)):
        raise CheckpointError(
            "there are no image processor settings",
            where=where,
            fix="Save the checkpoint's image processor again with save_pretrained",
        )
    for key in _TYPE_KEYS:
        if section.get(key, _PROCESSOR_TYPES[0]) not in _PROCESSOR_TYPES:
            raise CheckpointError(
                f"the image processor is {section[key]!r}, not CLIP's", where=where, fix="Use a CLIPImageProcessor"
            )
    return section
