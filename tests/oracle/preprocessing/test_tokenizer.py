"""Byte-level BPE: ids worked by hand, and the fast tokenizer of the installed transformers."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small_tokenizer import (
    ADDED_STRINGS,
    END,
    HARD_STRINGS,
    START,
    assert_same_ids,
    library_tokenizer,
    vocabulary,
    write_tokenizer,
)

from clip_eval.oracle.preprocessing.pre_tokenizer import clean_like_python
from clip_eval.oracle.preprocessing.tokenizer import AddedToken, BytePairEncoder, normalize
from clip_eval.probes.texts import HARD_TEXTS, PATTERN_TEXTS
from clip_eval.subject.tokenizers import like_python

FIXTURE = Path(__file__).parents[3] / "fixtures" / "shapes-clip"
RELEASE = int(transformers.__version__.split(".")[0])
# Characters of Unicode 3.2: every release and Python has settled tables for them.
SETTLED = st.characters(exclude_categories=("Cs", "Co")).filter(
    lambda character: unicodedata.ucd_3_2_0.category(character) != "Cn"
)
PIECES = st.one_of(st.sampled_from(HARD_STRINGS[:-3] + ADDED_STRINGS), st.text(SETTLED, max_size=5))
TEXTS = st.lists(PIECES, max_size=6).map("".join)


@dataclass(frozen=True, slots=True)
class Pair:
    """The library's tokenizer and ours, loaded once."""

    tokenizer: Any
    encoder: BytePairEncoder


@pytest.fixture(scope="module")
def shared(checkpoint: Path) -> Pair:
    """Both sides on the handwritten tokenizer."""
    return Pair(library_tokenizer(checkpoint), BytePairEncoder.from_directory(checkpoint))


def spelled(directory: Path, text: str) -> list[str]:
    """The symbols that the encoder gives for a text, without BOS and EOS."""
    encoder = BytePairEncoder.from_directory(directory)
    names = {number: name for name, number in encoder.vocabulary.items()}
    return [names[number] for number in encoder.encode(text)[1:-1]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lower", ["lower</w>"]),
        ("low lo", ["low</w>", "l", "o</w>"]),  # no merge ends "lo" as a word
        ("the then", ["the</w>", "th", "e", "n</w>"]),  # "en" is known inside a word only
        ("photos", ["phot", "o", "s</w>"]),
        ("cand", ["c", "and</w>"]),  # "an" ranks before "ca", which stands further left
        ("A Photo", ["a</w>", "photo</w>"]),
        ("é", ["Ã©</w>"]),  # bytes C3 A9
        ("e\u0301a", ["Ã©", "a</w>"]),
        ("it's", ["i", "t</w>", "'s</w>"]),
        ("12", ["1</w>", "2</w>"]),  # digits stand alone
        ("cat!!", ["cat</w>", "!!</w>"]),
        ("aaaaa", ["aaaa", "a</w>"]),  # leftmost pairs first, then the pair of pairs
        ("\n", []),
        ("👍", ["ðŁĳ", "į</w>"]),  # bytes F0 9F 91 8D
        ("\x00", ["Ā</w>"]),
    ],
)
def test_words_are_merged_as_worked_by_hand(checkpoint: Path, text: str, expected: list[str]) -> None:
    """Bytes as characters, the end of word on the last one, pairs merged by rank."""
    assert spelled(checkpoint, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A\u00a0 \t\nB", "a b"),
        ("  x ", " x "),
        ("e\u0301", "é"),
        ("\u212b", "å"),
        ("ﬁ", "ﬁ"),  # canonical composition leaves ligatures
        ("ΟΔΟΣ", "οδοσ"),  # where str.lower of the word ends in a final sigma
        ("İ", "i\u0307"),
        ("ẞ ǅ", "ß ǆ"),
        ("\x1c\u200b", "\x1c\u200b"),  # separators and zero-width space are not whitespace
    ],
)
def test_normalising_is_composition_spaces_and_case(text: str, expected: str) -> None:
    """NFC, then each run of whitespace to a space, then lower case one character at a time."""
    assert normalize(text) == expected


def test_each_text_stands_between_bos_and_eos(checkpoint: Path) -> None:
    """The empty text is BOS and EOS alone."""
    encoder = BytePairEncoder.from_directory(checkpoint)
    ids = vocabulary()
    assert encoder.encode("") == [ids[START], ids[END]]
    assert encoder.encode("The") == [ids[START], ids["the</w>"], ids[END]]


def test_added_tokens_are_found_by_their_rules(checkpoint: Path) -> None:
    """Normalised ones in any case, literal ones as they stand, `single_word` away from letters."""
    first = len(vocabulary())
    assert BytePairEncoder.from_directory(checkpoint).added[2:] == (
        AddedToken("<Blue>", first, normalized=True),
        AddedToken("<Raw>", first + 1),
        AddedToken("<w>", first + 2, normalized=True, single_word=True),
        AddedToken("<l>", first + 3, normalized=True),
        AddedToken("<r>", first + 4),
        AddedToken("<r> two", first + 5),
    )
    encoder = BytePairEncoder.from_directory(checkpoint)
    assert [first in encoder.encode(text) for text in ("<blue>", "a<BLUE>b")] == [True, True]
    assert [first + 1 in encoder.encode(text) for text in ("<Raw>", "<raw>")] == [True, False]
    assert [first + 2 in encoder.encode(text) for text in ("a <w> b", "a<w>b")] == [True, False]
    assert encoder.encode("<r> twos")[1:3] == [first + 5, encoder.vocabulary["s</w>"]]


def test_hard_strings_give_the_ids_of_the_library(checkpoint: Path) -> None:
    """Case, accents, scripts, emoji, apostrophes, punctuation, literal special tokens, added tokens, long words."""
    assert_same_ids(checkpoint, HARD_STRINGS + ADDED_STRINGS)


@settings(derandomize=True, max_examples=400, deadline=None)
@given(text=TEXTS)
def test_any_text_gives_the_ids_of_the_library(shared: Pair, text: str) -> None:
    """Hard strings and characters of Unicode 3.2 in any order."""
    assert shared.tokenizer(text)["input_ids"] == shared.encoder.encode(text)


@pytest.mark.parametrize("literal", [False, True], ids=["any_case", "literal"])
def test_what_the_installed_release_saves_gives_its_ids(tmp_path: Path, *, literal: bool) -> None:
    """`save_pretrained`, all files of it and `tokenizer.json` alone."""
    source = write_tokenizer(tmp_path / "source", literal=literal)
    library_tokenizer(source).save_pretrained(tmp_path / "saved")
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "tokenizer.json").write_bytes((tmp_path / "saved" / "tokenizer.json").read_bytes())
    for directory in (source, tmp_path / "saved", alone):
        assert_same_ids(directory, [text for text in HARD_STRINGS if not (literal and divided_otherwise(text))])


def divided_otherwise(text: str) -> bool:
    """Text that 4.x divides otherwise: it lacks CLIP's rule that a special token is a piece of its own."""
    return RELEASE < 5 and text == "<|EndOfText|>!"


def test_special_tokens_without_flags_are_literal(tmp_path: Path) -> None:
    """With nothing but `vocab.json` and `merges.txt`, <|endoftext|> is a token and <|ENDOFTEXT|> is text."""
    write_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    encoder = BytePairEncoder.from_directory(tmp_path)
    ids = vocabulary()
    assert encoder.max_length is None
    assert encoder.encode(f"{END}!") == [ids[START], ids[END], ids["!</w>"], ids[END]]
    divided = ["<", "|</w>", "endoftext</w>", "|></w>", "!</w>"]
    assert encoder.encode("<|ENDOFTEXT|>!")[1:-1] == [ids[symbol] for symbol in divided]
    if RELEASE >= 5:
        assert_same_ids(tmp_path, HARD_STRINGS)


def test_a_pad_token_of_its_own_is_recognised_in_text(tmp_path: Path) -> None:
    """Larger CLIPs pad with "!": then that character is the pad token wherever it stands."""
    write_tokenizer(tmp_path, pad_token="!")
    encoder = BytePairEncoder.from_directory(tmp_path)
    assert encoder.pad_id == vocabulary()["!"]
    assert encoder.encode("a!")[2] == encoder.pad_id
    assert_same_ids(tmp_path, [text for text in HARD_STRINGS if not divided_otherwise(text)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A\u00a0 \t\nB", "a b"),
        ("ΟΔΟΣ Σ", "οδος σ"),
        ("日本go", "日 本 go"),
        ("zero\u200bwidth soft\u00adhyphen", "zerowidth softhyphen"),
        ("a\x00b\x07c\x85d", "abcd"),
        ("e\u0301 \u212b", "é å"),
        ("\ue000\U000e0067a\ufffd", "a"),
        ("'quoted' a,b", "'quoted' a,b"),
    ],
)
def test_cleaning_like_python(text: str, expected: str) -> None:
    """Worked by hand from BERT's basic tokenizer: deleted, set apart, composed, lowered."""
    assert clean_like_python(text) == expected


def test_the_tokenizer_written_in_python_takes_special_tokens_in_any_case(checkpoint: Path) -> None:
    """After cleaning, <|ENDOFTEXT|> is the end token; other added tokens are found before it, as they are written."""
    encoder = replace(BytePairEncoder.from_directory(checkpoint), clean=clean_like_python)
    ids = vocabulary()
    assert encoder.inner(f"a {END.upper()} b") == [ids["a</w>"], ids[END], ids["b</w>"]]
    assert encoder.inner("<Blue>") == [len(ids)]
    assert len(ids) not in encoder.inner("<blue>")
    assert encoder.inner("日a") == [*encoder.inner("日"), ids["a</w>"]]


@pytest.mark.skipif(RELEASE >= 5, reason="transformers 5 has no tokenizer written in Python")
def test_hard_strings_give_the_ids_of_the_tokenizer_written_in_python(checkpoint: Path) -> None:
    """The same list as for the other tokenizer, and the hard texts of the suite."""
    tokenizer = transformers.CLIPTokenizer.from_pretrained(checkpoint)
    encoder = like_python(BytePairEncoder.from_directory(checkpoint))
    texts = [text for text in HARD_STRINGS if "\u0345" not in text] + [
        hard.text for hard in (*HARD_TEXTS, *PATTERN_TEXTS)
    ]
    observed = {text: tokenizer(text)["input_ids"] for text in texts}
    assert {text: ids for text, ids in observed.items() if ids != encoder.encode(text)} == {}


def test_the_hard_texts_of_the_suite_give_the_ids_of_the_library(checkpoint: Path) -> None:
    """Those that a checkpoint is asked for."""
    assert_same_ids(checkpoint, [hard.text for hard in (*HARD_TEXTS, *PATTERN_TEXTS)])


def test_the_shipped_checkpoint_gives_the_ids_of_the_library() -> None:
    """`fixtures/shapes-clip`, the hard strings in one padded batch and one by one, and captions of its own kind."""
    sides = ("top left", "bottom right", "middle")
    captions = [f"A small blue {shape} in the {side} corner." for shape in ("triangle", "pentagon") for side in sides]
    assert_same_ids(FIXTURE, HARD_STRINGS + captions)
    observed = library_tokenizer(FIXTURE)(HARD_STRINGS, padding=True, truncation=True, return_tensors="np")
    expected = BytePairEncoder.from_directory(FIXTURE).batch(HARD_STRINGS, padding=True, truncation=True)
    np.testing.assert_array_equal(observed["input_ids"], expected.input_ids)
    np.testing.assert_array_equal(observed["attention_mask"], expected.attention_mask)
