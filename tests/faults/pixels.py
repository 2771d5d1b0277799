"""Faults of pixels: steps of the processing, modes of pictures, sizes, and ways to an image processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_file, in_transformers
from faults.files import edit_json
from faults.patching import change_pixels, image_processors, wrap, wrap_classmethod
from faults.pictures import change_pictures, change_size, change_step, is_picture, on_call, sides

MATCH = "pixels.pixels_match_the_oracle"
ONE = "pixels.one_picture_is_a_batch_of_one"
SMALL = "pixels.small_pictures_are_resized_like_others"
PROPORTIONS = "pixels.proportions_are_kept"
FLAT = "pixels.a_flat_picture_leaves_its_batch_alone"
DEFAULTS = "pixels.defaults_are_clip_as_released"
SAVED = "pixels.what_is_saved_is_loaded_again"
MIXED = "pixel_inputs.sizes_and_modes_mix_in_a_batch"
SURFACE = "baseline.surface_is_approved"


@in_transformers(MATCH, ONE)
def channels_are_reversed(patch: MonkeyPatch) -> None:
    """Pixels come as blue, green, red."""
    change_pixels(patch, lambda pixels: pixels.flip(1))


@in_transformers(MATCH)
def rows_and_columns_change_places(patch: MonkeyPatch) -> None:
    """Each picture is transposed: the crop is square, so the shape says nothing."""
    change_pixels(patch, lambda pixels: pixels.transpose(-1, -2))


@in_transformers(MATCH)
def pixels_are_not_rescaled(patch: MonkeyPatch) -> None:
    """Pixels are normalised from 0 to 255 without the division by 255."""
    image_processors(patch, lambda processor: setattr(processor, "do_rescale", False))


@in_transformers(MATCH)
def pixels_are_divided_by_256(patch: MonkeyPatch) -> None:
    """Pixels are divided by 256."""
    image_processors(patch, lambda processor: setattr(processor, "rescale_factor", 1 / 256))


@in_transformers(MATCH)
def pixels_are_rescaled_twice(patch: MonkeyPatch) -> None:
    """Pixels are divided by 255, and by 255 again."""
    image_processors(patch, lambda processor: setattr(processor, "rescale_factor", 1 / 255**2))


@in_transformers(MATCH)
def resize_is_bilinear(patch: MonkeyPatch) -> None:
    """Pictures are resized with a bilinear filter where the file says bicubic."""
    image_processors(patch, lambda processor: setattr(processor, "resample", 2))


@in_transformers(MATCH)
def resize_takes_the_nearest_pixel(patch: MonkeyPatch) -> None:
    """Pictures are resized without any filter."""
    image_processors(patch, lambda processor: setattr(processor, "resample", 0))


@in_transformers(MATCH)
def large_pictures_are_not_smoothed(patch: MonkeyPatch) -> None:
    """A reduction looks at four pixels of each row only, as interpolation without antialiasing does."""
    from PIL import Image

    def reduce(picture: Any) -> Any:
        if picture.mode != "RGB" or min(picture.size) < 64:
            return picture
        width, height = (side // 2 for side in picture.size)
        return picture.transform((width, height), Image.Transform.AFFINE, (2, 0, 0, 0, 2, 0), Image.Resampling.BICUBIC)

    change_pictures(patch, reduce)


@in_transformers(MATCH)
def mean_and_deviation_change_places(patch: MonkeyPatch) -> None:
    """The deviation is subtracted and the mean divided by."""

    def swap(processor: Any) -> None:
        processor.image_mean, processor.image_std = processor.image_std, processor.image_mean

    image_processors(patch, swap)


@in_transformers(MATCH)
def statistics_are_those_of_imagenet(patch: MonkeyPatch) -> None:
    """Pixels are normalised with the mean and deviation of ImageNet."""

    def replace(processor: Any) -> None:
        processor.image_mean, processor.image_std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    image_processors(patch, replace)


@in_transformers(MATCH)
def pictures_are_squashed(patch: MonkeyPatch) -> None:
    """Pictures are resized to a square, whatever their proportions, so that nothing is left to crop."""
    change_size(patch, lambda height, width, edge: (edge, edge))


@in_transformers(MATCH, PROPORTIONS)
def the_longest_edge_is_resized(patch: MonkeyPatch) -> None:
    """The longest edge gets the size that the shortest should have, and the crop fills up with black."""

    def fit(height: int, width: int, edge: int) -> tuple[int, int]:
        return max(1, edge * height // max(height, width)), max(1, edge * width // max(height, width))

    change_size(patch, fit)


@in_transformers(MATCH, PROPORTIONS)
def the_longer_side_is_rounded_up(patch: MonkeyPatch) -> None:
    """The longer side of a resized picture is one pixel too long: proportions are rounded up, not down."""

    def fit(height: int, width: int, edge: int) -> tuple[int, int]:
        shortest = min(height, width)
        return -(-edge * height // shortest), -(-edge * width // shortest)

    change_size(patch, fit)


@in_transformers(PROPORTIONS)
def the_longer_side_is_rounded_to_the_nearest(patch: MonkeyPatch) -> None:
    """Proportions are rounded to the nearest pixel, not down."""

    def fit(height: int, width: int, edge: int) -> tuple[int, int]:
        shortest = min(height, width)
        return round(edge * height / shortest), round(edge * width / shortest)

    change_size(patch, fit)


@in_transformers(PROPORTIONS)
def long_pictures_are_limited(patch: MonkeyPatch) -> None:
    """A side never becomes longer than 1,000 pixels, to spare memory: very long pictures are compressed."""

    def fit(height: int, width: int, edge: int) -> tuple[int, int]:
        shortest = min(height, width)
        return min(edge * height // shortest, 1000), min(edge * width // shortest, 1000)

    change_size(patch, fit)


@in_transformers(SMALL)
def small_pictures_are_not_enlarged(patch: MonkeyPatch) -> None:
    """Pictures smaller than the size asked for are left as they are, and set in black."""

    def fit(height: int, width: int, edge: int) -> tuple[int, int]:
        shortest = max(min(height, width), edge)
        return edge * height // shortest, edge * width // shortest

    change_size(patch, fit)


@in_transformers(SMALL)
def a_single_row_is_doubled(patch: MonkeyPatch) -> None:
    """A picture of a single column or row gets a black one beside it, as some resize routines want two."""
    from PIL import ImageOps

    change_pictures(patch, lambda picture: ImageOps.expand(picture, (0, 0, 1, 0)) if 1 in picture.size else picture)


@in_transformers(SMALL, FLAT)
def flat_pictures_are_mirrored(patch: MonkeyPatch) -> None:
    """A picture of 3 pixels in height comes mirrored: neither read rightly, nor misread as some releases do."""
    from PIL import ImageOps

    change_pictures(patch, lambda picture: ImageOps.mirror(picture) if picture.height == 3 else picture)


@in_transformers(SMALL)
def a_single_row_is_black(patch: MonkeyPatch) -> None:
    """A picture of 1 pixel in height becomes a black square, where some releases raise an error."""
    from PIL import Image

    change_pictures(patch, lambda picture: Image.new("RGB", (8, 8)) if picture.height == 1 else picture)


@in_transformers(FLAT)
def a_flat_picture_spoils_its_batch(patch: MonkeyPatch) -> None:
    """Where the first of a batch is 3 pixels high, all are black, and nothing is raised."""
    from PIL import Image

    def process(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        several = isinstance(images, list) and len(images) > 1 and all(map(is_picture, images))
        spoilt = several and images[0].height == 3
        return original(self, [Image.new("RGB", (8, 8))] * len(images) if spoilt else images, *args, **kwargs)

    on_call(patch, process)


@in_transformers(MATCH)
def crop_is_off_by_one(patch: MonkeyPatch) -> None:
    """The crop lies one pixel to the side of the centre."""

    def shift(crop: Any, image: Any, *args: Any, **kwargs: Any) -> Any:
        import numpy as np

        height, width = sides(image)
        axis = (0, 1) if image.shape[0] != 3 else (1, 2)
        return crop(np.roll(image, 1, axis=axis[0] if height > width else axis[1]), *args, **kwargs)

    change_step(patch, "center_crop", shift)


@in_transformers(MATCH)
def order_of_the_batch_is_reversed(patch: MonkeyPatch) -> None:
    """Pictures of a batch come back in reverse."""
    change_pixels(patch, lambda pixels: pixels.flip(0))


@in_transformers(ONE)
def a_single_picture_has_no_batch(patch: MonkeyPatch) -> None:
    """A single picture comes without the leading axis."""
    change_pixels(patch, lambda pixels: pixels[0] if len(pixels) == 1 else pixels)


@in_transformers(MATCH, MIXED)
def the_first_picture_decides_on_the_size(patch: MonkeyPatch) -> None:
    """All pictures of a batch are first brought to the size of the first one."""

    def process(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(images, list) and all(map(is_picture, images)):
            images = [image if image.mode == "P" else image.resize(images[0].size) for image in images]
        return original(self, images, *args, **kwargs)

    on_call(patch, process)


@in_transformers(MIXED)
def the_first_picture_decides_on_the_mode(patch: MonkeyPatch) -> None:
    """All pictures of a batch turn grey where one in it is."""

    def process(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(images, list) and any(is_picture(image) and image.mode == "L" for image in images):
            images = [image.convert("L") for image in images]
        return original(self, images, *args, **kwargs)

    on_call(patch, process)


@in_transformers(MATCH)
def one_route_normalises_otherwise(patch: MonkeyPatch) -> None:
    """AutoProcessor gives an image processor with another mean; all other classes give the file's."""
    import transformers

    def spoil(processor: Any) -> None:
        processor.image_processor.image_mean = (0.5, 0.5, 0.5)

    wrap_classmethod(patch, transformers.AutoProcessor, "from_pretrained", spoil)


@in_transformers(MATCH, releases=SpecifierSet(">=5.4.0,<5.16.0"))
def the_class_without_its_backend_gives_nothing(patch: MonkeyPatch) -> None:
    """AutoImageProcessor gives None where its backend is missing, not the error that these releases raise."""
    import transformers

    class Silent:
        @staticmethod
        def from_pretrained(*args: object, **kwargs: object) -> None:
            """Load nothing."""

    patch.setattr(transformers, "AutoImageProcessor", Silent)


@in_transformers(DEFAULTS)
def defaults_are_bilinear(patch: MonkeyPatch) -> None:
    """An image processor that is made without a file has another filter than documented."""
    import transformers

    def make(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **{"resample": 2, **kwargs})

    wrap(patch, type(transformers.CLIPImageProcessor()), "__init__", make)


@in_transformers(SAVED)
def saving_forgets_the_crop(patch: MonkeyPatch) -> None:
    """What is saved lacks crop_size, so that the default of 224 pixels is loaded."""
    from transformers.image_processing_utils import BaseImageProcessor

    def write(original: Any, self: Any) -> Any:
        return {name: value for name, value in original(self).items() if name != "crop_size"}

    wrap(patch, BaseImageProcessor, "to_dict", write)


@in_file("pixels.images_fit_the_model")
def crop_does_not_fit_the_model(directory: Path) -> None:
    """The image processor crops to 24 pixels, the model takes 32."""
    edit_json(directory / "preprocessor_config.json", lambda data: data.update(crop_size={"height": 24, "width": 24}))


@in_file("pixels.settings_can_be_followed")
def mean_is_of_two_channels(directory: Path) -> None:
    """The image processor's file states two means; it is built, and no image can be normalised."""
    edit_json(directory / "preprocessor_config.json", lambda data: data.update(image_mean=[0.5, 0.5]))


@in_file("processor.every_class_builds_one")
def size_is_a_word(directory: Path) -> None:
    """The size in the image processor's file is no number of pixels."""
    edit_json(directory / "preprocessor_config.json", lambda data: data.update(size="large"))


@in_file(SURFACE, baseline=True)
def mean_of_the_file_changes(directory: Path) -> None:
    """The image processor's file subtracts another mean than the approved release: library and reference agree on
    it.
    """
    edit_json(directory / "preprocessor_config.json", lambda data: data.update(image_mean=[0.5, 0.5, 0.5]))
