"""The hard pictures: the same in every run, each what its name says."""

from __future__ import annotations

import numpy as np
import pytest

from clip_eval.probes.images import (
    EXTREMES,
    MODES,
    SHORT_SIDES,
    flat_image,
    mixed_batch,
    pattern,
    read_as_channels,
    short_sizes,
    turned_image,
)


@pytest.mark.parametrize("name", MODES)
def test_every_picture_is_of_its_mode(name: str) -> None:
    """The mode begins the name, and transparency is there where it is said to be."""
    image = MODES[name].make()
    assert image.mode == name.partition(",")[0]
    alpha = "A" in image.getbands() and image.mode != "LAB"  # there it is an axis of colour
    assert MODES[name].transparent == (alpha or "transparency" in image.info)
    assert MODES[name].why


@pytest.mark.parametrize("name", MODES)
def test_every_picture_is_made_anew(name: str) -> None:
    """Two of the same name are equal and share nothing."""
    first, second = MODES[name].make(), MODES[name].make()
    assert first is not second
    assert first.tobytes() == second.tobytes()
    assert first.info == second.info


def test_declared_transparency_occurs() -> None:
    """The colour, level or index that is declared transparent is in the picture, and not all over."""
    for name in ("P, one colour transparent", "L, one level transparent", "RGB, one colour transparent"):
        image = MODES[name].make()
        declared = np.asarray(image.convert("RGBA"))[..., 3] == 0
        assert 0 < declared.mean() < 1


def test_the_pattern_tells_mistakes_apart() -> None:
    """Black and white meet, and no two rows, columns or channels are equal."""
    levels = pattern(90, 41)
    assert levels.shape == (41, 90, 3)
    assert (levels.min(), levels.max()) == (0, 255)
    for axis in range(3):
        lines = np.moveaxis(levels, axis, 0).reshape(levels.shape[axis], -1)
        assert len(np.unique(lines, axis=0)) == levels.shape[axis]
    assert {flat_image(*size).size for size in EXTREMES.values()} == set(EXTREMES.values())


def test_short_sizes_are_all_pairs() -> None:
    """Each width with each height, once."""
    sizes = list(short_sizes())
    assert len(sizes) == len(set(sizes)) == len(SHORT_SIDES) ** 2


def test_rows_become_channels() -> None:
    """The three rows of a flat picture are the channels of what it is taken for."""
    levels = np.asarray(read_as_channels(flat_image(9, 3)))
    assert levels.shape == (9, 3, 3)
    np.testing.assert_array_equal(levels[:, :, 2], pattern(9, 3)[2])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_pictures_say_so(orientation: int) -> None:
    """The EXIF entry is there, and the pixels lie as they were."""
    image = turned_image(orientation)
    assert image.getexif()[0x0112] == orientation
    np.testing.assert_array_equal(np.asarray(image), np.asarray(flat_image(*image.size)))


def test_a_mixed_batch_is_mixed() -> None:
    """Sizes and modes differ, and none is transparent."""
    batch = mixed_batch()
    assert len({image.size for image in batch}) == len(batch)
    assert {image.mode for image in batch} == {"RGB", "L", "CMYK"}
