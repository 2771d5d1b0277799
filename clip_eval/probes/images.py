"""Pictures that image processors get wrong, made by code, each with the reason why it is hard.

All are small, and every pixel comes from a formula: no file, no random number, no drawing routine of a library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = [
    "EXTREMES",
    "MODES",
    "SEED",
    "SHORT_SIDES",
    "EdgeImage",
    "flat_image",
    "make_pictures",
    "mixed_batch",
    "pattern",
    "read_as_channels",
    "short_sizes",
    "turned_image",
]

SEED = 20_210_226  # the day the CLIP paper was submitted; any fixed number serves

SHORT_SIDES = (1, 2, 3, 4, 5)
"""Sides in pixels that may be mistaken for a number of channels, or need a special case in a resize."""

_WIDTH, _HEIGHT = 37, 29  # odd and unequal: halves do not divide, and rows and columns cannot be confused
_ORIENTATION = 0x0112  # EXIF 2.32, table 4


@dataclass(frozen=True, slots=True)
class EdgeImage:
    """A hard picture.

    Attributes:
        why: what goes wrong with it.
        make: makes a new picture, so that callers share nothing.
        transparent: it has an alpha channel, or declares a colour transparent.
    """

    why: str
    make: Callable[[], Image.Image] = field(repr=False)
    transparent: bool = False


def pattern(width: int = _WIDTH, height: int = _HEIGHT) -> NDArray[np.uint8]:
    """Return (height, width, 3) uint8: steps, slopes and scattered values, different in each channel.

    It has black next to white, so that a filter with overshoot leaves 0..255, and no two rows, columns or channels are
    equal.
    """
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)  # (height, width)
    steps = 255 * ((x // 5 + y // 4) % 2)  # (height, width)
    scattered = (x * 7919 + y * 104_729 + x * y * 31) % 97  # (height, width)
    red = np.where((x + 2 * y) % 11 < 6, steps, (x * 9 + y * 3) % 256)  # (height, width)
    green = (255 * (y + 1) // (height + 1) + scattered) % 256  # (height, width)
    blue = np.where(x * 2 > width, 255 - steps // 3, scattered * 2)  # (height, width)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)  # (height, width, 3)


def flat_image(width: int, height: int) -> Image.Image:
    """Return the pattern as an RGB picture of `width` x `height` pixels."""
    return Image.fromarray(pattern(width, height))


def read_as_channels(picture: Image.Image) -> Image.Image:
    """Return the picture that results when the rows of an RGB picture 3 pixels high are taken for its channels."""
    levels = np.asarray(picture)  # (3, width, channels)
    return Image.fromarray(np.ascontiguousarray(levels.transpose(1, 2, 0)))


def mixed_batch() -> list[Image.Image]:
    """Return pictures of different sizes and modes, opaque; the first is a landscape."""
    return [
        flat_image(41, 23),
        flat_image(17, 39).convert("L"),
        flat_image(30, 30).convert("CMYK"),
        flat_image(5, 5),
        flat_image(64, 48),
    ]


def turned_image(orientation: int) -> Image.Image:
    """Return a picture read from a file whose EXIF entry says that it is to be shown turned or mirrored (1 to 8)."""
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    buffer = BytesIO()
    flat_image(_WIDTH, _HEIGHT).save(buffer, "PNG", exif=exif)
    return Image.open(buffer)


def _rgb() -> Image.Image:
    return flat_image(_WIDTH, _HEIGHT)


def _alpha() -> Image.Image:
    """Every alpha from none to full along the columns, (height, width) in mode L."""
    row = np.linspace(0, 255, _WIDTH).round().astype(np.uint8)  # (width,)
    return Image.fromarray(np.repeat(row[None], _HEIGHT, axis=0))


def _with_alpha(alpha: Image.Image | int) -> Image.Image:
    image = _rgb().convert("RGBA")
    image.putalpha(alpha)
    return image


def _palette() -> Image.Image:
    """Indices in no order of brightness: read as grey levels they give another picture."""
    y, x = np.mgrid[0:_HEIGHT, 0:_WIDTH]  # (height, width)
    image = Image.fromarray(((x // 3 + y // 2) % 16).astype(np.uint8)).convert("L")
    colours = Image.frombytes("P", image.size, image.tobytes())
    colours.putpalette([(index * step) % 256 for index in range(16) for step in (83, 151, 199)])
    return colours


def _declaring(image: Image.Image, transparency: object) -> Image.Image:
    image.info["transparency"] = transparency
    return image


def _palette_with_alpha() -> Image.Image:
    image = _palette().convert("PA")
    image.putalpha(_alpha())
    return image


def _key_coloured() -> Image.Image:
    image = _rgb()
    image.paste((250, 8, 3), (5, 4, 20, 18))
    return _declaring(image, (250, 8, 3))


def _half_transparent_palette() -> Image.Image:
    return _declaring(_palette(), bytes(range(0, 256, 16)))


def _words() -> Image.Image:
    """Values up to 65535, as from microscopes and depth cameras; only a few are below 256."""
    levels = pattern()[..., 1].astype(np.uint16) * 257  # (height, width)
    levels[::3] //= 300
    return Image.fromarray(levels)


def _integers() -> Image.Image:
    levels = pattern()[..., 1].astype(np.int32) * 3 - 200  # (height, width)
    return Image.fromarray(levels)


def _floats() -> Image.Image:
    levels = pattern()[..., 1].astype(np.float32) * np.float32(1.25) - np.float32(20.375)  # (height, width)
    return Image.fromarray(levels)


def _unit_floats() -> Image.Image:
    return Image.fromarray(pattern()[..., 1].astype(np.float32) / np.float32(255))


def _image(make: Callable[[], Image.Image], why: str, *, transparent: bool = False) -> EdgeImage:
    return EdgeImage(why=why, make=make, transparent=transparent)


MODES: Mapping[str, EdgeImage] = {
    "1": _image(lambda: _rgb().convert("1"), "one bit a pixel: NumPy sees booleans, not 0 and 255"),
    "L": _image(lambda: _rgb().convert("L"), "no axis of channels"),
    "LA": _image(lambda: _with_alpha(_alpha()).convert("LA"), "grey with alpha", transparent=True),
    "P": _image(_palette, "indices into a palette, not levels"),
    "P, one colour transparent": _image(
        lambda: _declaring(_palette(), 3), "a colour declared transparent by its index, as in GIF", transparent=True
    ),
    "P, alphas": _image(
        _half_transparent_palette, "an alpha for each colour of the palette, as in PNG", transparent=True
    ),
    "PA": _image(_palette_with_alpha, "a palette with an alpha channel", transparent=True),
    "RGB": _image(_rgb, "nothing to convert"),
    "RGB, one colour transparent": _image(_key_coloured, "a colour declared transparent, as in PNG", transparent=True),
    "L, one level transparent": _image(
        lambda: _declaring(_rgb().convert("L"), 76), "a level declared transparent, as in PNG", transparent=True
    ),
    "RGBA, opaque": _image(lambda: _with_alpha(255), "an alpha channel that hides nothing", transparent=True),
    "RGBA, half": _image(lambda: _with_alpha(128), "half transparent all over", transparent=True),
    "RGBA, clear": _image(lambda: _with_alpha(0), "colours under full transparency are still there", transparent=True),
    "RGBA, slope": _image(lambda: _with_alpha(_alpha()), "every alpha from 0 to 255", transparent=True),
    "RGBa": _image(lambda: _with_alpha(_alpha()).convert("RGBa"), "premultiplied alpha"),
    "RGBX": _image(lambda: _rgb().convert("RGBX"), "a fourth channel that means nothing"),
    "CMYK": _image(lambda: _rgb().convert("CMYK"), "inks, not light: 0 is white"),
    "YCbCr": _image(lambda: _rgb().convert("YCbCr"), "brightness and colour: three channels that are not RGB"),
    "HSV": _image(lambda: _rgb().convert("HSV"), "hue, saturation, value: three channels that are not RGB"),
    "LAB": _image(
        lambda: Image.frombytes("LAB", (_WIDTH, _HEIGHT), _rgb().tobytes()), "CIELAB: Pillow needs a profile"
    ),
    "I;16": _image(_words, "16 bits a pixel"),
    "I": _image(_integers, "32 bits a pixel, signed, outside of 0..255"),
    "F": _image(_floats, "real levels outside of 0..255"),
    "F, unit": _image(_unit_floats, "real levels in 0..1, which Pillow rounds to 0 and 1"),
}
"""One picture for each of Pillow's modes, and for each way to declare transparency."""

EXTREMES: Mapping[str, tuple[int, int]] = {
    "column of one pixel": (1, 200),
    "row of one pixel": (200, 1),
    "banner": (1000, 10),
    "tower": (10, 1000),
    "one longer": (33, 32),
    "a fraction wider": (299, 200),
    "a fraction higher": (40, 57),
}
"""Width and height in pixels: very long sides, and sides whose rounding removes more than half a pixel (one of the last
two at 32, 224 and 336 pixels).
"""


def short_sizes() -> Iterator[tuple[int, int]]:
    """Yield each width and height of `SHORT_SIDES`."""
    for height in SHORT_SIDES:
        for width in SHORT_SIDES:
            yield width, height


def make_pictures() -> dict[str, Image.Image]:
    """Return pictures by name: landscape, portrait, larger and smaller than any crop, odd sizes, and several modes."""
    generator = np.random.Generator(np.random.PCG64(SEED))
    sizes = {
        "landscape": (97, 61),
        "portrait": (40, 83),
        "square": (64, 64),
        "large": (641, 427),
        "wide": (300, 20),
        "tiny": (5, 4),
    }
    pictures = {name: Image.fromarray(_picture(width, height, generator)) for name, (width, height) in sizes.items()}
    grey = pictures["landscape"].convert("L")
    translucent = pictures["portrait"].convert("RGBA")
    translucent.putalpha(grey.resize(translucent.size))
    return {
        **pictures,
        "grey": grey,
        "palette": pictures["square"].quantize(32),
        "translucent": translucent,
        "cmyk": pictures["landscape"].convert("CMYK"),
    }


def _picture(width: int, height: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Sharp edges, slopes and noise, which tell resampling filters apart. (height, width, 3) uint8."""
    y, x = np.mgrid[0:height, 0:width]  # (height, width)
    slopes = np.stack(
        [x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height)], axis=-1
    )  # (height, width, 3)
    stripes = 90.0 * ((x // 7 + y // 5) % 2)[..., None]  # (height, width, 1)
    noise = generator.uniform(-40, 40, (height, width, 3))
    return np.asarray(np.clip(slopes + stripes + noise, 0, 255), dtype=np.uint8)
