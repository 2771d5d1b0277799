"""Faults of the tokenizer's batches, of decoding, and of what a call leaves behind."""

from __future__ import annotations

import threading
import time
from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_transformers
from faults.patching import wrap
from faults.tokenizer_patching import (
    change_options,
    change_rows,
    change_tensors,
    spoil_tokenizers,
    wrap_call,
    wrap_decode,
)

DECODED = "tokenizer.decoding_gives_the_words_back"
TIDIED = "tokenizer.tidied_text_has_no_space_before_punctuation"
LATER = "token_batches.rows_can_be_padded_later"
PADDED = "token_batches.padding_follows_the_rules"
TRUNCATED = "token_batches.truncation_follows_the_rules"
LONG = "token_batches.long_texts_are_truncated_to_the_models_length"
TENSORS = "token_batches.tensors_hold_the_ids"
ONE = "token_batches.one_text_is_a_batch_of_one"
WORDS = "token_batches.words_given_apart_are_a_text"
OPTIONAL = "token_batches.optional_outputs_agree_with_the_ids"
OFFSETS = "token_batches.offsets_point_into_the_text"
STATE = "token_batches.calls_leave_nothing_behind"
THREADS = "token_batches.threads_get_the_ids_of_their_own_texts"


# Batches


@in_transformers(PADDED)
def padding_is_zero(patch: MonkeyPatch) -> None:
    """Padding is token 0, an exclamation mark, not the padding token."""
    change_tensors(patch, lambda ids, mask: (ids * mask, mask))


@in_transformers(LATER)
def rows_padded_later_have_no_mask(patch: MonkeyPatch) -> None:
    """pad() of rows that were not padded marks every token as real."""
    from transformers import PreTrainedTokenizerBase

    def pad(original: Any, self: Any, rows: Any, *args: Any, **kwargs: Any) -> Any:
        padded = original(self, rows, *args, **kwargs)
        padded["attention_mask"] = padded["attention_mask"] * 0 + 1
        return padded

    wrap(patch, PreTrainedTokenizerBase, "pad", pad)


@in_transformers(PADDED)
def mask_is_all_ones(patch: MonkeyPatch) -> None:
    """The attention mask hides no padding."""
    change_tensors(patch, lambda ids, mask: (ids, mask * 0 + 1))


@in_transformers(PADDED)
def mask_hides_the_end_token(patch: MonkeyPatch) -> None:
    """The mask is 0 wherever the padding token stands, the end of the text included."""

    def hide(ids: Any, mask: Any) -> Any:
        return ids, mask * (ids != ids[..., -1:]) if ids.shape[0] > 1 else mask

    change_tensors(patch, hide)


@in_transformers(PADDED)
def padding_goes_left(patch: MonkeyPatch) -> None:
    """Padding is put before the text."""
    spoil_tokenizers(patch, lambda tokenizer: setattr(tokenizer, "padding_side", "left"))


@in_transformers(PADDED)
def padding_side_is_ignored(patch: MonkeyPatch) -> None:
    """padding_side in a call has no effect."""
    change_options(patch, lambda options: options.pop("padding_side", None))


@in_transformers(PADDED)
def multiple_is_ignored(patch: MonkeyPatch) -> None:
    """pad_to_multiple_of has no effect."""
    change_options(patch, lambda options: options.pop("pad_to_multiple_of", None))


@in_transformers(TRUNCATED, LONG)
def truncation_starts_at_the_left(patch: MonkeyPatch) -> None:
    """Truncation cuts off the beginning of a text."""
    spoil_tokenizers(patch, lambda tokenizer: setattr(tokenizer, "truncation_side", "left"))


@in_transformers(TRUNCATED, LONG)
def truncation_cuts_off_the_end_token(patch: MonkeyPatch) -> None:
    """A text that is cut loses its EOS: the 77th token is the 77th of the text."""
    change_rows(patch, lambda ids, tokenizer: [*ids[:-1], 320] if len(ids) == tokenizer.model_max_length else ids)


@in_transformers(TRUNCATED)
def truncation_ignores_the_length_asked_for(patch: MonkeyPatch) -> None:
    """Truncation cuts to the model's length, whatever max_length says."""
    change_options(patch, lambda options: options.pop("max_length", None) if options.get("truncation") else None)


@in_transformers(TRUNCATED)
def long_texts_are_always_cut(patch: MonkeyPatch) -> None:
    """Texts are cut to the model's length without being asked for."""
    change_options(patch, lambda options: options.update(truncation=True) if not options.get("truncation") else None)


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


@in_transformers(TENSORS)
def arrays_are_short(patch: MonkeyPatch) -> None:
    """NumPy arrays of token ids come in int32."""

    def spoil(original: Any, self: Any, *args: Any, return_tensors: Any = None, **kwargs: Any) -> Any:
        encoding = original(self, *args, return_tensors=return_tensors, **kwargs)
        if return_tensors == "np":
            encoding["input_ids"] = encoding["input_ids"].astype("int32")
        return encoding

    wrap_call(patch, spoil)


@in_transformers(ONE)
def a_single_text_is_a_batch_of_letters(patch: MonkeyPatch) -> None:
    """A text that is given by itself, not in a list, is taken for a list of letters."""

    def call(original: Any, self: Any, text: Any = None, *args: Any, **kwargs: Any) -> Any:
        return original(self, list(text) if isinstance(text, str) and len(text) > 1 else text, *args, **kwargs)

    wrap_call(patch, call)


@in_transformers(WORDS)
def words_given_apart_grow_together(patch: MonkeyPatch) -> None:
    """Words that are given one by one are joined without a space."""

    def call(original: Any, self: Any, text: Any = None, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("is_split_into_words"):
            text = [["".join(words)] for words in text]
        return original(self, text, *args, **kwargs)

    wrap_call(patch, call)


@in_transformers(OPTIONAL)
def special_tokens_are_not_marked(patch: MonkeyPatch) -> None:
    """special_tokens_mask is 0 everywhere."""

    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        encoding = original(self, *args, **kwargs)
        if "special_tokens_mask" in encoding:
            encoding["special_tokens_mask"] = [[0] * len(row) for row in encoding["special_tokens_mask"]]
        return encoding

    wrap_call(patch, call)


@in_transformers(OPTIONAL)
def special_tokens_cannot_be_left_out(patch: MonkeyPatch) -> None:
    """add_special_tokens=False has no effect."""
    change_options(patch, lambda options: options.pop("add_special_tokens", None))


@in_transformers(OFFSETS)
def offsets_are_off_by_one(patch: MonkeyPatch) -> None:
    """Offsets point at the character after."""

    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        encoding = original(self, *args, **kwargs)
        if "offset_mapping" in encoding:
            spans = encoding["offset_mapping"]
            encoding["offset_mapping"] = [(first + 1, last + 1) if last else (0, 0) for first, last in spans]
        return encoding

    wrap_call(patch, call)


# What is left behind


@in_transformers(STATE)
def padding_is_remembered(patch: MonkeyPatch) -> None:
    """A call that asks for no padding gets that of the call before."""

    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("padding"):
            self.__dict__["_asked"] = {name: kwargs.get(name) for name in ("padding", "max_length")}
        return original(self, *args, **{**self.__dict__.get("_asked", {}), **kwargs})

    wrap_call(patch, call)


@in_transformers(STATE)
def padding_side_is_remembered(patch: MonkeyPatch) -> None:
    """A padding_side that one call asked for is that of the tokenizer from then on."""

    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("padding_side"):
            self.padding_side = kwargs["padding_side"]
        return original(self, *args, **kwargs)

    wrap_call(patch, call)


@in_transformers(STATE)
def texts_given_are_changed(patch: MonkeyPatch) -> None:
    """The list of texts that is given is lower-cased in place."""

    def call(original: Any, self: Any, text: Any = None, *args: Any, **kwargs: Any) -> Any:
        if isinstance(text, list) and all(isinstance(each, str) for each in text):
            text[:] = [each.lower() if each.isascii() else each for each in text]
        return original(self, text, *args, **kwargs)

    wrap_call(patch, call)


@in_transformers(THREADS)
def threads_share_a_buffer(patch: MonkeyPatch) -> None:
    """Texts pass through a place that all threads share, so that one may read another's."""
    place: dict[str, Any] = {}

    def call(original: Any, self: Any, text: Any = None, *args: Any, **kwargs: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            return original(self, text, *args, **kwargs)
        place["text"] = text
        time.sleep(0.005)
        return original(self, place["text"], *args, **kwargs)

    wrap_call(patch, call)


# Decoding


@in_transformers(DECODED)
def decoding_keeps_the_ends_of_words(patch: MonkeyPatch) -> None:
    """Text for ids has </w> where the spaces belong."""
    wrap_decode(patch, lambda text, options: text.replace(" ", "</w>"))


@in_transformers(DECODED)
def special_tokens_are_never_skipped(patch: MonkeyPatch) -> None:
    """skip_special_tokens=True has no effect."""
    from transformers import PreTrainedTokenizerBase

    def decode(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, *args, **{**kwargs, "skip_special_tokens": False})

    wrap(patch, PreTrainedTokenizerBase, "decode", decode)
    wrap(patch, PreTrainedTokenizerBase, "batch_decode", decode)


@in_transformers(DECODED)
def decoding_loses_what_is_not_latin(patch: MonkeyPatch) -> None:
    """Text for ids has question marks where other scripts stood."""
    wrap_decode(patch, lambda text, options: text.encode("latin-1", "replace").decode("latin-1"))


@in_transformers(TIDIED)
def tidying_takes_every_space(patch: MonkeyPatch) -> None:
    """clean_up_tokenization_spaces=True takes out every space: that it is declared to do nothing from 5.7 on must not
    hide it.
    """
    wrap_decode(
        patch, lambda text, options: text.replace(" ", "") if options.get("clean_up_tokenization_spaces") else text
    )
