"""Pixels of pictures of every mode and size, by every way to load an image processor."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from clip_eval.errors import UsageError
from clip_eval.oracle.preprocessing.image_processor import Passes, PixelSettings, Transparency, preprocess
from clip_eval.oracle.preprocessing.pixel_settings import settings_problem
from clip_eval.probes.images import (
    EXTREMES,
    MODES,
    flat_image,
    make_pictures,
    read_as_channels,
    short_sizes,
    turned_image,
)
from clip_eval.run.evidence import Evidence
from clip_eval.subject import has_torchvision, provides
from clip_eval.subject.observations import Clip
from clip_eval.suite._images import ROUTES, Pixels, pixels_of, raised
from clip_eval.verdict.compare import Compare
from clip_eval.verdict.deviations import Deviations

PICTURES = ("landscape", "portrait", "square", "large", "wide", "tiny", "grey", "palette", "cmyk")
OPAQUE = tuple(name for name, entry in MODES.items() if not entry.transparent)
TRANSPARENT = tuple(name for name, entry in MODES.items() if entry.transparent)


@pytest.fixture
def pixels(clip: Clip, compare: Compare, evidence: Evidence) -> Pixels:
    """The check's access to the image processor."""
    return pixels_of(clip, compare, evidence)


def test_settings_can_be_followed(clip: Clip, compare: Compare, evidence: Evidence) -> None:
    """The image processor's files say what can be done: sizes in pixels, a known filter, three means and deviations."""
    if absence := clip.checkpoint.image_processor_absence:
        evidence.absent(absence)
    problem = settings_problem(clip.checkpoint)
    if problem is not None:
        clip.processors.load("AutoImageProcessor")  # if transformers cannot build one either, that is the finding
        compare.fail(
            problem.what,
            (problem.fix or "settings that can be followed").rstrip("."),
            name="what preprocessor_config.json or processor_config.json says",
        )
    compare.equal(problem is None, True, name="the image processor's settings can be followed")


@pytest.mark.parametrize("route", ROUTES)
def test_pixels_match_the_oracle(
    pixels: Pixels, compare: Compare, evidence: Evidence, deviations: Deviations, route: str
) -> None:
    """Every pixel of a batch of mixed sizes equals Pillow's bicubic resize, centre crop and exact normalisation.

    Through every class that users load it by. torchvision's resize may differ by two uint8 levels from Pillow's in the
    same order of passes.
    """
    if ROUTES[route].class_name == "AutoImageProcessor" and deviations.hold(
        "auto-image-processor-needs-torchvision", backend="torchvision" if has_torchvision() else "pillow"
    ):
        compare.equal(raised(lambda: pixels.processor(route)), "ImportError", name="what AutoImageProcessor raises")
        return
    _require(route, evidence)
    pictures, processor = make_pictures(), pixels.processor(route)
    rows_first = deviations.hold("torchvision-filters-rows-first", backend=pixels.backend(processor))
    passes: Passes = "rows first" if rows_first else "pillow"
    observed = pixels.of([pictures[name] for name in PICTURES], processor=processor)
    budget = pixels.budget(pixels.settings, processor=processor)
    compare.equal(len(observed), len(PICTURES), name="number of pixel_values")
    for name, values in zip(PICTURES, observed, strict=True):
        expected = preprocess(pictures[name], pixels.settings, passes=passes)  # (channels, height, width)
        compare.within(values, expected, budget, name=f"pixels of the {name} picture")


def test_one_picture_is_a_batch_of_one(pixels: Pixels) -> None:
    """A single picture gives what it gives inside a batch, with a leading axis of one."""
    pictures = make_pictures()
    for name in ("portrait", "tiny"):
        pixels.judge(pictures[name], [pictures[name]], name=f"pixels of the {name} picture")


@pytest.mark.parametrize("mode", OPAQUE)
def test_every_mode_becomes_rgb(pixels: Pixels, compare: Compare, mode: str) -> None:
    """A picture of any Pillow mode gives the pixels of its conversion to RGB by Pillow.

    A picture in a mode that Pillow cannot convert is refused: its numbers are not read as RGB.
    """
    make = MODES[mode].make
    try:
        preprocess(make(), pixels.settings)
    except UsageError:
        compare.equal(raised(lambda: pixels.of(make())) != "nothing", True, name=f"mode {mode} is refused")
        return
    pixels.judge(make(), [make()], name=f"pixels of mode {mode}")


@pytest.mark.parametrize("mode", TRANSPARENT)
def test_transparency_is_dropped(pixels: Pixels, deviations: Deviations, mode: str) -> None:
    """A picture with transparency is converted to RGB as Pillow does, alone and in a batch: alpha is dropped.

    Colours under full transparency are kept, as in the released CLIP code.
    """
    ground: Transparency = "white" if deviations.hold("transparent-images-on-white") else "dropped"
    make = MODES[mode].make
    pixels.judge(make(), [make()], transparency=ground, name=f"pixels of mode {mode}")
    among = [flat_image(40, 31), make()]
    pixels.judge(among, among, transparency=ground, name=f"pixels of mode {mode} in a batch")


def test_small_pictures_are_resized_like_others(pixels: Pixels, compare: Compare, deviations: Deviations) -> None:
    """A picture of 1 to 5 pixels on either side gives its own pixels: no side is mistaken for the channels."""
    misread = deviations.hold("flat-pictures-are-misread", backend=pixels.backend())
    for width, height in short_sizes():
        _judge_size(pixels, compare, width, height, misread=misread)


@pytest.mark.parametrize("kind", EXTREMES)
def test_proportions_are_kept(pixels: Pixels, compare: Compare, deviations: Deviations, kind: str) -> None:
    """However long a picture is, the shortest side becomes the requested size and the other is rounded down."""
    misread = deviations.hold("flat-pictures-are-misread", backend=pixels.backend())
    _judge_size(pixels, compare, *EXTREMES[kind], misread=misread)


def test_a_flat_picture_leaves_its_batch_alone(pixels: Pixels, compare: Compare, deviations: Deviations) -> None:
    """Pictures 1 and 3 pixels high in a batch are read by themselves, wherever in the batch they are."""
    others = [flat_image(37, 29), flat_image(9, 3), flat_image(12, 1)]
    pixels.judge(others, others, name="flat pictures after another")
    first = [flat_image(9, 3), flat_image(37, 29)]
    if deviations.hold("flat-pictures-are-misread", backend=pixels.backend()):
        compare.equal(raised(lambda: pixels.of(first)), "TypeError", name="a flat picture before another raises")
        return
    pixels.judge(first, first, name="a flat picture before another")


def test_orientation_of_the_file_is_not_applied(pixels: Pixels) -> None:
    """A picture with an EXIF orientation is used as it is in memory, not turned."""
    for orientation in range(1, 9):
        turned = turned_image(orientation)
        pixels.judge(turned, [flat_image(*turned.size)], name=f"pixels under EXIF orientation {orientation}")


def test_defaults_are_clip_as_released(pixels: Pixels, compare: Compare) -> None:
    """CLIPImageProcessor() without a file has the documented settings, and does what they say: 224, bicubic, 1/255."""
    made, picture = pixels.clip.processors.construct("CLIPImageProcessor"), flat_image(90, 41)
    compare.equal(PixelSettings.from_dict(made.to_dict()), PixelSettings(), name="settings")
    expected = preprocess(picture, PixelSettings(), passes=pixels.passes(made))[None]  # (1, channels, 224, 224)
    budget = pixels.budget(PixelSettings(), processor=made)
    compare.within(pixels.of(picture, processor=made), expected, budget, name="pixels")


@pytest.mark.parametrize("route", ["AutoProcessor", "CLIPImageProcessor"])
def test_what_is_saved_is_loaded_again(pixels: Pixels, compare: Compare, route: str) -> None:
    """A processor that was saved and loaded again has the same settings and gives the same pixels, bit for bit."""
    pictures = [flat_image(90, 41), flat_image(9, 7)]
    with TemporaryDirectory(prefix="clip-eval-") as directory:
        pixels.processor(route).save_pretrained(directory)
        again = pixels.clip.processors.load(route, source=Path(directory))
        part = getattr(again, "image_processor", again)
        compare.equal(PixelSettings.from_dict(part.to_dict()), pixels.settings, name="settings")
        before = pixels.of(pictures, processor=pixels.processor(route))
        compare.equal(pixels.of(pictures, processor=again), before, name="pixels")


def test_images_fit_the_model(pixels: Pixels, clip: Clip, compare: Compare) -> None:
    """The image processor's output has the channels and the size of the model's config."""
    vision = clip.config.vision
    shape = pixels.of(make_pictures()["landscape"]).shape
    compare.equal(shape, (1, vision.num_channels, vision.image_size, vision.image_size), name="shape of pixel_values")


def _judge_size(pixels: Pixels, compare: Compare, width: int, height: int, *, misread: bool) -> None:
    picture, name = flat_image(width, height), f"{width} x {height} pixels"
    if misread and height == 1:
        compare.equal(raised(lambda: pixels.of(picture)), "ValueError", name=f"what {name} raise")
        return
    read = read_as_channels(picture) if misread and height == 3 else picture
    pixels.judge(picture, [read], name=f"pixels of {name}")


def _require(route: str, evidence: Evidence) -> None:
    """Skip a check in an environment without this way to load."""
    if not provides(ROUTES[route].class_name):
        evidence.not_applicable(
            f"there is no {ROUTES[route].class_name} here: it is of other releases, or needs torchvision"
        )
    if ROUTES[route].options.get("use_fast") and not has_torchvision():
        evidence.not_applicable("the fast image processor needs torchvision, which is not installed")
