"""Faults of the pixel values of pictures that are not plain RGB: other modes, transparency, orientation."""

from __future__ import annotations

from typing import Any

from packaging.specifiers import SpecifierSet
from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_transformers
from faults.pictures import change_mode, change_pictures, is_picture, on_call

MODES = "pixels.every_mode_becomes_rgb"
ALPHA = "pixels.transparency_is_dropped"


@in_transformers(MODES)
def bits_are_taken_for_levels(patch: MonkeyPatch) -> None:
    """White of a picture of one bit a pixel is level 1, not 255."""
    change_mode(patch, "1", lambda picture: picture.convert("L").point(lambda level: level // 255))


@in_transformers(MODES)
def grey_goes_to_one_channel(patch: MonkeyPatch) -> None:
    """A grey picture is red: the other channels stay empty."""
    from PIL import Image

    def redden(picture: Any) -> Any:
        empty = Image.new("L", picture.size)
        return Image.merge("RGB", (picture, empty, empty))

    change_mode(patch, "L", redden)


@in_transformers(MODES)
def a_palette_is_read_as_grey(patch: MonkeyPatch) -> None:
    """The indices of a palette are taken for levels of grey."""
    from PIL import Image

    change_mode(patch, "P", lambda picture: Image.frombytes("L", picture.size, picture.tobytes()))


@in_transformers(MODES)
def ink_is_read_as_light(patch: MonkeyPatch) -> None:
    """Cyan, magenta and yellow are taken for red, green and blue, without being inverted."""
    from PIL import Image

    change_mode(patch, "CMYK", lambda picture: Image.merge("RGB", picture.split()[:3]))


@in_transformers(MODES)
def other_colour_spaces_are_read_as_rgb(patch: MonkeyPatch) -> None:
    """Three channels are RGB, whatever they are called: brightness, hue and the rest are not converted."""
    from PIL import Image

    change_mode(patch, "YCbCr", lambda picture: Image.merge("RGB", picture.split()))


@in_transformers(MODES)
def words_keep_their_upper_byte(patch: MonkeyPatch) -> None:
    """16 bits a pixel are divided by 256, where Pillow clips them to 255."""
    import numpy as np
    from PIL import Image

    change_mode(patch, "I;16", lambda picture: Image.fromarray((np.asarray(picture) // 256).astype(np.uint8)))


@in_transformers(MODES)
def words_wrap_around(patch: MonkeyPatch) -> None:
    """32 bits a pixel lose all but their lowest 8, where Pillow clips them to 0..255."""
    import numpy as np
    from PIL import Image

    change_mode(patch, "I", lambda picture: Image.fromarray(np.asarray(picture).astype(np.uint8)))


@in_transformers(MODES)
def real_levels_are_stretched(patch: MonkeyPatch) -> None:
    """Real levels are stretched so that the smallest becomes black and the largest white."""
    import numpy as np
    from PIL import Image

    def stretch(picture: Any) -> Any:
        levels = np.asarray(picture)
        return Image.fromarray((255 * (levels - levels.min()) / np.ptp(levels)).astype(np.uint8))

    change_mode(patch, "F", stretch)


@in_transformers(ALPHA)
def transparency_becomes_black(patch: MonkeyPatch) -> None:
    """A transparent picture is laid on a black ground, in neither way that a release does."""
    change_mode(patch, "RGBA", _on_black)


@in_transformers(ALPHA)
def transparency_becomes_black_in_a_batch(patch: MonkeyPatch) -> None:
    """A transparent picture is laid on a black ground where there are others beside it."""

    def process(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        several = isinstance(images, list) and len(images) > 1 and all(map(is_picture, images))
        return original(self, [_on_black(image) for image in images] if several else images, *args, **kwargs)

    on_call(patch, process)


@in_transformers(ALPHA)
def a_transparent_colour_becomes_black(patch: MonkeyPatch) -> None:
    """A colour of a palette that is declared transparent turns black, as GIF decoders may leave it."""

    def clear(picture: Any) -> Any:
        return _on_black(picture.convert("RGBA")) if "transparency" in picture.info else picture

    change_mode(patch, "P", clear)


@in_transformers(ALPHA)
def alpha_is_thresholded(patch: MonkeyPatch) -> None:
    """What is less than half opaque becomes white and the rest stays, in neither way that a release does."""
    from PIL import Image

    def cut(picture: Any) -> Any:
        mask = picture.getchannel("A").point(lambda level: 255 * (level > 127))
        return Image.composite(picture.convert("RGB"), Image.new("RGB", picture.size, "white"), mask)

    change_mode(patch, "RGBA", cut)


@in_transformers(ALPHA, releases=SpecifierSet(">=5.21.0"))
def grey_with_alpha_loses_it(patch: MonkeyPatch) -> None:
    """Alpha is dropped again for grey pictures only, where the release lays them on white."""
    change_mode(patch, "LA", lambda picture: picture.convert("L"))


@in_transformers("pixels.orientation_of_the_file_is_not_applied")
def pictures_are_turned_upright(patch: MonkeyPatch) -> None:
    """Pictures are turned as their EXIF entry says."""
    from PIL import ImageOps

    change_pictures(patch, ImageOps.exif_transpose)


def _on_black(image: Any) -> Any:
    from PIL import Image

    if image.mode != "RGBA":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("RGB")
