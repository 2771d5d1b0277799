"""Faults of the tokenizer: what a text is read as, how a tokenizer is built and copied.

Ids are spoiled where releases keep the rules: in the backend of the `tokenizers` library. The tokenizer written in
Python, which 4.x has beside it, is spared by these; other classes are not.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_file, in_transformers
from faults.files import edit_json
from faults.patching import wrap
from faults.tokenizer_patching import (
    BOS,
    EOS,
    change_rows,
    change_texts,
    divide,
    normalize,
    spoil_backends,
    spoil_construction,
    spoil_tokenizers,
    surround,
)

IDS = "tokenizer.token_ids_follow_the_rules"
PARTS = "tokenizer.part_of_the_files_is_enough"
COPIES = "tokenizer.copies_read_texts_as_the_original_does"
VOCABULARY = "tokenizer.vocabulary_is_that_of_the_files"
FITS = "tokenizer.tokens_fit_the_model"
SHORT_ENOUGH = "tokenizer.truncated_texts_fit_the_model"
EMBEDDED = "tokenizer.every_id_has_an_embedding"
DISTINCT = "tokenizer.distinct_texts_have_distinct_ids"
PADDED = "token_batches.padding_follows_the_rules"
SURFACE = "baseline.surface_is_approved"

PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


# What a text is read as


@in_transformers(IDS)
def case_is_kept(patch: MonkeyPatch) -> None:
    """Texts are not lower-cased, so capitals fall apart into bytes that training never saw."""
    spoil_backends(patch, lambda backend: normalize(backend, "NFC", "Spaces"))


@in_transformers(IDS)
def texts_are_not_composed(patch: MonkeyPatch) -> None:
    """Accents that come as characters of their own stay so: NFC is left out."""
    spoil_backends(patch, lambda backend: normalize(backend, "Spaces", "Lowercase"))


@in_transformers(IDS)
def texts_are_composed_too_far(patch: MonkeyPatch) -> None:
    """NFKC instead of NFC: ligatures, full width and raised digits become plain letters."""
    spoil_backends(patch, lambda backend: normalize(backend, "NFKC", "Spaces", "Lowercase"))


@in_transformers(IDS)
def accents_are_stripped(patch: MonkeyPatch) -> None:
    """Texts lose their accents, as BERT's tokenizer does it."""
    spoil_backends(patch, lambda backend: normalize(backend, "NFD", "StripAccents", "Spaces", "Lowercase"))


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
    change_texts(patch, lambda text: text.encode().decode("latin-1"))


@in_transformers(IDS)
def entities_are_replaced(patch: MonkeyPatch) -> None:
    """HTML entities are replaced by what they stand for, as the released CLIP code does and transformers does not."""
    change_texts(patch, html.unescape)


@in_transformers(IDS)
def apostrophes_are_straightened(patch: MonkeyPatch) -> None:
    """Typographic apostrophes become ASCII ones, which makes contractions of them."""
    change_texts(patch, lambda text: text.replace("\u2019", "'"))


@in_transformers(IDS)
def invisible_characters_are_deleted(patch: MonkeyPatch) -> None:
    """Zero-width characters and the byte order mark are deleted, so that words grow together."""
    change_texts(patch, lambda text: text.translate(dict.fromkeys((0x200B, 0x2060, 0xFEFF, 0xAD))))


@in_transformers(IDS)
def texts_end_at_a_null_character(patch: MonkeyPatch) -> None:
    """A text ends at its first null character, as a string of C does."""
    change_texts(patch, lambda text: text.partition("\0")[0])


@in_transformers(IDS)
def emoji_are_dropped(patch: MonkeyPatch) -> None:
    """Characters beyond the first plane are dropped."""
    change_texts(patch, lambda text: "".join(character for character in text if ord(character) < 0x10000))


@in_transformers(IDS, DISTINCT)
def only_ascii_is_read(patch: MonkeyPatch) -> None:
    """Everything outside of ASCII is dropped, so that texts in other scripts look alike."""
    change_texts(patch, lambda text: text.encode("ascii", "ignore").decode("ascii"))


@in_transformers(IDS)
def special_tokens_in_a_text_are_words(patch: MonkeyPatch) -> None:
    """A special token written out in a text is read as punctuation and letters."""
    change_texts(patch, lambda text: text.replace("<|", "<\u200b|"))


@in_transformers(IDS)
def special_tokens_are_found_in_any_case(patch: MonkeyPatch) -> None:
    """An <|ENDOFTEXT|> in a text ends it, although the files say that the token is found as it is written only."""
    change_texts(patch, lambda text: text.replace(EOS.upper(), EOS))


@in_transformers(IDS, releases=SpecifierSet("<5"))
def python_tokenizer_loses_ideographs(patch: MonkeyPatch) -> None:
    """The Python tokenizer of 4.x drops one ideograph: its declared cleaning of such texts must not hide that."""

    def drop(tokenizer: Any) -> None:
        if not hasattr(tokenizer, "backend_tokenizer"):
            original = tokenizer._tokenize
            tokenizer._tokenize = lambda text, **kwargs: original(text.replace("\u65e5", ""), **kwargs)

    spoil_tokenizers(patch, drop)


# The ends of a text


@in_transformers(IDS)
def end_token_is_missing(patch: MonkeyPatch) -> None:
    """Token ids end before the EOS; pooling then finds none."""
    spoil_backends(patch, lambda backend: surround(backend, f"{BOS} $A"))


@in_transformers(IDS)
def begin_token_is_missing(patch: MonkeyPatch) -> None:
    """Token ids begin with the first word."""
    spoil_backends(patch, lambda backend: surround(backend, f"$A {EOS}"))


@in_transformers(IDS)
def ends_change_places(patch: MonkeyPatch) -> None:
    """A text begins with the EOS and ends with the BOS."""
    spoil_backends(patch, lambda backend: surround(backend, f"{EOS} $A {BOS}"))


@in_transformers(IDS)
def empty_texts_have_no_ends(patch: MonkeyPatch) -> None:
    """The empty text is no token at all."""
    change_rows(patch, lambda ids, tokenizer: [] if len(ids) == 2 else ids)


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
    spoil_tokenizers(patch, lambda tokenizer: tokenizer.add_tokens(["<|one-too-many|>"]))


@in_transformers(VOCABULARY)
def vocabulary_forgets_added_tokens(patch: MonkeyPatch) -> None:
    """get_vocab() leaves out the tokens that were added to the vocabulary."""

    def spoil(tokenizer: Any) -> None:
        original, size = tokenizer.get_vocab, tokenizer.vocab_size
        tokenizer.get_vocab = lambda: {token: number for token, number in original().items() if number < size}

    spoil_tokenizers(patch, spoil)


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
    spoil_construction(patch, lambda arguments, keywords: not arguments and bool(keywords))


@in_transformers(PARTS)
def built_by_position_it_keeps_case(patch: MonkeyPatch) -> None:
    """A tokenizer that is built from files given by position does not lower-case."""
    spoil_construction(patch, lambda arguments, keywords: bool(arguments))


@in_transformers(PARTS)
def without_its_config_it_has_no_ends(patch: MonkeyPatch) -> None:
    """A tokenizer from a directory without tokenizer_config.json puts no begin and end token around a text."""

    def spoil(tokenizer: Any) -> None:
        if not (Path(tokenizer.name_or_path) / "tokenizer_config.json").exists():
            surround(tokenizer.backend_tokenizer, "$A")

    spoil_tokenizers(patch, spoil, backend=True)


@in_transformers(PARTS, releases=SpecifierSet("<5"))
def vocabulary_alone_forgets_special_tokens(patch: MonkeyPatch) -> None:
    """Without flags in the files special tokens in a text are not recognised: that they are so in any case here, as
    declared, must not hide it.
    """

    def spoil(tokenizer: Any) -> None:
        if not (Path(tokenizer.name_or_path) / "tokenizer_config.json").exists():
            original = tokenizer.backend_tokenizer
            tokenizer._tokenizer = type(original).from_str(_without_added_tokens(original))

    spoil_tokenizers(patch, spoil, backend=True)


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


def _exchange(vocabulary: dict[str, int]) -> None:
    vocabulary["a</w>"], vocabulary["r"] = vocabulary["r"], vocabulary["a</w>"]


def _without_added_tokens(backend: Any) -> str:
    data = json.loads(backend.to_str())
    data["added_tokens"] = []
    return json.dumps(data)
