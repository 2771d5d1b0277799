"""Options of an image processor's call: each does what it is documented to do, for that call only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clip_eval.oracle.preprocessing.image_processor import PixelSettings, Spare
from clip_eval.probes.images import flat_image
from clip_eval.run.evidence import Evidence
from clip_eval.subject.observations import Clip
from clip_eval.suite._images import Pixels, pixels_of, raised
from clip_eval.verdict.compare import Compare, to_array
from clip_eval.verdict.deviations import Deviations


@dataclass(frozen=True, slots=True)
class Option:
    """Keywords of a call, and the settings they stand for.

    Attributes:
        given: keywords of the call.
        settings: the settings that they replace.
    """

    given: Mapping[str, Any]
    settings: Mapping[str, Any]


def _same(**settings: Any) -> Option:
    return Option(settings, settings)


OPTIONS: Mapping[str, Option] = {
    "do_resize=False": _same(do_resize=False),
    "do_center_crop=False": _same(do_center_crop=False),
    "do_rescale=False": _same(do_rescale=False),
    "do_normalize=False": _same(do_normalize=False),
    "levels": _same(do_rescale=False, do_normalize=False),
    "the picture itself": _same(do_resize=False, do_center_crop=False, do_rescale=False, do_normalize=False),
    "rescale_factor": _same(rescale_factor=1 / 128),
    "rescale_factor alone": Option(
        {"rescale_factor": 1 / 128, "do_normalize": False}, {"rescale_factor": 1 / 128, "do_normalize": False}
    ),
    "size, a number": _same(size=20),
    "size, shortest_edge": Option({"size": {"shortest_edge": 20}}, {"size": 20}),
    "size, height and width": Option({"size": {"height": 20, "width": 50}}, {"size": (20, 50)}),
    "crop_size, a number": Option({"crop_size": 20}, {"crop_height": 20, "crop_width": 20}),
    "crop_size, low and wide": Option(
        {"crop_size": {"height": 15, "width": 41}}, {"crop_height": 15, "crop_width": 41}
    ),
    "crop_size, high and narrow": Option(
        {"crop_size": {"height": 41, "width": 15}}, {"crop_height": 41, "crop_width": 15}
    ),
    "image_mean, image_std": Option(
        {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.25, 0.5, 0.75]},
        {"image_mean": (0.1, 0.2, 0.3), "image_std": (0.25, 0.5, 0.75)},
    ),
    "several at once": Option(
        {"size": {"shortest_edge": 25}, "do_center_crop": False, "resample": 2, "image_mean": [0.5, 0.25, 0.125]},
        {"size": 25, "do_center_crop": False, "resample": 2, "image_mean": (0.5, 0.25, 0.125)},
    ),
}

FILTERS = {
    "pillow": ("NEAREST", "BOX", "BILINEAR", "HAMMING", "BICUBIC", "LANCZOS"),
    "torchvision": ("BILINEAR", "BICUBIC"),
}
"""Filters of a backend whose pixels are defined. torchvision's nearest pixel differs from Pillow's if two are
equally near, and its other filters depend on its version.
"""

PICTURES = ((90, 41), (9, 7), (41, 90))


@pytest.fixture
def pixels(clip: Clip, compare: Compare, evidence: Evidence) -> Pixels:
    """The check's access to the image processor."""
    return pixels_of(clip, compare, evidence)


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_does_what_it_says(pixels: Pixels, deviations: Deviations, option: str) -> None:
    """An option of the call replaces the setting of that name, for every picture."""
    spare: Spare = "after" if deviations.hold("torchvision-pads-after", backend=pixels.backend()) else "before"
    chosen = OPTIONS[option]
    settings = replace(pixels.settings, **chosen.settings)
    for width, height in PICTURES:
        picture = flat_image(width, height)
        name = f"{option}: {width} x {height}"
        pixels.judge(picture, [picture], settings=settings, spare=spare, name=name, **chosen.given)


def test_every_filter_is_its_own(pixels: Pixels) -> None:
    """A Pillow filter given as resample, as an enum member or by number, is the one that resizes."""
    picture = flat_image(90, 41)
    for name in FILTERS[pixels.backend()]:
        chosen = Image.Resampling[name]
        settings = replace(pixels.settings, resample=int(chosen))
        pixels.judge(picture, [picture], settings=settings, resample=chosen, name=f"resample={name}")
        pixels.judge(picture, [picture], settings=settings, resample=int(chosen), name=f"resample={int(chosen)}")


def test_options_end_with_the_call(pixels: Pixels, compare: Compare) -> None:
    """After calls with options, and one that failed, settings and pixels are as before."""
    pictures, part = [flat_image(90, 41), flat_image(9, 7)], pixels.part()
    before = pixels.of(pictures)
    for option in OPTIONS.values():
        pixels.of(pictures[0], **option.given)
    compare.equal(raised(lambda: pixels.of(pictures, size={"edge": 3})) != "nothing", True, name="nonsense is refused")
    compare.equal(PixelSettings.from_dict(part.to_dict()), pixels.settings, name="settings after calls with options")
    compare.equal(pixels.of(pictures), before, name="pixels after calls with options")


def test_pixels_come_in_the_layout_asked_for(pixels: Pixels, compare: Compare, deviations: Deviations) -> None:
    """data_format="channels_last" puts the channels last, "channels_first", the default, puts them first."""
    pictures = [flat_image(90, 41), flat_image(9, 7)]
    default = pixels.of(pictures)
    compare.equal(pixels.of(pictures, data_format="channels_first"), default, name="channels_first")
    ignored = deviations.hold("data-format-is-ignored", backend=pixels.backend())
    last = default if ignored else np.moveaxis(default, 1, -1)
    compare.equal(pixels.of(pictures, data_format="channels_last"), last, name="channels_last")


def test_pixels_come_in_the_type_asked_for(pixels: Pixels, compare: Compare) -> None:
    """return_tensors gives a torch tensor or a NumPy array of float32, without it a list with one entry a picture."""
    pictures = [flat_image(90, 41), flat_image(9, 7)]
    process, expected = pixels.clip.processors.process, pixels.of(pictures)
    for asked, kind in (("pt", "Tensor"), ("np", "ndarray")):
        values = process(pixels.processor(), images=pictures, return_tensors=asked)["pixel_values"]
        compare.equal(type(values).__name__, kind, name=f"type under return_tensors={asked!r}")
        compare.equal(str(values.dtype).removeprefix("torch."), "float32", name=f"dtype under {asked!r}")
        compare.equal(to_array(values), expected, name=f"pixels under return_tensors={asked!r}")
    listed = process(pixels.processor(), images=pictures)["pixel_values"]
    compare.equal(type(listed).__name__, "list", name="type without return_tensors")
    compare.equal(np.stack([to_array(each) for each in listed]), expected, name="pixels without return_tensors")


def test_preprocess_is_the_call(pixels: Pixels, compare: Compare) -> None:
    """The image processor alone, called or by its method preprocess, gives what the full processor gives."""
    pictures, part = [flat_image(90, 41), flat_image(9, 7)], pixels.part()
    expected, process = pixels.of(pictures, do_normalize=False), pixels.clip.processors.process
    for name, call in (("call", part), ("preprocess", part.preprocess)):
        values = process(call, pictures, do_normalize=False, return_tensors="pt")["pixel_values"]
        compare.equal(to_array(values), expected, name=f"pixels of {name}")
