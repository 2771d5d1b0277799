"""Faults of what does not fit or is missing: taken, cut, stretched or misread where it should be refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from packaging.specifiers import SpecifierSet
from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_transformers
from faults.patching import modeling, text_tower, wrap, wrap_features

MISSING = "refusals.missing_inputs"
MISFITS = "refusals.images_that_do_not_fit"
UNKNOWN = "refusals.unknown_keywords"
LONG = "refusals.texts_that_are_too_long"

BEFORE_5, FROM_5 = SpecifierSet("<5"), SpecifierSet(">=5.0.0")


@in_transformers(UNKNOWN, releases=BEFORE_5)
def unknown_keywords_are_swallowed(patch: MonkeyPatch) -> None:
    """CLIPVisionModel ignores keywords that it does not know."""
    known = ("pixel_values", "output_attentions", "output_hidden_states", "interpolate_pos_encoding", "return_dict")

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, *args, **{name: value for name, value in kwargs.items() if name in known})

    wrap(patch, modeling().CLIPVisionModel, "forward", forward)


@in_transformers(UNKNOWN, releases=FROM_5)
def unknown_keywords_displace_the_mask(patch: MonkeyPatch) -> None:
    """CLIPTextModel forgets its mask where it is given a keyword that it does not know."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        if "atention_mask" in kwargs:
            kwargs.pop("attention_mask")
        return original(self, *args, **kwargs)

    wrap(patch, modeling().CLIPTextModel, "forward", forward)


@in_transformers(UNKNOWN)
def unknown_keywords_of_features_displace_the_mask(patch: MonkeyPatch) -> None:
    """get_text_features forgets its mask where it is given a keyword that it does not know."""

    def features(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        if "threshold" in kwargs:
            kwargs.pop("attention_mask")
        return original(self, *args, **kwargs)

    wrap_features(patch, "get_text_features", features)


@in_transformers("refusals.an_input_given_twice")
def the_first_of_two_inputs_counts(patch: MonkeyPatch) -> None:
    """CLIPModel takes ids by position and by keyword at once, and uses the former."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        if args:
            kwargs.pop("input_ids", None)
        return original(self, *args, **kwargs)

    wrap(patch, modeling().CLIPModel, "forward", forward)


@in_transformers(MISSING)
def missing_images_are_black(patch: MonkeyPatch) -> None:
    """CLIPModel without pixels compares the texts with a black image."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        if len(args) < 2 and kwargs.get("pixel_values") is None:
            side, weight = self.config.vision_config.image_size, self.logit_scale
            kwargs["pixel_values"] = weight.new_zeros(1, self.config.vision_config.num_channels, side, side)
        return original(self, *args, **kwargs)

    wrap(patch, modeling().CLIPModel, "forward", forward)


@in_transformers(MISSING)
def missing_ids_are_not_named(patch: MonkeyPatch) -> None:
    """CLIPTextModel without ids breaks off somewhere inside, and does not say what is missing."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        if not args and kwargs.get("input_ids") is None:
            raise ValueError("cannot unpack")
        return original(self, *args, **kwargs)

    wrap(patch, modeling().CLIPTextModel, "forward", forward)


@in_transformers(MISFITS)
def images_are_scaled_to_fit(patch: MonkeyPatch) -> None:
    """Images of another size are scaled to the model's own without a word."""
    from torch.nn.functional import interpolate

    _change_images(patch, lambda pixels, side: interpolate(pixels, size=(side, side), mode="bilinear"))


@in_transformers(MISFITS)
def images_are_cropped_to_fit(patch: MonkeyPatch) -> None:
    """Images that are a little larger than the model's own lose their right and lower edge without a word."""
    _change_images(patch, lambda pixels, side: pixels[:, :, :side, :side] if min(pixels.shape[2:]) >= side else pixels)


@in_transformers(MISFITS)
def channels_beyond_three_are_dropped(patch: MonkeyPatch) -> None:
    """Images of four channels lose the last one without a word."""

    def forward(original: Any, self: Any, pixel_values: Any, *args: Any, **kwargs: Any) -> Any:
        pixels = pixel_values[:, : self.config.num_channels] if pixel_values.ndim == 4 else pixel_values
        return original(self, pixels, *args, **kwargs)

    wrap(patch, modeling().CLIPVisionEmbeddings, "forward", forward)


@in_transformers("refusals.an_image_without_a_batch")
def an_image_without_a_batch_is_turned(patch: MonkeyPatch) -> None:
    """A single image without the axis of the batch is taken for a batch of one, its rows for its columns."""

    def forward(original: Any, self: Any, pixel_values: Any, *args: Any, **kwargs: Any) -> Any:
        pixels = pixel_values.transpose(1, 2)[None] if pixel_values.ndim == 3 else pixel_values
        return original(self, pixels, *args, **kwargs)

    wrap(patch, modeling().CLIPVisionEmbeddings, "forward", forward)


@in_transformers("refusals.a_text_without_a_batch")
def a_text_without_a_batch_loses_its_end(patch: MonkeyPatch) -> None:
    """A single text without the axis of the batch is taken for a batch of one that lacks its last token."""
    _change_ids(patch, lambda ids, tower: ids[None, :-1] if ids.ndim == 1 else ids)


@in_transformers(LONG)
def long_texts_are_cut(patch: MonkeyPatch) -> None:
    """Texts of more tokens than there are positions are cut without a word, and their masks and positions with them."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        longest = self.config.max_position_embeddings
        cut = {
            name: value[:, :longest]
            for name, value in kwargs.items()
            if name in ("input_ids", "attention_mask", "position_ids") and value is not None and value.ndim == 2
        }
        return original(self, *args, **{**kwargs, **cut})

    wrap(patch, text_tower(), "forward", forward)


@in_transformers(LONG)
def long_texts_with_positions_are_taken(patch: MonkeyPatch) -> None:
    """Texts of more tokens than there are positions are taken where position ids are given."""

    def forward(original: Any, self: Any, input_ids: Any = None, position_ids: Any = None, **kwargs: Any) -> Any:
        if position_ids is None:
            return original(self, input_ids=input_ids, position_ids=position_ids, **kwargs)
        return self.token_embedding(input_ids) + self.position_embedding(position_ids)

    wrap(patch, modeling().CLIPTextEmbeddings, "forward", forward)


@in_transformers("refusals.ids_out_of_range")
def ids_out_of_range_are_clipped(patch: MonkeyPatch) -> None:
    """Ids beyond the vocabulary are taken for its last one, those below 0 for its first."""
    _change_ids(patch, lambda ids, tower: ids.clamp(0, tower.config.vocab_size - 1) if _whole(ids) else ids)


@in_transformers("refusals.ids_out_of_range")
def positions_out_of_range_wrap_round(patch: MonkeyPatch) -> None:
    """Position ids beyond the last one start again from the first."""

    def forward(original: Any, self: Any, input_ids: Any = None, position_ids: Any = None, **kwargs: Any) -> Any:
        if position_ids is not None:
            position_ids = position_ids % self.position_embedding.weight.shape[0]
        return original(self, input_ids=input_ids, position_ids=position_ids, **kwargs)

    wrap(patch, modeling().CLIPTextEmbeddings, "forward", forward)


@in_transformers("refusals.ids_of_other_types")
def ids_as_floats_lose_one(patch: MonkeyPatch) -> None:
    """Ids in floating point are taken, each one less, as if rounding errors had to be feared."""
    _change_ids(patch, lambda ids, tower: (ids - 0.5).long().clamp(0) if ids.is_floating_point() else ids)


@in_transformers("calling_conventions.ids_of_32_bits")
def ids_of_32_bits_lose_their_upper_bits(patch: MonkeyPatch) -> None:
    """Of int32 ids the lower 8 bits are read."""
    _change_ids(patch, lambda ids, tower: ids % 256 if str(ids.dtype) == "torch.int32" else ids)


@in_transformers("refusals.masks_that_do_not_fit")
def masks_are_made_to_fit(patch: MonkeyPatch) -> None:
    """Masks with too few or too many columns are cut, or go on with ones."""
    from torch.nn.functional import pad

    def fit(ids: Any, mask: Any) -> Any:
        return pad(mask, (0, ids.shape[-1] - mask.shape[-1]), value=1) if mask.ndim == 2 else mask

    _change_mask(patch, fit)


@in_transformers("refusals.masks_of_more_texts")
def last_rows_of_a_mask_count(patch: MonkeyPatch) -> None:
    """Of a mask with more rows than texts the last ones count."""
    _change_mask(patch, lambda ids, mask: mask[-len(ids) :] if mask.ndim == 2 and ids.ndim == 2 else mask)


@in_transformers("refusals.losses_of_unequal_counts")
def losses_of_unequal_counts_take_what_there_is(patch: MonkeyPatch) -> None:
    """The loss of unequal counts is that of the largest square of the logits."""
    name = "clip_loss" if hasattr(modeling(), "clip_loss") else "image_text_contrastive_loss"
    original = getattr(modeling(), name)
    patch.setattr(modeling(), name, lambda logits: original(logits[: min(logits.shape), : min(logits.shape)]))


@in_transformers("refusals.refusals_leave_no_trace")
def a_broken_call_changes_the_model(patch: MonkeyPatch) -> None:
    """A call of CLIPVisionModel that breaks off leaves the model's first position embedding a hundredth larger."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        except RuntimeError:
            embeddings = next(m for m in self.modules() if type(m).__name__ == "CLIPVisionEmbeddings")
            embeddings.position_embedding.weight.data[0] *= 1.01
            raise

    wrap(patch, modeling().CLIPVisionModel, "forward", forward)


@in_transformers("calling_conventions.layouts_mean_the_same")
def tensors_are_read_as_they_lie(patch: MonkeyPatch) -> None:
    """Ids that do not lie row after row are read in the order of memory."""

    def as_they_lie(ids: Any, tower: Any) -> Any:
        if ids.is_contiguous() or ids.ndim != 2:
            return ids
        return ids.as_strided(ids.shape, (ids.shape[1], 1))

    _change_ids(patch, as_they_lie)


@in_transformers("calling_conventions.forms_of_pixels")
def channels_last_is_misread(patch: MonkeyPatch) -> None:
    """Pixels with channels last in memory are read as if they were first."""

    def forward(original: Any, self: Any, pixel_values: Any, *args: Any, **kwargs: Any) -> Any:
        if pixel_values.ndim == 4 and pixel_values.stride(1) == 1 and not pixel_values.is_contiguous():
            pixel_values = pixel_values.permute(0, 2, 3, 1).reshape(pixel_values.shape)
        return original(self, pixel_values, *args, **kwargs)

    wrap(patch, modeling().CLIPVisionEmbeddings, "forward", forward)


@in_transformers("calling_conventions.whole_numbers_are_pixels")
def whole_numbers_are_levels(patch: MonkeyPatch) -> None:
    """Pixels given as uint8 are divided by 255."""

    def forward(original: Any, self: Any, pixel_values: Any, *args: Any, **kwargs: Any) -> Any:
        if str(pixel_values.dtype) == "torch.uint8":
            pixel_values = pixel_values / 255
        return original(self, pixel_values, *args, **kwargs)

    wrap(patch, modeling().CLIPVisionEmbeddings, "forward", forward)


def _whole(ids: Any) -> bool:
    return not ids.is_floating_point()


def _change_images(patch: MonkeyPatch, change: Callable[[Any, int], Any]) -> None:
    """Let `change` make images of another size fit, where they are not to be interpolated."""

    def forward(original: Any, self: Any, pixel_values: Any, interpolate_pos_encoding: Any = False) -> Any:
        if not interpolate_pos_encoding and pixel_values.ndim == 4:
            pixel_values = change(pixel_values, self.image_size)
        return original(self, pixel_values, interpolate_pos_encoding=interpolate_pos_encoding)

    wrap(patch, modeling().CLIPVisionEmbeddings, "forward", forward)


def _change_ids(patch: MonkeyPatch, change: Callable[[Any, Any], Any]) -> None:
    """Let `change` replace the ids that reach the text tower, alone or inside another model."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("input_ids") is not None:
            kwargs["input_ids"] = change(kwargs["input_ids"], self)
        return original(self, *args, **kwargs)

    wrap(patch, text_tower(), "forward", forward)


def _change_mask(patch: MonkeyPatch, change: Callable[[Any, Any], Any]) -> None:
    """Let `change` replace the mask that reaches the text tower, alone or inside another model."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("attention_mask") is not None and kwargs.get("input_ids") is not None:
            kwargs["attention_mask"] = change(kwargs["input_ids"], kwargs["attention_mask"])
        return original(self, *args, **kwargs)

    wrap(patch, text_tower(), "forward", forward)
