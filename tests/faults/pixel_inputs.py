"""Faults of what pictures are given as, and of the options of a call."""

from __future__ import annotations

from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_transformers
from faults.patching import change_pixels
from faults.pictures import change_arrays, change_pictures, change_step, channels_axis, is_array, on_call

ARRAYS = "pixel_inputs.an_array_is_read_like_a_picture"
MIRRORED = "pixel_inputs.a_mirrored_array_is_read_like_a_picture"
WHOLE = "pixel_inputs.whole_numbers_of_any_type_are_levels"
FRACTIONS = "pixel_inputs.fractions_are_rescaled_like_any_number"
LAYOUT = "pixel_inputs.the_layout_that_is_named_is_taken"
BATCH = "pixel_inputs.a_batch_is_its_pictures"
REFUSED = "pixel_inputs.what_is_no_picture_is_refused"
ALONE = "pixel_inputs.pictures_are_left_alone"
SAME = "pixel_inputs.the_same_pictures_give_the_same_pixels"
OPTION = "pixel_options.an_option_does_what_it_says"
FILTER = "pixel_options.every_filter_is_its_own"
END = "pixel_options.options_end_with_the_call"
GIVEN_LAYOUT = "pixel_options.pixels_come_in_the_layout_asked_for"
GIVEN_TYPE = "pixel_options.pixels_come_in_the_type_asked_for"
SURFACE = "baseline.surface_is_approved"
PREPROCESS = "pixel_options.preprocess_is_the_call"


@in_transformers(ARRAYS)
def arrays_with_channels_first_are_transposed(patch: MonkeyPatch) -> None:
    """An array with channels first has rows and columns exchanged, as after reversing all axes."""

    def turn(array: Any) -> Any:
        return array.swapaxes(-1, -2) if array.ndim == 3 and array.shape[0] == 3 else array

    change_arrays(patch, turn)


@in_transformers(ARRAYS)
def tensors_are_read_as_blue_green_red(patch: MonkeyPatch) -> None:
    """The channels of a tensor are reversed; pictures and arrays are read rightly."""

    def reverse(array: Any) -> Any:
        return array.flip(channels_axis(array)) if hasattr(array, "detach") and array.ndim == 3 else array

    change_arrays(patch, reverse)


@in_transformers(ARRAYS)
def strides_are_ignored(patch: MonkeyPatch) -> None:
    """An array that is a view is read from its memory as if it were contiguous."""
    import numpy as np

    def read(array: Any) -> Any:
        if not isinstance(array, np.ndarray) or array.ndim != 3 or array.flags.c_contiguous:
            return array
        return np.frombuffer(array.tobytes(order="A"), array.dtype).reshape(array.shape)

    change_arrays(patch, read)


@in_transformers(MIRRORED)
def mirrored_arrays_are_mirrored_back(patch: MonkeyPatch) -> None:
    """Negative strides are taken for positive ones."""
    import numpy as np

    def turn(array: Any) -> Any:
        negative = isinstance(array, np.ndarray) and any(stride < 0 for stride in array.strides)
        return np.ascontiguousarray(array[::-1, ::-1]) if negative else array

    change_arrays(patch, turn)


@in_transformers(WHOLE, FRACTIONS)
def real_numbers_are_not_rescaled(patch: MonkeyPatch) -> None:
    """Arrays of real numbers are taken to lie in 0..1 already, whatever they hold and whatever the call says."""

    def process(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        if is_array(images) and "float" in str(images.dtype):
            kwargs["do_rescale"] = False
        return original(self, images, *args, **kwargs)

    on_call(patch, process)


@in_transformers(WHOLE)
def whole_numbers_are_signed_bytes(patch: MonkeyPatch) -> None:
    """Whole numbers of more than 8 bits are clipped to 0..127."""

    def clip(array: Any) -> Any:
        return array.clip(0, 127) if str(array.dtype).removeprefix("torch.").startswith("int") else array

    change_arrays(patch, clip)


@in_transformers(FRACTIONS)
def fractions_are_not_rescaled_twice(patch: MonkeyPatch) -> None:
    """Arrays from 0 to 1 are left alone where the call would divide them by 255 once more: a guess replaces a rule."""

    def process(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        if is_array(images) and images.ndim == 3 and float(images.max()) <= 1:
            kwargs["do_rescale"] = False
        return original(self, images, *args, **kwargs)

    on_call(patch, process)


@in_transformers(LAYOUT)
def the_named_layout_is_ignored(patch: MonkeyPatch) -> None:
    """input_data_format is dropped and guessed from the shape."""

    def process(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs.pop("input_data_format", None)
        return original(self, images, *args, **kwargs)

    on_call(patch, process)


@in_transformers(LAYOUT)
def an_ambiguous_shape_is_taken_for_channels_last(patch: MonkeyPatch) -> None:
    """A shape of (3, height, 3) is read with the channels last."""

    def turn(array: Any) -> Any:
        return array.swapaxes(0, 2) if array.ndim == 3 and array.shape[0] == array.shape[2] == 3 else array

    change_arrays(patch, turn)


@in_transformers(BATCH)
def nested_lists_are_cut_short(patch: MonkeyPatch) -> None:
    """Of each list in a list the first picture comes twice and the last is lost."""

    def process(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(images, list) and all(isinstance(inner, list) for inner in images):
            images = [[inner[0], *inner[:-1]] for inner in images]
        return original(self, images, *args, **kwargs)

    on_call(patch, process)


@in_transformers(BATCH)
def batched_arrays_are_reversed(patch: MonkeyPatch) -> None:
    """The pictures of an array of four dimensions come in reverse."""
    import numpy as np

    def reverse(array: Any) -> Any:
        return np.ascontiguousarray(array[::-1]) if isinstance(array, np.ndarray) and array.ndim == 4 else array

    change_arrays(patch, reverse)


@in_transformers(REFUSED)
def what_is_missing_is_left_out(patch: MonkeyPatch) -> None:
    """None in a list of pictures is skipped, so that pixels and texts no longer belong together."""

    def process(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        kept = [image for image in images if image is not None] if isinstance(images, list) else images
        return original(self, kept, *args, **kwargs)

    on_call(patch, process)


@in_transformers(REFUSED)
def what_is_no_picture_is_black(patch: MonkeyPatch) -> None:
    """Where a picture cannot be read, black takes its place."""
    from PIL import Image

    def process(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, Image.new("RGB", (8, 8)) if isinstance(images, str) else images, *args, **kwargs)

    on_call(patch, process)


@in_transformers(ALONE)
def pictures_are_written_to(patch: MonkeyPatch) -> None:
    """A pixel of every picture given is overwritten."""

    def write(picture: Any) -> Any:
        if picture.mode in ("RGB", "RGBA", "CMYK"):
            picture.putpixel((0, 0), (1,) * len(picture.getbands()))
        return picture

    change_pictures(patch, write)


@in_transformers(ALONE)
def declared_transparency_is_deleted(patch: MonkeyPatch) -> None:
    """The colour that a palette declares transparent is forgotten, in the caller's own picture."""

    def process(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, images, *args, **kwargs)
        getattr(images, "info", {}).pop("transparency", None)
        return result

    on_call(patch, process)


@in_transformers(ALONE)
def arrays_are_normalised_in_place(patch: MonkeyPatch) -> None:
    """The caller's arrays of real numbers are divided by 255 where they lie."""

    def process(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, images, *args, **kwargs)
        for image in images if isinstance(images, list) else [images]:
            if is_array(image) and "float" in str(image.dtype):
                image[...] = image / 255
        return result

    on_call(patch, process)


@in_transformers(SAME)
def pixels_are_jittered(patch: MonkeyPatch) -> None:
    """Each call shifts its pixels a little further than the call before, as augmentation left on would."""
    calls: list[None] = []

    def jitter(pixels: Any) -> Any:
        calls.append(None)
        return pixels + len(calls) * 1e-3

    change_pixels(patch, jitter)


@in_transformers(SAME)
def pictures_wait_in_the_processor(patch: MonkeyPatch) -> None:
    """A call keeps its pictures in the processor until it reads them: another thread's may have taken their place."""
    import time

    def process(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        self.waiting_images = images
        time.sleep(0.02)
        taken = self.waiting_images
        del self.__dict__["waiting_images"]
        return original(self, taken, *args, **kwargs)

    def forgiving(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return process(original, self, images, *args, **kwargs)
        except (AttributeError, KeyError):
            return original(self, images, *args, **kwargs)

    on_call(patch, forgiving)


@in_transformers(END)
def options_stay(patch: MonkeyPatch) -> None:
    """What a call was told about normalising is kept for the calls after it."""

    def process(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, images, *args, **kwargs)
        if "image_mean" in kwargs:
            self.image_mean = kwargs["image_mean"]
        return result

    on_call(patch, process)


@in_transformers(OPTION)
def a_number_for_the_crop_is_ignored(patch: MonkeyPatch) -> None:
    """crop_size as a plain number has no effect; as height and width it has."""
    _drop(patch, lambda options: [name for name in options if name == "crop_size" and isinstance(options[name], int)])


@in_transformers(OPTION)
def resizing_cannot_be_switched_off(patch: MonkeyPatch) -> None:
    """do_resize=False has no effect."""
    _drop(patch, lambda options: [name for name in options if name == "do_resize"])


@in_transformers(OPTION)
def the_factor_needs_normalising(patch: MonkeyPatch) -> None:
    """rescale_factor is ignored where do_normalize=False is given besides."""
    _drop(patch, lambda options: ["rescale_factor"] if options.get("do_normalize") is False else [])


@in_transformers(OPTION)
def height_and_width_of_the_size_change_places(patch: MonkeyPatch) -> None:
    """A size of height and width is taken for width and height."""

    def process(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        size = kwargs.get("size")
        if isinstance(size, dict) and "height" in size:
            kwargs["size"] = {"height": size["width"], "width": size["height"]}
        return original(self, images, *args, **kwargs)

    on_call(patch, process)


@in_transformers(FILTER)
def rare_filters_are_bicubic(patch: MonkeyPatch) -> None:
    """Every filter but the bilinear one is bicubic."""

    def process(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("resample") not in (None, 2):
            kwargs["resample"] = 3
        return original(self, images, *args, **kwargs)

    on_call(patch, process)


@in_transformers(GIVEN_LAYOUT)
def a_layout_turns_the_picture(patch: MonkeyPatch) -> None:
    """Where a layout is asked for, rows and columns change places, in neither way that a release does."""

    def process(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, images, *args, **kwargs)
        if kwargs.get("data_format") == "channels_last":
            rows = 1 if result["pixel_values"].shape[-1] == 3 else 2
            result["pixel_values"] = result["pixel_values"].swapaxes(rows, rows + 1)
        return result

    on_call(patch, process)


@in_transformers(GIVEN_TYPE)
def arrays_are_doubles(patch: MonkeyPatch) -> None:
    """NumPy arrays come in float64; tensors in float32."""

    def widen(pixels: Any) -> Any:
        return pixels if hasattr(pixels, "detach") or isinstance(pixels, list) else pixels.astype("float64")

    change_pixels(patch, widen)


@in_transformers(GIVEN_TYPE)
def a_list_is_in_reverse(patch: MonkeyPatch) -> None:
    """Without return_tensors the pictures come in reverse order."""
    change_pixels(patch, lambda pixels: pixels[::-1] if isinstance(pixels, list) else pixels)


@in_transformers(PREPROCESS)
def the_method_ignores_options(patch: MonkeyPatch) -> None:
    """The method preprocess always normalises when it is called by itself; inside of a call it obeys do_normalize."""
    inside: list[bool] = []

    def process(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        inside.append(True)
        try:
            return original(self, images, *args, **kwargs)
        finally:
            inside.pop()

    def preprocess(original: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        return original(images, *args, **(kwargs if inside else {**kwargs, "do_normalize": True}))

    on_call(patch, process)
    change_step(patch, "preprocess", preprocess)


@in_transformers(SURFACE, baseline=True)
def a_filter_can_be_named(patch: MonkeyPatch) -> None:
    """The name of a filter as a text is accepted and has no effect, where releases refuse it or take another filter."""
    _drop(patch, lambda options: ["resample"] if isinstance(options.get("resample"), str) else [])


@in_transformers(SURFACE, baseline=True)
def files_are_read_as_they_lie(patch: MonkeyPatch) -> None:
    """A picture that is given by its path is no longer turned as its EXIF entry says."""
    from PIL import Image

    def process(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        is_file = isinstance(images, str) and images.endswith(".png") and "no/such" not in images
        return original(self, Image.open(images) if is_file else images, *args, **kwargs)

    on_call(patch, process)


@in_transformers(SURFACE, baseline=True)
def nothing_is_an_empty_batch(patch: MonkeyPatch) -> None:
    """An empty list of pictures gives an empty batch, not the error that releases raise."""
    from transformers import BatchFeature

    def process(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        return (
            BatchFeature({"pixel_values": []})
            if isinstance(images, list) and not images
            else original(self, images, *args, **kwargs)
        )

    on_call(patch, process)


def _drop(patch: MonkeyPatch, names: Any) -> None:
    """Drop the options of a call that `names(options)` lists."""

    def process(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        dropped = names(kwargs)
        return original(self, images, *args, **{name: kwargs[name] for name in kwargs if name not in dropped})

    on_call(patch, process)
