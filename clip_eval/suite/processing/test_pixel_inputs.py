"""Forms of pictures: arrays and tensors of every layout and type, batches of every form, and invalid ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clip_eval.probes.images import MODES, flat_image, make_pictures, mixed_batch, pattern
from clip_eval.run.evidence import Evidence
from clip_eval.subject import tensor_of
from clip_eval.subject.observations import Clip
from clip_eval.suite._images import Levels, Pixels, pixels_of, raised, with_factor
from clip_eval.verdict import budgets
from clip_eval.verdict.compare import Compare, to_array
from clip_eval.verdict.deviations import Deviations

Array = NDArray[Any]


def _stacked(pictures: list[Image.Image]) -> Array:
    return np.stack([np.asarray(each) for each in pictures])  # (images, height, width, channels)


def _read_only(levels: Array) -> Array:
    kept = levels.copy()  # the shape of levels
    kept.flags.writeable = False
    return kept


LAYOUTS: Mapping[str, Callable[[Array], Any]] = {
    "channels last": lambda levels: levels,
    "channels first": lambda levels: np.ascontiguousarray(levels.transpose(2, 0, 1)),
    "transposed view": lambda levels: np.ascontiguousarray(levels.transpose(2, 0, 1)).transpose(1, 2, 0),
    "every second pixel of a larger one": lambda levels: levels.repeat(2, axis=0).repeat(2, axis=1)[::2, ::2],
    "by columns": np.asfortranarray,
    "read-only": _read_only,
    "tensor": lambda levels: tensor_of(levels.copy()),
    "tensor, channels first": lambda levels: tensor_of(levels.transpose(2, 0, 1).copy()),
    "tensor, transposed view": lambda levels: tensor_of(levels.copy()).permute(2, 0, 1),
}
"""Ways to hold (height, width, channels) levels in memory."""

TYPES = ("int16", "int32", "int64", "float32", "float64")
FRACTIONS = ("float32", "float64")

FORMS: Mapping[str, Callable[[list[Image.Image]], Any]] = {
    "nested lists": lambda pictures: [pictures[:1], pictures[1:]],
    "list of one list": lambda pictures: [pictures],
    "list of arrays": lambda pictures: [np.asarray(each) for each in pictures],
    "list of tensors": lambda pictures: [tensor_of(np.array(each)) for each in pictures],
    "list of all kinds": lambda pictures: [pictures[0], np.asarray(pictures[1]), tensor_of(np.array(pictures[2]))],
    "array": _stacked,
    "array, channels first": lambda pictures: _stacked(pictures).transpose(0, 3, 1, 2),
    "tensor": lambda pictures: tensor_of(_stacked(pictures)),
    "list of batches": lambda pictures: [_stacked(pictures[:2]), _stacked(pictures[2:])],
}
"""Ways to hand over a batch of three pictures of the same size."""

NO_PICTURES: Mapping[str, Callable[[], Any]] = {
    "None": lambda: None,
    "a list with None": lambda: [flat_image(9, 7), None],
    "a text": lambda: "no picture, no address",
    "a file that is not there": lambda: str(Path("no") / "such" / "picture.png"),
    "bytes": lambda: b"\x89PNG",
    "a number": lambda: 7,
    "lists of numbers": lambda: [[1, 2], [3, 4]],
    "a dictionary": dict,
    "any object": object,
    "an array of one dimension": lambda: np.zeros(9, np.uint8),
    "an array of five dimensions": lambda: np.zeros((1, 1, 9, 9, 3), np.uint8),
    "an array of seven channels": lambda: np.zeros((9, 9, 7), np.uint8),
    "an array of texts": lambda: np.array(["a", "b"]),
    "a picture of no width": lambda: Image.new("RGB", (0, 5)),
    "an array without pixels": lambda: np.zeros((0, 0, 3), np.uint8),
}


@pytest.fixture
def pixels(clip: Clip, compare: Compare, evidence: Evidence) -> Pixels:
    """The check's access to the image processor."""
    return pixels_of(clip, compare, evidence)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_array_is_read_like_a_picture(pixels: Pixels, layout: str) -> None:
    """A uint8 array or tensor gives the pixels of the picture it holds, whichever axis the channels are on."""
    for width, height in ((37, 29), (29, 37)):
        levels = pattern(width, height)  # (height, width, channels)
        pixels.judge(LAYOUTS[layout](levels), [Image.fromarray(levels)], name=f"{width} x {height}, {layout}")


def test_a_mirrored_array_is_read_like_a_picture(pixels: Pixels, compare: Compare, deviations: Deviations) -> None:
    """An array that is a mirrored view of another gives the pixels of the mirrored picture."""
    mirrored = pattern()[::-1, ::-1]  # (height, width, channels)
    if deviations.hold("torchvision-refuses-negative-strides", backend=pixels.backend()):
        compare.equal(raised(lambda: pixels.of(mirrored)), "ValueError", name="what a mirrored array raises")
        return
    pixels.judge(mirrored, [Image.fromarray(mirrored.copy())], name="mirrored array")


@pytest.mark.parametrize("dtype", TYPES)
def test_whole_numbers_of_any_type_are_levels(pixels: Pixels, deviations: Deviations, dtype: str) -> None:
    """Arrays and tensors of whole numbers from 0 to 255 give the same pixels in any dtype."""
    levels = pattern().astype(dtype)  # (height, width, channels)
    expected = _levels(pixels, deviations, rounded=dtype.startswith("int"))
    for kind, given in (("array", levels), ("tensor", tensor_of(levels))):
        expected(given, name=f"{dtype} {kind}")


@pytest.mark.parametrize("dtype", FRACTIONS)
def test_fractions_are_rescaled_like_any_number(pixels: Pixels, deviations: Deviations, dtype: str) -> None:
    """Arrays from 0 to 1 give a picture's pixels with do_rescale=False; without it they are rescaled a second time."""
    fractions = (pattern() / 255).astype(dtype)  # (height, width, channels)
    expected = _levels(pixels, deviations)
    expected(fractions, do_rescale=False, name=f"{dtype} with do_rescale=False")
    expected(tensor_of(fractions), do_rescale=False, name=f"{dtype} tensor with do_rescale=False")
    twice = with_factor(pixels.settings, pixels.settings.rescale_factor / 255)
    expected(fractions, settings=twice, name=f"{dtype}, rescaled again")


def test_the_layout_that_is_named_is_taken(pixels: Pixels) -> None:
    """input_data_format decides if the shape is ambiguous; without it channels are first, as transformers warns."""
    for height in (1, 3):
        levels = pattern(20, height)  # (height, width, channels)
        flat = [Image.fromarray(levels)]
        pixels.judge(levels, flat, input_data_format="channels_last", name=f"height {height}, channels last")
        first = np.ascontiguousarray(levels.transpose(2, 0, 1))  # (channels, height, width)
        pixels.judge(first, flat, input_data_format="channels_first", name=f"height {height}, channels first")
    narrow = pattern(3, 20)  # (height, width, channels)
    pixels.judge(narrow.transpose(2, 0, 1), [Image.fromarray(narrow)], name="shape (3, height, 3)")


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_is_its_pictures(pixels: Pixels, form: str) -> None:
    """A batch gives what its pictures give, in order, in every form of a batch."""
    pictures = [Image.fromarray(np.roll(pattern(), shift, axis=1)) for shift in (0, 5, 11)]
    pixels.judge(FORMS[form](pictures), pictures, name=form)


def test_sizes_and_modes_mix_in_a_batch(pixels: Pixels) -> None:
    """Pictures of different sizes and modes in one batch each give what they give alone, in lists and in lists of
    lists.
    """
    pictures = mixed_batch()
    pixels.judge(pictures, pictures, name="list")
    pixels.judge([pictures[:2], pictures[2:]], pictures, name="lists of two and three")
    pixels.judge(pictures[::-1], pictures[::-1], name="list in reverse")


@pytest.mark.parametrize("kind", NO_PICTURES)
def test_what_is_no_picture_is_refused(pixels: Pixels, compare: Compare, kind: str) -> None:
    """Input that is not a picture raises an exception and gives no pixels, in a full processor and in its image
    processor.
    """
    for name, processor in (("full", pixels.processor()), ("image", pixels.part())):
        outcome = raised(partial(pixels.of, NO_PICTURES[kind](), processor=processor))
        compare.equal(outcome != "nothing", True, name=f"{kind} is refused by the {name} processor")


def test_pictures_are_left_alone(pixels: Pixels, compare: Compare) -> None:
    """Processing changes none of its inputs: no picture of any mode, no array, no tensor, no list."""
    makes = {**make_pictures(), **{mode: entry.make() for mode, entry in MODES.items() if mode != "LAB"}}
    before = {name: _state(picture) for name, picture in makes.items()}
    for picture in makes.values():
        pixels.of(picture)
    for name, picture in makes.items():
        compare.equal(_state(picture), before[name], name=f"the {name} picture is unchanged")
    batch = [pattern(), pattern().astype(np.float32), tensor_of(pattern()), tensor_of(pattern().astype(np.float32))]
    kept = list(batch)
    pixels.of(batch)
    compare.equal(all(a is b for a, b in zip(batch, kept, strict=True)), True, name="the list is unchanged")
    for each in batch:
        compare.equal(to_array(each), pattern(), name=f"the {type(each).__name__} of {each.dtype} is unchanged")


def test_the_same_pictures_give_the_same_pixels(pixels: Pixels, compare: Compare) -> None:
    """Two calls, and four calls at once in threads, give the same pixels, bit for bit."""
    batches = [[flat_image(40 + index, 30), flat_image(9, 7 + index)] for index in range(4)]
    alone = [pixels.of(batch) for batch in batches]
    for index, batch in enumerate(batches):
        compare.equal(pixels.of(batch), alone[index], name="pixels of a second call")
    processor = pixels.processor()
    together = pixels.clip.processors.process_at_once(processor, batches, return_tensors="pt")
    for observed, expected in zip(together, alone, strict=True):
        compare.equal(observed["pixel_values"], expected, name="pixels of a call among others")


def _levels(pixels: Pixels, deviations: Deviations, *, rounded: bool = False) -> Callable[..., None]:
    """Return a function that judges arrays of the pattern's levels in another type than uint8.

    Args:
        pixels: the image processor.
        deviations: declare whether it resizes such arrays as real numbers.
        rounded: the resized numbers are rounded to whole ones.
    """
    expected: list[Levels] = [Image.fromarray(pattern())]
    if not deviations.hold("torchvision-resizes-real-numbers", backend=pixels.backend()):
        return partial(pixels.judge, expected=expected)
    expected = [pattern().astype(np.float64)]
    levels = budgets.real_resize(*pattern().shape[:2]) + (0.5 if rounded else 0.0)
    return partial(pixels.judge, expected=expected, levels=levels)


def _state(picture: Image.Image) -> str:
    return f"{picture.mode} {picture.size} {sorted(picture.info)} {hashlib.sha256(picture.tobytes()).hexdigest()[:16]}"
