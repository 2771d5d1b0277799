"""Pixel preprocessing: values worked by hand, and the PIL-based image processor of the installed transformers."""

from __future__ import annotations

import json
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from clip_eval.errors import UsageError
from clip_eval.oracle.preprocessing.image_processor import PixelSettings, Transparency, preprocess

RELEASE = tuple(int(part) for part in transformers.__version__.split(".")[:2])
LIBRARY = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
# transformers lays transparent images on white from 5.21.0; the contract cuts the alpha channel off.
LIBRARY_TRANSPARENCY: Transparency = "white" if RELEASE >= (5, 21) else "dropped"
FIXTURE = Path(__file__).parents[3] / "fixtures" / "shapes-clip"
NOTHING = PixelSettings(do_resize=False, do_center_crop=False, do_rescale=False, do_normalize=False)
MODES = ("1", "L", "LA", "P", "P int", "P bytes", "RGB", "RGB key", "RGBA", "CMYK", "I;16", "F")


def picture(mode: str, width: int, height: int, seed: int = 0) -> Image.Image:
    """Random pixels in a Pillow mode; what follows a space says how transparency is declared."""
    rng = np.random.default_rng(seed)
    bands = {"1": 1, "L": 1, "P": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}
    kind, _, declared = mode.partition(" ")
    if kind == "I;16":
        return Image.fromarray(rng.integers(0, 512, (height, width)).astype(np.uint16))
    if kind == "F":
        return Image.fromarray(rng.uniform(-20, 280, (height, width)).astype(np.float32))
    raw = rng.integers(0, 256, (height, width, bands[kind]), dtype=np.uint8)
    if kind == "1":
        return Image.frombytes("L", (width, height), raw.tobytes()).convert("1")
    image = Image.frombytes(kind, (width, height), raw.tobytes())
    if kind == "P":
        image.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
    keys = {"int": int(raw.flat[0]), "bytes": bytes(range(256)), "key": tuple(raw[0, 0].tolist())}
    if declared:
        image.info["transparency"] = keys[declared]
    return image


def library_values(image: Image.Image, raw: dict[str, object]) -> NDArray[np.float32]:
    """(channels, height, width). The layout is named, as releases before 5.4 take a height of 1 or 3 for channels."""
    processor = LIBRARY.from_dict(raw)
    with warnings.catch_warnings():
        # Pillow's advice to whoever cuts off the transparency of a palette, as releases before 5.21 do.
        warnings.filterwarnings("ignore", message="Palette images with Transparency", category=UserWarning)
        batch = processor(image, return_tensors="np", input_data_format="channels_last")
    return np.asarray(batch["pixel_values"])[0]


def float32_bound(expected: NDArray[np.float64], chosen: PixelSettings) -> NDArray[np.float64]:
    """Rounding of the library's float32: value and mean once each, then difference, deviation and quotient.

    Each is half an eps; the last three act on |value - mean| <= |value| + |mean|, hence 2 eps (|value| + |mean|) / std.
    """
    eps = np.finfo(np.float32).eps
    if not chosen.do_normalize:
        return eps * np.abs(expected)
    mean, std = (np.array(values)[:, None, None] for values in (chosen.image_mean, chosen.image_std))
    return 2 * eps * (np.abs(expected * std + mean) + np.abs(mean)) / std


def assert_agrees(image: Image.Image, raw: dict[str, object]) -> None:
    """Library and oracle give the same shape, and values within float32 rounding."""
    chosen = PixelSettings.from_dict({"image_processor_type": "CLIPImageProcessor", **raw})
    observed = library_values(image, raw)
    expected = preprocess(image, chosen, transparency=LIBRARY_TRANSPARENCY)
    assert observed.shape == expected.shape
    assert np.all(np.abs(observed - expected) <= float32_bound(expected, chosen))


def test_rescaling_and_normalising_are_plain_arithmetic() -> None:
    """One pixel by hand: (v * factor - mean) / std for each channel, in float64."""
    image = Image.new("RGB", (1, 1), (255, 51, 0))
    chosen = PixelSettings(
        do_resize=False, do_center_crop=False, image_mean=(0.5, 0.1, 0.25), image_std=(0.25, 0.5, 0.125)
    )
    observed = preprocess(image, chosen)
    assert observed.dtype == np.float64
    np.testing.assert_allclose(observed, [[[2.0]], [[0.2]], [[-2.0]]], rtol=4 * np.finfo(np.float64).eps)


@pytest.mark.parametrize(
    ("size", "edge", "expected"),
    [
        ((500, 333), 224, (336, 224)),  # 224 * 500 / 333 = 336.3
        ((333, 500), 224, (224, 336)),
        ((640, 427), 224, (335, 224)),  # 335.7 is rounded down
        ((100, 100), 7, (7, 7)),
        ((1, 5), 3, (3, 15)),
        ((3, 2), 1, (1, 1)),  # 1.5 is rounded down
        ((29, 10), 10, (29, 10)),
    ],
)
def test_the_longer_edge_is_rounded_down(size: tuple[int, int], edge: int, expected: tuple[int, int]) -> None:
    """The shortest edge gets the wanted length, the other one floor(edge * long / short); sizes are (width, height)."""
    values = preprocess(Image.new("RGB", size), PixelSettings(size=edge, do_center_crop=False))
    assert values.shape == (3, expected[1], expected[0])


def test_a_height_and_a_width_are_taken_as_they_are() -> None:
    """A size of height and width ignores the aspect ratio."""
    values = preprocess(Image.new("RGB", (40, 10)), PixelSettings(size=(5, 7), do_center_crop=False))
    assert values.shape == (3, 5, 7)


def test_resizing_is_bicubic_with_a_of_one_half() -> None:
    """Two pixels stretched to four: Keys' kernel with a = -1/2, weights outside of the image given to those inside.

    An output pixel at x = (i + 1/2) / 2 weighs the inputs at 1/2 and 3/2. For i = 0 that is k(1/4) = 0.8671875 and
    k(5/4) = -0.0703125, together 0.796875; of an edge from 0 to 200 it takes -17.65, clipped to 0. For i = 1 it is
    k(1/4) and k(3/4) = 0.2265625 of 1.09375: 41.43. Pillow works in fixed point and ends on the nearest integer.
    """
    image = Image.new("RGB", (2, 1))
    image.putpixel((1, 0), (200, 200, 200))
    chosen = PixelSettings(size=(1, 4), do_center_crop=False, do_rescale=False, do_normalize=False)
    np.testing.assert_array_equal(preprocess(image, chosen), np.broadcast_to([0, 41, 159, 218], (3, 1, 4)))


@pytest.mark.parametrize(
    ("length", "crop", "expected"),
    [
        (5, 3, [2, 3, 4]),
        (6, 3, [2, 3, 4]),  # one pixel more is left over at the end
        (5, 2, [2, 3]),
        (3, 3, [1, 2, 3]),
        (2, 4, [0, 1, 2, 0]),
        (2, 5, [0, 0, 1, 2, 0]),  # one zero more is put before
        (3, 4, [0, 1, 2, 3]),
        (1, 4, [0, 0, 1, 0]),
    ],
)
def test_cropping_takes_the_middle(length: int, crop: int, expected: list[int]) -> None:
    """Pixel i comes from i + floor((length - crop) / 2), and is zero outside; along both axes."""
    line = np.arange(1, length + 1, dtype=np.uint8)
    image = Image.fromarray(np.repeat(line[None, :, None], 3, axis=2))
    chosen = PixelSettings(do_resize=False, crop_height=1, crop_width=crop, do_rescale=False, do_normalize=False)
    np.testing.assert_array_equal(preprocess(image, chosen)[0, 0], expected)
    upright = PixelSettings(do_resize=False, crop_height=crop, crop_width=1, do_rescale=False, do_normalize=False)
    np.testing.assert_array_equal(preprocess(image.transpose(Image.Transpose.ROTATE_270), upright)[0, :, 0], expected)


@pytest.mark.parametrize(
    ("length", "crop", "expected"), [(2, 5, [0, 1, 2, 0, 0]), (2, 4, [0, 1, 2, 0]), (5, 2, [2, 3])]
)
def test_the_spare_zero_can_go_after(length: int, crop: int, expected: list[int]) -> None:
    """With spare="after" an odd zero is behind the image; even padding and cropping stay as they are."""
    line = np.arange(1, length + 1, dtype=np.uint8)
    image = Image.fromarray(np.repeat(line[None, :, None], 3, axis=2))
    chosen = PixelSettings(do_resize=False, crop_height=1, crop_width=crop, do_rescale=False, do_normalize=False)
    np.testing.assert_array_equal(preprocess(image, chosen, spare="after")[0, 0], expected)


def test_real_levels_are_neither_rounded_nor_clipped() -> None:
    """Two pixels stretched to four as above, but as real numbers: what overshoots 0..200 stays.

    At i = 0 the far pixel weighs k(5/4) / (k(1/4) + k(5/4)) = -0.0703125 / 0.796875, at i = 1 it weighs
    k(3/4) / (k(1/4) + k(3/4)) = 0.2265625 / 1.09375; the other two mirror these.
    """
    levels = np.zeros((1, 2, 3))
    levels[:, 1] = 200.0
    chosen = PixelSettings(size=(1, 4), do_center_crop=False, do_rescale=False, do_normalize=False)
    outside, inside = 200 * -0.0703125 / 0.796875, 200 * 0.2265625 / 1.09375
    expected = np.broadcast_to([outside, inside, 200 - inside, 200 - outside], (3, 1, 4))
    np.testing.assert_allclose(preprocess(levels, chosen), expected, rtol=2 * np.finfo(np.float32).eps)


def test_whole_levels_are_those_of_the_picture() -> None:
    """Where nothing is resized, levels and the picture that holds them give the same."""
    image = picture("RGB", 9, 7)
    chosen = PixelSettings(do_resize=False, crop_height=8, crop_width=8)
    np.testing.assert_array_equal(preprocess(np.asarray(image, dtype=np.float64), chosen), preprocess(image, chosen))


def test_rows_can_be_filtered_first() -> None:
    """With passes="rows first" the width changes before the height, whichever order Pillow would take."""
    image = picture("RGB", 41, 90)
    chosen = PixelSettings(size=32, do_center_crop=False, do_rescale=False, do_normalize=False)
    narrow = image.resize((32, 90), Image.Resampling.BICUBIC)
    expected = np.asarray(narrow.resize((32, 70), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    np.testing.assert_array_equal(preprocess(image, chosen, passes="rows first"), expected)


@pytest.mark.parametrize("size", [(41, 32), (32, 90)])
def test_the_order_of_passes_needs_two(size: tuple[int, int]) -> None:
    """Where only one side changes, the order makes no difference."""
    image = picture("RGB", *size)
    chosen = PixelSettings(size=(32, 32), do_center_crop=False)
    np.testing.assert_array_equal(preprocess(image, chosen, passes="rows first"), preprocess(image, chosen))


def test_padding_is_black_before_normalising() -> None:
    """Zeros of the crop are pixels like others: they end at (0 - mean) / std."""
    chosen = PixelSettings(do_resize=False, crop_height=1, crop_width=3, image_mean=(0.5,) * 3, image_std=(0.25,) * 3)
    values = preprocess(Image.new("RGB", (1, 1), (255, 255, 255)), chosen)
    np.testing.assert_array_equal(values[0, 0], [-2.0, 2.0, -2.0])


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("LA", (77, 10), (77, 77, 77)),
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("RGBA", (1, 2, 3, 0), (1, 2, 3)),
        ("CMYK", (255, 0, 0, 0), (0, 255, 255)),
        ("F", 300.0, (255, 255, 255)),
        ("F", -4.0, (0, 0, 0)),
    ],
)
def test_other_modes_become_rgb(mode: str, color: float | tuple[int, ...], expected: tuple[int, int, int]) -> None:
    """Grey goes to all channels, alpha is cut off, floats are clipped to 0..255."""
    values = preprocess(Image.new(mode, (1, 1), color), NOTHING)
    assert values[:, 0, 0].tolist() == list(expected)


@pytest.mark.parametrize(
    ("alpha", "expected"), [(0, [255, 255, 255]), (255, [10, 20, 250]), (127, [133, 138, 253]), (51, [206, 208, 254])]
)
def test_transparency_can_be_laid_on_white(alpha: int, expected: list[int]) -> None:
    """With "white" a channel is value * a + 255 * (1 - a), a = alpha / 255, to the nearest integer."""
    image = Image.new("RGBA", (1, 1), (10, 20, 250, alpha))
    assert preprocess(image, NOTHING, transparency="white")[:, 0, 0].tolist() == expected
    assert preprocess(image, NOTHING)[:, 0, 0].tolist() == [10, 20, 250]


def test_a_transparent_palette_colour_is_dropped_or_white() -> None:
    """A palette entry marked transparent keeps its colour by the contract, and turns white with "white"."""
    image = Image.new("P", (2, 1))
    image.putpalette([9, 8, 7, 30, 20, 10])
    image.putpixel((1, 0), 1)
    for declared in (1, bytes([255, 0])):
        image.info["transparency"] = declared
        assert preprocess(image, NOTHING)[:, 0].T.tolist() == [[9, 8, 7], [30, 20, 10]]
        assert preprocess(image, NOTHING, transparency="white")[:, 0].T.tolist() == [[9, 8, 7], [255, 255, 255]]
        assert image.info["transparency"] == declared


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 3), (4, 1), (57, 41), (5, 160)])
def test_every_mode_and_size_agrees_with_the_library(mode: str, size: tuple[int, int]) -> None:
    """Modes with and without transparency, 1 to 5 pixels, odd sizes, an extreme aspect ratio."""
    assert_agrees(picture(mode, *size), {"size": {"shortest_edge": 20}, "crop_size": {"height": 17, "width": 23}})


@st.composite
def processor_files(draw: st.DrawFn) -> dict[str, object]:
    """Settings as files hold them, old and new ways of writing sizes."""
    pixels = st.integers(1, 40)
    hundredths = st.integers(-100, 100).map(lambda number: number / 100)
    above_zero = st.integers(1, 200).map(lambda number: number / 100)
    edges = st.fixed_dictionaries({"height": pixels, "width": pixels})
    raw: dict[str, object] = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "size": st.one_of(pixels, edges, st.fixed_dictionaries({"shortest_edge": pixels})),
                "resample": st.integers(0, 5),
                "do_resize": st.booleans(),
                "do_center_crop": st.booleans(),
                "do_rescale": st.booleans(),
                "do_normalize": st.booleans(),
                "rescale_factor": above_zero,
                "image_mean": st.one_of(hundredths, st.lists(hundredths, min_size=3, max_size=3)),
                "image_std": st.one_of(above_zero, st.lists(above_zero, min_size=3, max_size=3)),
            },
        )
    )
    return raw | {"crop_size": draw(st.one_of(pixels, edges))}


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    raw=processor_files(),
    mode=st.sampled_from(MODES),
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    seed=st.integers(0, 99),
)
def test_any_settings_agree_with_the_library(
    raw: dict[str, object], mode: str, width: int, height: int, seed: int
) -> None:
    """Whatever a file sets, for any image: same shape, same values within float32 rounding."""
    assert_agrees(picture(mode, width, height, seed), raw)


def test_exif_orientation_is_not_applied() -> None:
    """A picture marked as turned is read as it lies in memory."""
    plain = picture("RGB", 6, 4)
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = BytesIO()
    plain.save(buffer, "PNG", exif=exif)
    turned = Image.open(buffer)
    assert turned.getexif()[0x0112] == 6
    np.testing.assert_array_equal(preprocess(turned, NOTHING), preprocess(plain, NOTHING))
    assert_agrees(turned, {"size": 8, "crop_size": 8})


def test_an_image_that_cannot_be_preprocessed_is_refused() -> None:
    """No pixels, or another mode where the settings do not convert."""
    with pytest.raises(UsageError, match="no pixels"):
        preprocess(Image.new("RGB", (0, 5)), PixelSettings())
    with pytest.raises(UsageError, match="mode L "):
        preprocess(Image.new("L", (5, 5)), PixelSettings(do_convert_rgb=False))
    assert preprocess(Image.new("RGB", (5, 5)), PixelSettings(do_convert_rgb=False)).shape == (3, 224, 224)
    with pytest.raises(UsageError, match="does not convert mode La"):
        preprocess(Image.new("La", (5, 5)), PixelSettings())


def test_the_image_is_left_as_it_was() -> None:
    """Preprocessing works on a copy."""
    image = picture("RGB", 9, 7)
    before = image.tobytes()
    preprocess(image, PixelSettings(size=4, crop_height=4, crop_width=4))
    assert image.tobytes() == before


def test_the_shipped_checkpoint_agrees_with_the_library() -> None:
    """The settings of `fixtures/shapes-clip`, by whichever file holds them."""
    names = [name for name in ("preprocessor_config.json", "processor_config.json") if (FIXTURE / name).exists()]
    assert names
    for name in names:
        raw = json.loads((FIXTURE / name).read_text(encoding="utf-8"))
        if "image_processor" in raw:
            raw = raw["image_processor"]
        for mode in MODES:
            assert_agrees(picture(mode, 83, 61), raw)
