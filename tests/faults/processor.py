"""Faults of the processor: pixels, token ids, keys, and files that do not belong to the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_file, in_transformers
from faults.files import edit_json
from faults.patching import change_pixels, change_tokens, image_processors, wrap

PIXELS = "processor.pixels_match_the_oracle"
ONE = "processor.one_picture_is_a_batch_of_one"
ALPHA = "processor.transparency_is_dropped"
ALONE = "processor.pictures_are_left_alone"
IDS = "processor.token_ids_follow_the_rules"
LONG = "processor.long_texts_are_truncated_before_the_end_token"
KEYS = "processor.keys_are_the_documented_ones"
IMAGE_SIZE = "processor.images_fit_the_model"
FITS = "processor.tokens_fit_the_model"
DISTINCT = "processor.distinct_texts_have_distinct_ids"
SURFACE = "baseline.surface_is_approved"


@in_transformers(PIXELS, ONE)
def channels_are_reversed(patch: MonkeyPatch) -> None:
    """Pixels come as blue, green, red."""
    change_pixels(patch, lambda pixels: pixels.flip(1))


@in_transformers(PIXELS)
def rows_and_columns_change_places(patch: MonkeyPatch) -> None:
    """Each picture is transposed: the crop is square, so the shape says nothing."""
    change_pixels(patch, lambda pixels: pixels.transpose(-1, -2))


@in_transformers(PIXELS)
def pixels_are_not_rescaled(patch: MonkeyPatch) -> None:
    """Pixels are normalised from 0 to 255 without the division by 255."""
    image_processors(patch, lambda processor: setattr(processor, "do_rescale", False))


@in_transformers(PIXELS)
def pixels_are_divided_by_256(patch: MonkeyPatch) -> None:
    """Pixels are divided by 256."""
    image_processors(patch, lambda processor: setattr(processor, "rescale_factor", 1 / 256))


@in_transformers(PIXELS)
def resize_is_bilinear(patch: MonkeyPatch) -> None:
    """Pictures are resized with a bilinear filter where the file says bicubic."""
    image_processors(patch, lambda processor: setattr(processor, "resample", 2))


@in_transformers(PIXELS)
def mean_and_deviation_change_places(patch: MonkeyPatch) -> None:
    """The deviation is subtracted and the mean divided by."""

    def swap(processor: Any) -> None:
        processor.image_mean, processor.image_std = processor.image_std, processor.image_mean

    image_processors(patch, swap)


@in_transformers(PIXELS)
def pictures_are_squashed(patch: MonkeyPatch) -> None:
    """Pictures are resized to a square, whatever their proportions, so that nothing is left to crop."""

    def squash(processor: Any) -> None:
        side = dict(processor.crop_size)["height"]
        processor.size = type(processor.size)(height=side, width=side)

    image_processors(patch, squash)


@in_transformers(PIXELS)
def crop_is_off_by_one(patch: MonkeyPatch) -> None:
    """The crop lies one pixel to the side of the centre."""
    _change_step(patch, "center_crop", lambda crop, image, *args, **kwargs: crop(_shifted(image), *args, **kwargs))


@in_transformers(PIXELS)
def size_is_rounded_up(patch: MonkeyPatch) -> None:
    """The longer side of a resized picture is one pixel too long: proportions are rounded up, not down."""

    def resize(original: Any, image: Any, size: Any, **kwargs: Any) -> Any:
        resized = original(image=image, size=size, **kwargs)
        height, width = _sides(resized)
        longer = (height + (height > width), width + (width > height))
        return original(image=image, size=type(size)(height=longer[0], width=longer[1]), **kwargs)

    _change_step(patch, "resize", resize)


@in_transformers(PIXELS)
def order_of_the_batch_is_reversed(patch: MonkeyPatch) -> None:
    """Pictures of a batch come back in reverse."""
    change_pixels(patch, lambda pixels: pixels.flip(0))


@in_transformers(ONE)
def a_single_picture_has_no_batch(patch: MonkeyPatch) -> None:
    """A single picture comes without the leading axis."""
    change_pixels(patch, lambda pixels: pixels[0] if len(pixels) == 1 else pixels)


@in_transformers(ALPHA)
def transparency_becomes_black(patch: MonkeyPatch) -> None:
    """A transparent picture is laid on a black ground, in neither way that a release does."""

    def process(step: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        return step(self, images if isinstance(images, list) else _on_black(images), *args, **kwargs)

    _wrap_preprocess(patch, process)


@in_transformers(ALPHA)
def transparency_becomes_black_in_a_batch(patch: MonkeyPatch) -> None:
    """A transparent picture is laid on a black ground where there are others beside it."""

    def process(step: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        several = isinstance(images, list) and len(images) > 1
        return step(self, [_on_black(image) for image in images] if several else images, *args, **kwargs)

    _wrap_preprocess(patch, process)


@in_transformers(ALONE)
def pictures_are_written_to(patch: MonkeyPatch) -> None:
    """A pixel of every picture given is overwritten."""

    def process(step: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        result = step(self, images, *args, **kwargs)
        for image in images if isinstance(images, list) else [images]:
            image.putpixel((0, 0), 1 if image.mode in ("L", "P") else (1,) * len(image.getbands()))
        return result

    _wrap_preprocess(patch, process)


@in_transformers(KEYS)
def pixels_are_doubles(patch: MonkeyPatch) -> None:
    """pixel_values come in float64."""
    change_pixels(patch, lambda pixels: pixels.double())


@in_transformers(KEYS)
def processor_adds_a_key(patch: MonkeyPatch) -> None:
    """Tokenizers return token_type_ids, which CLIP has no use for."""

    def spoil(encoding: Any) -> None:
        encoding["token_type_ids"] = encoding["input_ids"] * 0

    change_tokens(patch, spoil)


@in_transformers(KEYS)
def processor_drops_the_mask(patch: MonkeyPatch) -> None:
    """CLIPProcessor leaves the attention mask out when it is given texts and images."""
    import transformers

    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        if "pixel_values" in result:
            result.pop("attention_mask", None)
        return result

    wrap(patch, transformers.CLIPProcessor, "__call__", call)


@in_transformers("processor.texts_and_images_do_not_mix")
def texts_beside_images_lose_their_end(patch: MonkeyPatch) -> None:
    """CLIPProcessor gives other token ids when it is given images as well."""
    import transformers

    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        if "pixel_values" in result and "input_ids" in result:
            result["input_ids"] = result["input_ids"].roll(1, dims=-1)
        return result

    wrap(patch, transformers.CLIPProcessor, "__call__", call)


@in_transformers("processor.one_text_is_a_batch_of_one")
def a_single_text_is_a_batch_of_letters(patch: MonkeyPatch) -> None:
    """A text that is given by itself, not in a list, is taken for a list of letters."""
    from transformers import PreTrainedTokenizerBase

    def call(original: Any, self: Any, text: Any = None, *args: Any, **kwargs: Any) -> Any:
        return original(self, list(text) if isinstance(text, str) and len(text) > 1 else text, *args, **kwargs)

    wrap(patch, PreTrainedTokenizerBase, "__call__", call)


@in_transformers(KEYS)
def ids_are_short(patch: MonkeyPatch) -> None:
    """Token ids come in int32."""

    def spoil(encoding: Any) -> None:
        if hasattr(encoding["input_ids"], "int"):
            encoding["input_ids"] = encoding["input_ids"].int()

    change_tokens(patch, spoil)


@in_file(IMAGE_SIZE)
def crop_does_not_fit_the_model(directory: Path) -> None:
    """The image processor crops to 24 pixels, the model takes 32."""
    edit_json(directory / "preprocessor_config.json", lambda data: data.update(crop_size={"height": 24, "width": 24}))


@in_file(SURFACE, baseline=True)
def mean_of_the_file_changes(directory: Path) -> None:
    """The image processor's file subtracts another mean than the approved release: library and reference agree on
    it.
    """
    edit_json(directory / "preprocessor_config.json", lambda data: data.update(image_mean=[0.5, 0.5, 0.5]))


@in_transformers(IDS, LONG)
def end_token_is_missing(patch: MonkeyPatch) -> None:
    """Token ids end before the EOS; pooling then finds none."""
    _change_ids(patch, lambda ids, mask, tokenizer: _without_end(ids, mask))


@in_transformers(IDS)
def begin_token_is_missing(patch: MonkeyPatch) -> None:
    """Token ids begin with the first word."""
    _change_ids(patch, lambda ids, mask, tokenizer: (ids[..., 1:], mask[..., 1:]))


@in_transformers(IDS, LONG)
def padding_is_zero(patch: MonkeyPatch) -> None:
    """Padding is token 0, an exclamation mark, not EOS."""
    _change_ids(patch, lambda ids, mask, tokenizer: (ids * mask, mask))


@in_transformers(IDS, LONG)
def mask_is_all_ones(patch: MonkeyPatch) -> None:
    """The attention mask hides no padding."""
    _change_ids(patch, lambda ids, mask, tokenizer: (ids, mask * 0 + 1))


@in_transformers(IDS)
def padding_goes_left(patch: MonkeyPatch) -> None:
    """Padding is put before the text."""
    _spoil_tokenizers(patch, lambda tokenizer: setattr(tokenizer, "padding_side", "left"))


@in_transformers(LONG)
def truncation_cuts_off_the_end_token(patch: MonkeyPatch) -> None:
    """A text that is cut to the model's length loses its EOS: the 77th token is the 77th of the text."""

    def cut(ids: Any, mask: Any, tokenizer: Any) -> Any:
        if ids.shape[-1] == 77:
            ids = ids.clone()
            ids[0, -1] = 320
        return ids, mask

    _change_ids(patch, cut)


@in_transformers(LONG)
def truncation_is_for_processors_only(patch: MonkeyPatch) -> None:
    """A tokenizer that is called by itself ignores truncation=True; inside a processor it obeys."""
    import transformers

    inside: list[bool] = []

    def tokenize(original: Any, self: Any, *args: Any, truncation: Any = None, **kwargs: Any) -> Any:
        return original(self, *args, truncation=truncation if inside else False, **kwargs)

    def process(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        inside.append(True)
        try:
            return original(self, *args, **kwargs)
        finally:
            inside.pop()

    wrap(patch, transformers.PreTrainedTokenizerBase, "__call__", tokenize)
    wrap(patch, transformers.CLIPProcessor, "__call__", process)


@in_file(LONG, FITS)
def length_is_unlimited(directory: Path) -> None:
    """The tokenizer's file names no model_max_length, so truncation=True cuts nothing."""
    edit_json(directory / "tokenizer_config.json", lambda data: data.pop("model_max_length", None))


@in_transformers(IDS)
def case_is_kept(patch: MonkeyPatch) -> None:
    """Texts are not lower-cased, so capitals fall apart into bytes that training never saw."""
    from tokenizers import normalizers

    def keep(tokenizer: Any) -> None:
        if hasattr(tokenizer, "backend_tokenizer"):  # the Python tokenizer of 4.x has none
            tokenizer.backend_tokenizer.normalizer = normalizers.NFC()

    _spoil_tokenizers(patch, keep)


@in_transformers(IDS, releases=SpecifierSet("<5"))
def python_tokenizer_loses_ideographs(patch: MonkeyPatch) -> None:
    """The Python tokenizer of 4.x drops one ideograph: its declared cleaning of such texts must not hide that."""

    def drop(tokenizer: Any) -> None:
        if not hasattr(tokenizer, "backend_tokenizer"):
            original = tokenizer._tokenize
            tokenizer._tokenize = lambda text, **kwargs: original(text.replace("\u65e5", ""), **kwargs)

    _spoil_tokenizers(patch, drop)


@in_transformers(IDS, DISTINCT)
def only_ascii_is_read(patch: MonkeyPatch) -> None:
    """Everything outside of ASCII is dropped, so that texts in other scripts look alike."""
    _change_texts(patch, lambda text: text.encode("ascii", "ignore").decode("ascii"))


@in_file(IDS)
def two_tokens_of_the_vocabulary_change_places(directory: Path) -> None:
    """vocab.json has the ids of two letters exchanged; tokenizer.json has them right."""
    edit_json(directory / "vocab.json", _exchange)


@in_file("baseline.surface_is_approved", baseline=True)
def vocabulary_is_permuted(directory: Path) -> None:
    """Both forms of the tokenizer have the ids of two letters exchanged: they agree, the trained embeddings do not."""
    edit_json(directory / "vocab.json", _exchange)
    edit_json(directory / "tokenizer.json", lambda data: _exchange(data["model"]["vocab"]))


@in_transformers(FITS)
def vocabulary_outgrows_the_embedding(patch: MonkeyPatch) -> None:
    """The tokenizer has a token more than the model has embeddings."""
    _spoil_tokenizers(patch, lambda tokenizer: tokenizer.add_tokens(["<|one-too-many|>"]))


@in_transformers(IDS)
def one_route_pads_otherwise(patch: MonkeyPatch) -> None:
    """AutoTokenizer pads on the left; the processor and the tokenizer's own class pad on the right."""
    import transformers

    original = transformers.AutoTokenizer.from_pretrained.__func__

    def load(cls: Any, *args: Any, **kwargs: Any) -> Any:
        tokenizer = original(cls, *args, **kwargs)
        tokenizer.padding_side = "left"
        return tokenizer

    patch.setattr(transformers.AutoTokenizer, "from_pretrained", classmethod(load))


def _exchange(vocabulary: dict[str, int]) -> None:
    vocabulary["a</w>"], vocabulary["r"] = vocabulary["r"], vocabulary["a</w>"]


def _on_black(image: Any) -> Any:
    from PIL import Image

    if not isinstance(image, Image.Image) or image.mode != "RGBA":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("RGB")


def _wrap_preprocess(patch: MonkeyPatch, process: Any) -> None:
    from transformers.image_processing_utils import BaseImageProcessor

    wrap(patch, BaseImageProcessor, "__call__", process)


def _change_step(patch: MonkeyPatch, step: str, change: Any) -> None:
    """Replace a step of every image processor, such as center_crop, by `change(step, image, ...)`."""

    def spoil(processor: Any) -> None:
        original = getattr(processor, step)
        setattr(processor, step, lambda image, *args, **kwargs: change(original, image, *args, **kwargs))

    image_processors(patch, spoil)


def _sides(image: Any) -> tuple[int, int]:
    """(height, width) of an array with channels first or last."""
    shape = image.shape
    return (shape[1], shape[2]) if shape[0] == 3 else (shape[0], shape[1])


def _shifted(image: Any) -> Any:
    import numpy as np

    height, width = _sides(image)
    axis = (0, 1) if image.shape[0] != 3 else (1, 2)
    return np.roll(image, 1, axis=axis[0] if height > width else axis[1])


def _spoil_tokenizers(patch: MonkeyPatch, change: Any) -> None:
    from transformers import PreTrainedTokenizerBase

    original = PreTrainedTokenizerBase.from_pretrained.__func__  # type: ignore[attr-defined]

    def load(cls: Any, *args: Any, **kwargs: Any) -> Any:
        tokenizer = original(cls, *args, **kwargs)
        change(tokenizer)
        return tokenizer

    patch.setattr(PreTrainedTokenizerBase, "from_pretrained", classmethod(load))


def _change_texts(patch: MonkeyPatch, change: Callable[[str], str]) -> None:
    """Let `change` replace each text before any tokenizer reads it."""
    from transformers import PreTrainedTokenizerBase

    def call(original: Any, self: Any, text: Any, *args: Any, **kwargs: Any) -> Any:
        changed = change(text) if isinstance(text, str) else [change(each) for each in text]
        return original(self, changed, *args, **kwargs)

    wrap(patch, PreTrainedTokenizerBase, "__call__", call)


def _change_ids(patch: MonkeyPatch, change: Any) -> None:
    """Let `change(ids, mask, tokenizer)` replace both tensors, (texts, tokens) each."""
    from transformers import PreTrainedTokenizerBase

    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        encoding = original(self, *args, **kwargs)
        if hasattr(encoding["input_ids"], "shape"):
            encoding["input_ids"], encoding["attention_mask"] = change(
                encoding["input_ids"], encoding["attention_mask"], self
            )
        return encoding

    wrap(patch, PreTrainedTokenizerBase, "__call__", call)


def _without_end(ids: Any, mask: Any) -> Any:
    """Replace the first EOS of each text by the token before it, the mask shortened by one."""
    ids, mask = ids.clone(), mask.clone()
    for row in range(len(ids)):
        last = int(mask[row].sum()) - 1
        ids[row, last] = ids[row, last - 1]
        mask[row, last] = 0
    return ids, mask
