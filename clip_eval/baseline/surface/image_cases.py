"""Pictures, arrays and calls for the surface."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_eval.oracle.preprocessing.image_processor import Transparency
from clip_eval.probes.images import EXTREMES, MODES, flat_image, mixed_batch, pattern, read_as_channels
from clip_eval.subject import tensor_of

__all__ = ["ARRAYS", "CALLS", "OTHERS", "PICTURES", "Call", "Given", "Meaning", "alone"]

_WIDTH, _HEIGHT = 37, 29


@dataclass(frozen=True, slots=True)
class Meaning:
    """A possible interpretation of a picture, whose pixels are compared.

    Attributes:
        pictures: in order.
        transparency: treatment of an alpha channel, see the oracle.
        settings: other settings than the checkpoint's, by name.
    """

    pictures: tuple[Image.Image, ...]
    transparency: Transparency = "dropped"
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Given:
    """An input of an image processor.

    Attributes:
        make: makes a new one.
        meanings: makes its possible interpretations, by name.
    """

    make: Callable[[], Any]
    meanings: Callable[[], Mapping[str, Meaning]] = dict


@dataclass(frozen=True, slots=True)
class Call:
    """A call with options.

    Attributes:
        options: keywords.
        arguments: by position after the picture.
        make: makes the picture.
    """

    options: Mapping[str, Any]
    arguments: tuple[Any, ...] = ()
    make: Callable[[], Any] = field(default=lambda: flat_image(90, 41))

    def meanings(self) -> Mapping[str, Meaning]:
        """Return the possible effects of the call, by name: none, or resizing with a filter."""
        picture = (flat_image(90, 41),)
        filters = {
            f"filter {chosen.name}": Meaning(picture, settings={"resample": int(chosen)})
            for chosen in (Image.Resampling.BILINEAR, Image.Resampling.NEAREST)
        }
        return {
            "as without it": Meaning(picture),
            "as with do_resize=False": Meaning(picture, settings={"do_resize": False}),
            **(filters if "resample" in self.options else {}),
        }


def alone(picture: Image.Image, prefix: str = "") -> dict[str, Meaning]:
    """Return the ways to convert one picture to RGB, by name."""
    grounds: dict[str, Transparency] = {"as Pillow has it": "dropped", "on white": "white"}
    return {f"{prefix}{meaning}": Meaning((picture,), ground) for meaning, ground in grounds.items()}


def _picture(make: Callable[[], Image.Image]) -> Given:
    return Given(make, lambda: alone(make()))


def _flat(width: int, height: int) -> Given:
    def meanings() -> dict[str, Meaning]:
        picture = flat_image(width, height)
        misread = {"with rows for channels": Meaning((read_as_channels(picture),))} if height == 3 else {}
        return {**alone(picture), **misread}

    return Given(lambda: flat_image(width, height), meanings)


def _batch(make: Callable[[], Any], *pictures: Image.Image) -> Given:
    return Given(make, lambda: {"each as alone": Meaning(pictures or tuple(mixed_batch()))})


PICTURES: Mapping[str, Given] = {
    **{f"mode {name}": _picture(entry.make) for name, entry in MODES.items()},
    **{f"{width} x {height}": _flat(width, height) for width, height in ((1, 1), (5, 1), (5, 3), (3, 5), (3, 3))},
    **{f"{width} x {height}": _flat(width, height) for width, height in EXTREMES.values()},
    "large": _flat(641, 427),
    "large, upright": _flat(427, 641),
}


def _levels(dtype: str) -> NDArray[Any]:
    return pattern().astype(dtype)  # (height, width, channels)


def _array(make: Callable[[], Any], picture: Callable[[], Image.Image] | None = None) -> Given:
    return Given(make, lambda: alone((picture or (lambda: flat_image(_WIDTH, _HEIGHT)))()))


def _grey() -> Image.Image:
    return Image.fromarray(pattern()[..., 0])


def _slope() -> Image.Image:
    return MODES["RGBA, slope"].make()


_TYPES = ("bool", "int8", "int16", "uint16", "int32", "int64", "float16", "float32", "float64")

ARRAYS: Mapping[str, Given] = {
    **{f"levels in {dtype}": _array(partial(_levels, dtype)) for dtype in _TYPES},
    "fractions in float16": _array(lambda: (pattern() / 255).astype(np.float16)),
    "below 0": _array(lambda: pattern() * np.float32(1.25) - 20),
    "between whole numbers": _array(lambda: pattern() * np.float32(0.5) + np.float32(0.25)),
    "not a number": _array(lambda: np.full((9, 9, 3), np.nan)),
    "(height, width)": _array(lambda: pattern()[..., 0], _grey),
    "list of (height, width)": _array(lambda: [pattern()[..., 0]], _grey),
    "(height, width, 1)": _array(lambda: pattern()[..., :1], _grey),
    "(1, height, width)": _array(lambda: pattern()[None, ..., 0], _grey),
    "(height, width, 2)": _array(lambda: pattern()[..., :2], _grey),
    "(height, width, 4)": _array(lambda: np.array(_slope()), _slope),
    "(4, height, width)": _array(lambda: np.array(_slope()).transpose(2, 0, 1), _slope),
    "(1, width, 3)": _array(lambda: pattern(20, 1), lambda: flat_image(20, 1)),
    "(3, width, 3)": Given(lambda: pattern(20, 3), _flat(20, 3).meanings),
    "mirrored": _array(lambda: pattern()[::-1], lambda: Image.fromarray(pattern()[::-1].copy())),
    "layouts in one list": _batch(
        lambda: [pattern(), pattern().transpose(2, 0, 1)], *[flat_image(_WIDTH, _HEIGHT)] * 2
    ),
    "five axes": _array(lambda: pattern()[None, None]),
    "tensor that needs a gradient": _array(lambda: tensor_of(pattern().astype(np.float32)).requires_grad_()),
}

OTHERS: Mapping[str, Given] = {
    "None": Given(lambda: None),
    "list with None": Given(lambda: [flat_image(9, 7), None]),
    "[]": Given(list),
    "()": Given(tuple),
    "[[]]": Given(lambda: [[]]),
    "text": Given(lambda: "no picture, no address"),
    "bytes": Given(lambda: b"\x89PNG"),
    "number": Given(lambda: 7),
    "dict": Given(dict),
    "object": Given(object),
    "lists of numbers": Given(lambda: [[1, 2], [3, 4]]),
    "one axis": Given(lambda: np.zeros(9, np.uint8)),
    "array of texts": Given(lambda: np.array(["a"])),
    "no width": Given(lambda: Image.new("RGB", (0, 5))),
    "no pixels": Given(lambda: np.zeros((0, 0, 3), np.uint8)),
    "list": _batch(mixed_batch),
    "tuple": _batch(lambda: tuple(mixed_batch())),
    "tuple in a list": _batch(lambda: [tuple(mixed_batch())]),
    "generator": _batch(lambda: iter(mixed_batch())),
    "flat picture first": _batch(lambda: [flat_image(9, 3), flat_image(37, 29)], flat_image(9, 3), flat_image(37, 29)),
    "flat picture last": _batch(lambda: [flat_image(37, 29), flat_image(9, 3)], flat_image(37, 29), flat_image(9, 3)),
}


def _options(**options: Any) -> Call:
    return Call(options)


_NAMED = {
    f"{name}={value!r}": Call({name: value})
    for name, values in {
        "resample": ("bicubic", "bilinear", "nonsense", 9, None, 0, 1, 4, 5),
        "size": (None, 0, -1, 20.5, "20", {}, (20, 50), [20], {"longest_edge": 20}, {"edge": 20}, {"height": 20}),
        "crop_size": (None, 0, "20", (20, 30), {"height": 20}, {"shortest_edge": 20}),
        "rescale_factor": (1, 0, None, "1"),
        "image_mean": (0.5, None, [0.5, 0.5], (0.5, 0.25, 0.125), "imagenet"),
        "image_std": (0.5, None, [0.5, 0.5], [0.0, 1.0, 1.0]),
        "do_resize": (None, 0, "no"),
        "do_normalize": (None, 0),
        "data_format": (None, "channels_last", "none", "nonsense"),
        "input_data_format": (None, "channels_last", "channels_first", "none", "nonsense"),
        "return_tensors": (None, "pt", "list", "nonsense"),
        "do_sparkle": (True,),
        "do_pad": (True, False),
        "device": ("cpu",),
    }.items()
    for value in values
}

CALLS: Mapping[str, Call] = {
    **_NAMED,
    "size with both edges": _options(size={"shortest_edge": 20, "longest_edge": 30}),
    "size with the largest height and width": _options(size={"max_height": 20, "max_width": 30}),
    "image_mean, an array": _options(image_mean=np.array([0.5, 0.25, 0.125])),
    "do_resize by position": Call({}, arguments=(False,)),
    "neither rescaled nor normalised": _options(do_rescale=False, do_normalize=False),
    "sizes that differ, without a crop": Call(
        {"do_center_crop": False}, make=lambda: [flat_image(90, 41), flat_image(9, 7)]
    ),
    "grey, do_convert_rgb=False": Call({"do_convert_rgb": False}, make=lambda: flat_image(90, 41).convert("L")),
    "RGBA, do_convert_rgb=False": Call({"do_convert_rgb": False}, make=_slope),
}
