"""Faults of the tokenizer: what a text is read as, how it is built and copied, batches, decoding, what is left behind.

Ids are spoiled where releases keep the rules: in the backend of the `tokenizers` library. The tokenizer written in
Python, which 4.x has beside it, is spared by these; other classes are not.
"""

from __future__ import annotations

import html
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_file, in_transformers
from faults.files import edit_json
from faults.patching import wrap

IDS = "tokenizer.token_ids_follow_the_rules"
PARTS = "tokenizer.part_of_the_files_is_enough"
COPIES = "tokenizer.copies_read_texts_as_the_original_does"
DECODED = "tokenizer.decoding_gives_the_words_back"
TIDIED = "tokenizer.tidied_text_has_no_space_before_punctuation"
VOCABULARY = "tokenizer.vocabulary_is_that_of_the_files"
FITS = "tokenizer.tokens_fit_the_model"
SHORT_ENOUGH = "tokenizer.truncated_texts_fit_the_model"
EMBEDDED = "tokenizer.every_id_has_an_embedding"
DISTINCT = "tokenizer.distinct_texts_have_distinct_ids"
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
SURFACE = "baseline.surface_is_approved"

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


# What a text is read as


@in_transformers(IDS)
def case_is_kept(patch: MonkeyPatch) -> None:
    """Texts are not lower-cased, so capitals fall apart into bytes that training never saw."""
    spoil_backends(patch, lambda backend: _normalize(backend, "NFC", "Spaces"))


@in_transformers(IDS)
def texts_are_not_composed(patch: MonkeyPatch) -> None:
    """Accents that come as characters of their own stay so: NFC is left out."""
    spoil_backends(patch, lambda backend: _normalize(backend, "Spaces", "Lowercase"))


@in_transformers(IDS)
def texts_are_composed_too_far(patch: MonkeyPatch) -> None:
    """NFKC instead of NFC: ligatures, full width and raised digits become plain letters."""
    spoil_backends(patch, lambda backend: _normalize(backend, "NFKC", "Spaces", "Lowercase"))


@in_transformers(IDS)
def accents_are_stripped(patch: MonkeyPatch) -> None:
    """Texts lose their accents, as BERT's tokenizer does it."""
    spoil_backends(patch, lambda backend: _normalize(backend, "NFD", "StripAccents", "Spaces", "Lowercase"))


@in_transformers(IDS)
def contractions_stay_whole(patch: MonkeyPatch) -> None:
    """The endings 's, 't, 're and so on are no longer pieces of their own."""
    spoil_backends(patch, lambda backend: divide(backend, PATTERN.replace("'s|'t|'re|'ve|'m|'ll|'d|", "")))


@in_transformers(IDS)
def digits_stay_together(patch: MonkeyPatch) -> None:
    """A number is one piece, not one a digit."""
    spoil_backends(patch, lambda backend: divide(backend, PATTERN.replace(r"[\p{N}]|", r"[\p{N}]+|")))


@in_transformers(IDS)
def punctuation_stands_alone(patch: MonkeyPatch) -> None:
    """Each sign of a run of punctuation is a piece of its own."""
    spoil_backends(patch, lambda backend: divide(backend, PATTERN.replace(r"[^\s\p{L}\p{N}]+", r"[^\s\p{L}\p{N}]")))


@in_transformers(IDS)
def a_space_is_put_before_the_text(patch: MonkeyPatch) -> None:
    """Texts are read with a space before them, as GPT-2's tokenizer can."""
    from tokenizers import pre_tokenizers

    def spoil(backend: Any) -> None:
        first = backend.pre_tokenizer[0]
        backend.pre_tokenizer = pre_tokenizers.Sequence([first, pre_tokenizers.ByteLevel(add_prefix_space=True)])

    spoil_backends(patch, spoil)


@in_transformers(IDS)
def words_have_no_end(patch: MonkeyPatch) -> None:
    """The end-of-word mark is left out, so that every word ends in the pieces of a beginning."""
    spoil_backends(patch, lambda backend: setattr(backend.model, "end_of_word_suffix", ""))


@in_transformers(IDS)
def merging_is_random(patch: MonkeyPatch) -> None:
    """BPE dropout, meant for training, is left on."""
    spoil_backends(patch, lambda backend: setattr(backend.model, "dropout", 0.3))


@in_transformers(IDS)
def bytes_are_read_one_by_one(patch: MonkeyPatch) -> None:
    """Texts are taken for Latin-1: every byte of UTF-8 becomes a character, and two bytes again."""
    _change_texts(patch, lambda text: text.encode().decode("latin-1"))


@in_transformers(IDS)
def entities_are_replaced(patch: MonkeyPatch) -> None:
    """HTML entities are replaced by what they stand for, as the released CLIP code does and transformers does not."""
    _change_texts(patch, html.unescape)


@in_transformers(IDS)
def apostrophes_are_straightened(patch: MonkeyPatch) -> None:
    """Typographic apostrophes become ASCII ones, which makes contractions of them."""
    _change_texts(patch, lambda text: text.replace("\u2019", "'"))


@in_transformers(IDS)
def invisible_characters_are_deleted(patch: MonkeyPatch) -> None:
    """Zero-width characters and the byte order mark are deleted, so that words grow together."""
    _change_texts(patch, lambda text: text.translate(dict.fromkeys((0x200B, 0x2060, 0xFEFF, 0xAD))))


@in_transformers(IDS)
def texts_end_at_a_null_character(patch: MonkeyPatch) -> None:
    """A text ends at its first null character, as a string of C does."""
    _change_texts(patch, lambda text: text.partition("\0")[0])


@in_transformers(IDS)
def emoji_are_dropped(patch: MonkeyPatch) -> None:
    """Characters beyond the first plane are dropped."""
    _change_texts(patch, lambda text: "".join(character for character in text if ord(character) < 0x10000))


@in_transformers(IDS, DISTINCT)
def only_ascii_is_read(patch: MonkeyPatch) -> None:
    """Everything outside of ASCII is dropped, so that texts in other scripts look alike."""
    _change_texts(patch, lambda text: text.encode("ascii", "ignore").decode("ascii"))


@in_transformers(IDS)
def special_tokens_in_a_text_are_words(patch: MonkeyPatch) -> None:
    """A special token written out in a text is read as punctuation and letters."""
    _change_texts(patch, lambda text: text.replace("<|", "<\u200b|"))


@in_transformers(IDS)
def special_tokens_are_found_in_any_case(patch: MonkeyPatch) -> None:
    """An <|ENDOFTEXT|> in a text ends it, although the files say that the token is found as it is written only."""
    _change_texts(patch, lambda text: text.replace(EOS.upper(), EOS))


@in_transformers(IDS, releases=SpecifierSet("<5"))
def python_tokenizer_loses_ideographs(patch: MonkeyPatch) -> None:
    """The Python tokenizer of 4.x drops one ideograph: its declared cleaning of such texts must not hide that."""

    def drop(tokenizer: Any) -> None:
        if not hasattr(tokenizer, "backend_tokenizer"):
            original = tokenizer._tokenize
            tokenizer._tokenize = lambda text, **kwargs: original(text.replace("\u65e5", ""), **kwargs)

    _spoil_tokenizers(patch, drop)


# The ends of a text


@in_transformers(IDS)
def end_token_is_missing(patch: MonkeyPatch) -> None:
    """Token ids end before the EOS; pooling then finds none."""
    spoil_backends(patch, lambda backend: _surround(backend, f"{BOS} $A"))


@in_transformers(IDS)
def begin_token_is_missing(patch: MonkeyPatch) -> None:
    """Token ids begin with the first word."""
    spoil_backends(patch, lambda backend: _surround(backend, f"$A {EOS}"))


@in_transformers(IDS)
def ends_change_places(patch: MonkeyPatch) -> None:
    """A text begins with the EOS and ends with the BOS."""
    spoil_backends(patch, lambda backend: _surround(backend, f"{EOS} $A {BOS}"))


@in_transformers(IDS)
def empty_texts_have_no_ends(patch: MonkeyPatch) -> None:
    """The empty text is no token at all."""
    _change_rows(patch, lambda ids, tokenizer: [] if len(ids) == 2 else ids)


# Vocabulary and merges


@in_file(IDS)
def two_tokens_of_the_vocabulary_change_places(directory: Path) -> None:
    """vocab.json has the ids of two letters exchanged; tokenizer.json has them right."""
    edit_json(directory / "vocab.json", _exchange)


@in_file(SURFACE, baseline=True)
def vocabulary_is_permuted(directory: Path) -> None:
    """Both forms of the tokenizer have the ids of two letters exchanged: they agree, the trained embeddings do not."""
    edit_json(directory / "vocab.json", _exchange)
    edit_json(directory / "tokenizer.json", lambda data: _exchange(data["model"]["vocab"]))


@in_file(IDS, VOCABULARY)
def vocabulary_is_shifted(directory: Path) -> None:
    """tokenizer.json counts the words from 1: each id is one too high, the special tokens' aside."""

    def shift(data: Any) -> None:
        vocabulary = data["model"]["vocab"]
        words = [token for token in sorted(vocabulary, key=vocabulary.get) if token not in (BOS, EOS)]
        vocabulary.update((token, (number + 1) % len(words)) for number, token in enumerate(words))

    edit_json(directory / "tokenizer.json", shift)


@in_file(IDS)
def merges_are_out_of_order(directory: Path) -> None:
    """tokenizer.json lists the merges backwards, so that the rarest comes first."""
    edit_json(directory / "tokenizer.json", lambda data: data["model"]["merges"].reverse())


@in_file(IDS)
def one_merge_is_lost(directory: Path) -> None:
    """tokenizer.json lacks the first merge, as where a header line was expected and is not there."""
    edit_json(directory / "tokenizer.json", lambda data: data["model"]["merges"].pop(0))


@in_file(IDS)
def merges_end_early(directory: Path) -> None:
    """merges.txt breaks off half way, as after a broken download; tokenizer.json is whole."""
    path = directory / "merges.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(lines[: len(lines) // 2]) + "\n", encoding="utf-8")


@in_transformers(EMBEDDED)
def vocabulary_outgrows_the_embedding(patch: MonkeyPatch) -> None:
    """The tokenizer has a token more than the model has embeddings."""
    _spoil_tokenizers(patch, lambda tokenizer: tokenizer.add_tokens(["<|one-too-many|>"]))


@in_transformers(VOCABULARY)
def vocabulary_forgets_added_tokens(patch: MonkeyPatch) -> None:
    """get_vocab() leaves out the tokens that were added to the vocabulary."""

    def spoil(tokenizer: Any) -> None:
        original, size = tokenizer.get_vocab, tokenizer.vocab_size
        tokenizer.get_vocab = lambda: {token: number for token, number in original().items() if number < size}

    _spoil_tokenizers(patch, spoil)


# Agreement with the model


@in_file(SHORT_ENOUGH)
def length_is_unlimited(directory: Path) -> None:
    """The tokenizer's file names no model_max_length, so truncation=True cuts nothing."""
    edit_json(directory / "tokenizer_config.json", lambda data: data.pop("model_max_length", None))


@in_file(FITS)
def begin_token_is_not_the_models(directory: Path) -> None:
    """The model's config has another begin token than the tokenizer."""
    edit_json(directory / "config.json", lambda data: data["text_config"].update(bos_token_id=5))


@in_file(FITS)
def padding_token_is_not_the_models(directory: Path) -> None:
    """The model's config has another padding token than the tokenizer."""
    edit_json(directory / "config.json", lambda data: data["text_config"].update(pad_token_id=5))


# Ways to build one


@in_transformers(PARTS)
def built_by_keyword_it_keeps_case(patch: MonkeyPatch) -> None:
    """A tokenizer that is built from files given by keyword does not lower-case."""
    _spoil_construction(patch, lambda arguments, keywords: not arguments and bool(keywords))


@in_transformers(PARTS)
def built_by_position_it_keeps_case(patch: MonkeyPatch) -> None:
    """A tokenizer that is built from files given by position does not lower-case."""
    _spoil_construction(patch, lambda arguments, keywords: bool(arguments))


@in_transformers(PARTS)
def without_its_config_it_has_no_ends(patch: MonkeyPatch) -> None:
    """A tokenizer from a directory without tokenizer_config.json puts no begin and end token around a text."""

    def spoil(tokenizer: Any) -> None:
        if not (Path(tokenizer.name_or_path) / "tokenizer_config.json").exists():
            _surround(tokenizer.backend_tokenizer, "$A")

    _spoil_tokenizers(patch, spoil, backend=True)


@in_transformers(PARTS, releases=SpecifierSet("<5"))
def vocabulary_alone_forgets_special_tokens(patch: MonkeyPatch) -> None:
    """Without flags in the files special tokens in a text are not recognised: that they are so in any case here, as
    declared, must not hide it.
    """

    def spoil(tokenizer: Any) -> None:
        if not (Path(tokenizer.name_or_path) / "tokenizer_config.json").exists():
            original = tokenizer.backend_tokenizer
            tokenizer._tokenizer = type(original).from_str(_without_added_tokens(original))

    _spoil_tokenizers(patch, spoil, backend=True)


@in_transformers(PADDED)
def one_route_pads_otherwise(patch: MonkeyPatch) -> None:
    """AutoTokenizer pads on the left; the processor and the tokenizer's own class pad on the right."""
    import transformers

    original = transformers.AutoTokenizer.from_pretrained.__func__  # type: ignore[attr-defined]

    def load(cls: Any, *args: Any, **kwargs: Any) -> Any:
        tokenizer = original(cls, *args, **kwargs)
        tokenizer.padding_side = "left"
        return tokenizer

    patch.setattr(transformers.AutoTokenizer, "from_pretrained", classmethod(load))


@in_transformers(COPIES)
def saving_mixes_up_the_vocabulary(patch: MonkeyPatch) -> None:
    """A tokenizer is saved with the ids of two letters exchanged."""
    from transformers import PreTrainedTokenizerBase

    def save(original: Any, self: Any, directory: Any, *args: Any, **kwargs: Any) -> Any:
        names = original(self, directory, *args, **kwargs)
        for path in Path(directory).glob("*.json"):
            if path.name in ("tokenizer.json", "vocab.json"):
                edit_json(path, lambda data: _exchange(data.get("model", {}).get("vocab", data)))
        return names

    wrap(patch, PreTrainedTokenizerBase, "save_pretrained", save)


@in_transformers(COPIES)
def copies_decode_bytes(patch: MonkeyPatch) -> None:
    """A pickled or copied tokenizer decodes to the symbols of bytes: that a copy keeps the ends of words, as declared,
    must not hide it.
    """
    from transformers import PreTrainedTokenizerBase

    def restore(self: Any, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        original = self.decode
        self.decode = lambda *args, **kwargs: original(*args, **kwargs).replace("o", "\u0120o")

    patch.setattr(PreTrainedTokenizerBase, "__setstate__", restore, raising=False)


# Batches


@in_transformers(PADDED)
def padding_is_zero(patch: MonkeyPatch) -> None:
    """Padding is token 0, an exclamation mark, not the padding token."""
    _change_tensors(patch, lambda ids, mask: (ids * mask, mask))


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
    _change_tensors(patch, lambda ids, mask: (ids, mask * 0 + 1))


@in_transformers(PADDED)
def mask_hides_the_end_token(patch: MonkeyPatch) -> None:
    """The mask is 0 wherever the padding token stands, the end of the text included."""

    def hide(ids: Any, mask: Any) -> Any:
        return ids, mask * (ids != ids[..., -1:]) if ids.shape[0] > 1 else mask

    _change_tensors(patch, hide)


@in_transformers(PADDED)
def padding_goes_left(patch: MonkeyPatch) -> None:
    """Padding is put before the text."""
    _spoil_tokenizers(patch, lambda tokenizer: setattr(tokenizer, "padding_side", "left"))


@in_transformers(PADDED)
def padding_side_is_ignored(patch: MonkeyPatch) -> None:
    """padding_side in a call has no effect."""
    _change_options(patch, lambda options: options.pop("padding_side", None))


@in_transformers(PADDED)
def multiple_is_ignored(patch: MonkeyPatch) -> None:
    """pad_to_multiple_of has no effect."""
    _change_options(patch, lambda options: options.pop("pad_to_multiple_of", None))


@in_transformers(TRUNCATED, LONG)
def truncation_starts_at_the_left(patch: MonkeyPatch) -> None:
    """Truncation cuts off the beginning of a text."""
    _spoil_tokenizers(patch, lambda tokenizer: setattr(tokenizer, "truncation_side", "left"))


@in_transformers(TRUNCATED, LONG)
def truncation_cuts_off_the_end_token(patch: MonkeyPatch) -> None:
    """A text that is cut loses its EOS: the 77th token is the 77th of the text."""
    _change_rows(patch, lambda ids, tokenizer: [*ids[:-1], 320] if len(ids) == tokenizer.model_max_length else ids)


@in_transformers(TRUNCATED)
def truncation_ignores_the_length_asked_for(patch: MonkeyPatch) -> None:
    """Truncation cuts to the model's length, whatever max_length says."""
    _change_options(patch, lambda options: options.pop("max_length", None) if options.get("truncation") else None)


@in_transformers(TRUNCATED)
def long_texts_are_always_cut(patch: MonkeyPatch) -> None:
    """Texts are cut to the model's length without being asked for."""
    _change_options(patch, lambda options: options.update(truncation=True) if not options.get("truncation") else None)


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

    _wrap_call(patch, spoil)


@in_transformers(ONE)
def a_single_text_is_a_batch_of_letters(patch: MonkeyPatch) -> None:
    """A text that is given by itself, not in a list, is taken for a list of letters."""

    def call(original: Any, self: Any, text: Any = None, *args: Any, **kwargs: Any) -> Any:
        return original(self, list(text) if isinstance(text, str) and len(text) > 1 else text, *args, **kwargs)

    _wrap_call(patch, call)


@in_transformers(WORDS)
def words_given_apart_grow_together(patch: MonkeyPatch) -> None:
    """Words that are given one by one are joined without a space."""

    def call(original: Any, self: Any, text: Any = None, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("is_split_into_words"):
            text = [["".join(words)] for words in text]
        return original(self, text, *args, **kwargs)

    _wrap_call(patch, call)


@in_transformers(OPTIONAL)
def special_tokens_are_not_marked(patch: MonkeyPatch) -> None:
    """special_tokens_mask is 0 everywhere."""

    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        encoding = original(self, *args, **kwargs)
        if "special_tokens_mask" in encoding:
            encoding["special_tokens_mask"] = [[0] * len(row) for row in encoding["special_tokens_mask"]]
        return encoding

    _wrap_call(patch, call)


@in_transformers(OPTIONAL)
def special_tokens_cannot_be_left_out(patch: MonkeyPatch) -> None:
    """add_special_tokens=False has no effect."""
    _change_options(patch, lambda options: options.pop("add_special_tokens", None))


@in_transformers(OFFSETS)
def offsets_are_off_by_one(patch: MonkeyPatch) -> None:
    """Offsets point at the character after."""

    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        encoding = original(self, *args, **kwargs)
        if "offset_mapping" in encoding:
            spans = encoding["offset_mapping"]
            encoding["offset_mapping"] = [(first + 1, last + 1) if last else (0, 0) for first, last in spans]
        return encoding

    _wrap_call(patch, call)


# What is left behind


@in_transformers(STATE)
def padding_is_remembered(patch: MonkeyPatch) -> None:
    """A call that asks for no padding gets that of the call before."""

    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("padding"):
            self.__dict__["_asked"] = {name: kwargs.get(name) for name in ("padding", "max_length")}
        return original(self, *args, **{**self.__dict__.get("_asked", {}), **kwargs})

    _wrap_call(patch, call)


@in_transformers(STATE)
def padding_side_is_remembered(patch: MonkeyPatch) -> None:
    """A padding_side that one call asked for is that of the tokenizer from then on."""

    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("padding_side"):
            self.padding_side = kwargs["padding_side"]
        return original(self, *args, **kwargs)

    _wrap_call(patch, call)


@in_transformers(STATE)
def texts_given_are_changed(patch: MonkeyPatch) -> None:
    """The list of texts that is given is lower-cased in place."""

    def call(original: Any, self: Any, text: Any = None, *args: Any, **kwargs: Any) -> Any:
        if isinstance(text, list) and all(isinstance(each, str) for each in text):
            text[:] = [each.lower() if each.isascii() else each for each in text]
        return original(self, text, *args, **kwargs)

    _wrap_call(patch, call)


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

    _wrap_call(patch, call)


# Decoding


@in_transformers(DECODED)
def decoding_keeps_the_ends_of_words(patch: MonkeyPatch) -> None:
    """Text for ids has </w> where the spaces belong."""
    _wrap_decode(patch, lambda text, options: text.replace(" ", "</w>"))


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
    _wrap_decode(patch, lambda text, options: text.encode("latin-1", "replace").decode("latin-1"))


@in_transformers(TIDIED)
def tidying_takes_every_space(patch: MonkeyPatch) -> None:
    """clean_up_tokenization_spaces=True takes out every space: that it is declared to do nothing from 5.7 on must not
    hide it.
    """
    _wrap_decode(
        patch, lambda text, options: text.replace(" ", "") if options.get("clean_up_tokenization_spaces") else text
    )


def _exchange(vocabulary: dict[str, int]) -> None:
    vocabulary["a</w>"], vocabulary["r"] = vocabulary["r"], vocabulary["a</w>"]


def _without_added_tokens(backend: Any) -> str:
    data = json.loads(backend.to_str())
    data["added_tokens"] = []
    return json.dumps(data)


def _normalize(backend: Any, *steps: str) -> None:
    """Replace the normaliser by these steps; "Spaces" makes one space of each run."""
    from tokenizers import Regex, normalizers

    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    made = [spaces if step == "Spaces" else getattr(normalizers, step)() for step in steps]
    backend.normalizer = normalizers.Sequence(made)


def divide(backend: Any, pattern: str) -> None:
    """Divide texts by another pattern, and leave each piece whole after that."""
    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, whole])


def _surround(backend: Any, template: str) -> None:
    from tokenizers import processors

    ends = [(token, backend.token_to_id(token)) for token in (BOS, EOS) if token in template]
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=ends)


def _spoil_tokenizers(patch: MonkeyPatch, change: Callable[[Any], object], *, backend: bool = False) -> None:
    """Let `change` spoil each tokenizer that `from_pretrained` makes; with `backend`, those of `tokenizers` only."""
    from transformers import PreTrainedTokenizerBase

    original = PreTrainedTokenizerBase.from_pretrained.__func__  # type: ignore[attr-defined]

    def load(cls: Any, *args: Any, **kwargs: Any) -> Any:
        tokenizer = original(cls, *args, **kwargs)
        if not backend or hasattr(tokenizer, "backend_tokenizer"):
            change(tokenizer)
        return tokenizer

    patch.setattr(PreTrainedTokenizerBase, "from_pretrained", classmethod(load))


def spoil_backends(patch: MonkeyPatch, change: Callable[[Any], object]) -> None:
    """Let `change` spoil the `tokenizers` backend of each tokenizer that `from_pretrained` makes."""
    _spoil_tokenizers(patch, lambda tokenizer: change(tokenizer.backend_tokenizer), backend=True)


def _spoil_construction(patch: MonkeyPatch, when: Callable[[tuple[Any, ...], dict[str, Any]], bool]) -> None:
    """Let CLIPTokenizerFast keep capitals if it is built by hand with arguments of which `when` is true."""
    import transformers

    owner, loading = transformers.CLIPTokenizerFast, threading.local()
    build, load = owner.__init__, transformers.PreTrainedTokenizerBase.from_pretrained.__func__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        if not getattr(loading, "depth", 0) and when(args, kwargs):
            _normalize(self.backend_tokenizer, "NFC", "Spaces")

    def from_pretrained(cls: Any, *args: Any, **kwargs: Any) -> Any:
        loading.depth = getattr(loading, "depth", 0) + 1
        try:
            return load(cls, *args, **kwargs)
        finally:
            loading.depth -= 1

    patch.setattr(owner, "__init__", init)
    patch.setattr(transformers.PreTrainedTokenizerBase, "from_pretrained", classmethod(from_pretrained))


def _wrap_call(patch: MonkeyPatch, call: Callable[..., Any]) -> None:
    from transformers import PreTrainedTokenizerBase

    wrap(patch, PreTrainedTokenizerBase, "__call__", call)


def _change_texts(patch: MonkeyPatch, change: Callable[[str], str]) -> None:
    """Let `change` replace each text before any tokenizer reads it."""

    def changed(text: Any) -> Any:
        return change(text) if isinstance(text, str) else [changed(each) for each in text]

    def call(original: Any, self: Any, text: Any = None, *args: Any, **kwargs: Any) -> Any:
        return original(self, None if text is None else changed(text), *args, **kwargs)

    _wrap_call(patch, call)


def _change_options(patch: MonkeyPatch, change: Callable[[dict[str, Any]], object]) -> None:
    """Let `change` alter the keywords of each call in place."""

    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        change(kwargs)
        return original(self, *args, **kwargs)

    _wrap_call(patch, call)


def _change_rows(patch: MonkeyPatch, change: Callable[[list[int], Any], list[int]]) -> None:
    """Let `change(ids, tokenizer)` replace each row of ids; as tensors, only where the length stays."""

    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        encoding = original(self, *args, **kwargs)
        rows = encoding["input_ids"]
        if hasattr(rows, "shape"):
            for row in rows:
                changed = change(row.tolist(), self)
                if len(changed) == len(row):
                    row[:] = type(rows)(changed) if hasattr(rows, "detach") else changed
        elif rows and isinstance(rows[0], list):
            encoding["input_ids"] = [change(list(row), self) for row in rows]
        return encoding

    _wrap_call(patch, call)


def _change_tensors(patch: MonkeyPatch, change: Callable[[Any, Any], Any]) -> None:
    """Let `change(ids, mask)` replace both where they are tensors or arrays, (texts, tokens) each."""

    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        encoding = original(self, *args, **kwargs)
        if hasattr(encoding["input_ids"], "shape") and "attention_mask" in encoding:
            encoding["input_ids"], encoding["attention_mask"] = change(
                encoding["input_ids"], encoding["attention_mask"]
            )
        return encoding

    _wrap_call(patch, call)


def _wrap_decode(patch: MonkeyPatch, change: Callable[[str, dict[str, Any]], str]) -> None:
    """Let `change(text, options)` replace the text of each decoded row."""
    from transformers import PreTrainedTokenizerBase

    def decode(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        text = original(self, *args, **kwargs)
        return change(text, kwargs) if isinstance(text, str) else [change(each, kwargs) for each in text]

    wrap(patch, PreTrainedTokenizerBase, "decode", decode)
