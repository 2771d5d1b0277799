"""Byte-level BPE: ids worked by hand, and the fast tokenizer of the installed transformers."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel

from clip_eval.errors import CheckpointError, UsageError
from clip_eval.oracle.preprocessing.pre_tokenizer import clean_like_python
from clip_eval.oracle.preprocessing.tokenizer import AddedToken, BytePairEncoder, normalize
from clip_eval.probes.texts import HARD_TEXTS, PATTERN_TEXTS
from clip_eval.subject.tokenizers import like_python

FIXTURE = Path(__file__).parents[3] / "fixtures" / "shapes-clip"
START, END = "<|startoftext|>", "<|endoftext|>"
RELEASE = int(transformers.__version__.split(".")[0])
MERGES = [
    *("t h", "i n", "a n", "r e", "o n", "th e</w>", "in g</w>", "e r</w>", "an d</w>", "o u", "' s</w>", "' t</w>"),
    *("' re</w>", "r e</w>", "l o", "lo w</w>", "lo w", "low er</w>", "p h", "o t", "ph ot", "phot o</w>", "! !</w>"),
    *(". .", ".. .</w>", "c a", "ca t</w>", "Ã ©</w>", "Ã ©", "ç ļ", "ð Ł", "ðŁ ĳ", "< |", "| ></w>", "e n", "en d"),
    *("o f", "end of", "e x", "t ex", "tex t</w>", "endof text</w>", "a a", "aa aa", "a a</w>", "aa aa</w>"),
]
HARD_STRINGS = [
    *("", " ", "\t\n  ", "a", "The CAT and the lower re", "a  photo\tof\r\na\u00a0cat"),
    *("cat\u3000cat", "\x85\u2028cat", "zero\u200bwidth\u200cjoin\u200der\ufeffbom", "\x00\x01\x1c\x1f\x7f", "\u180e"),
    *("éÉ", "e\u0301E\u0301", "q\u0323\u0307", "a\u0301\u0323", "\u212b \u2126 \u212a", "ﬁ", "\ufb1d", "\u0958"),
    *("ΑΣ ΟΔΟΣ Σ", "İstanbul ıI", "ǅ", "Straße ẞ", "ᏸᏰ", "ŉ", "\u0345α", "नमस्ते", "ไทย", "𝔘𝔫𝔦"),
    *("日本語のテキスト", "中文 混合abc", "한국어", "\u1100\u1161\u11a8", "½²Ⅷ٣①"),
    *("👍🏽", "👨\u200d👩\u200d👧\u200d👦", "🏳\ufe0f\u200d🌈", "☺\ufe0f☺", "1\ufe0f\u20e3"),
    *("don't I'M you'RE it's we've he'LL she'd", "'''", "''s", "'tis 's't", "rock'n'roll’s", "don’t"),
    *("!!!???...", "a!b?c", "@#$%^&*()_+-=[]{}|;:'\",.<>/?`~", "1234 3.14 x1y2", "_snake_case", "http://x.y/z?a=b"),
    *(END, START, f"a{END}b {START}", f"{END}{END}", f"!{END}!", "<| endoftext |>", "<|endoftext"),
    *("</w>", "a</w>", "Ġthe", "<|ENDOFTEXT|>", "<|EndOfText|>!", "x<|StartOfText|>y"),
    *("a " * 100, "aaaaaaaaa" * 9, "supercalifragilistic" * 5),
]
ADDED = [
    {"content": "<Blue>", "normalized": True},
    {"content": "<Raw>", "normalized": False},
    {"content": "<w>", "normalized": True, "single_word": True},
    {"content": "<l>", "normalized": True, "lstrip": True},
    {"content": "<r>", "normalized": False, "rstrip": True},
    {"content": "<r> two", "normalized": False},
]
ADDED_STRINGS = [
    *("<Blue>", "<blue>", "a<BLUE>b", "<Raw>", "<raw>", "a  <l>  b", "a  <r>  b", "<l><r>", "<l>  <l>", "<r>  <l>"),
    *("<w>", "a <w> b", "a<w>b", "é<w>", "<w>_", "\u200d<w>", "-<w>-", "a\u0301<w>", "<w><w>"),
    *("<r> two", "<r> twos <r>  two"),
]
# Characters of Unicode 3.2: every release and Python has settled tables for them.
SETTLED = st.characters(exclude_categories=("Cs", "Co")).filter(
    lambda character: unicodedata.ucd_3_2_0.category(character) != "Cn"
)
PIECES = st.one_of(st.sampled_from(HARD_STRINGS[:-3] + ADDED_STRINGS), st.text(SETTLED, max_size=5))
TEXTS = st.lists(PIECES, max_size=6).map("".join)


def library_tokenizer(directory: Path) -> Any:
    """The fast tokenizer, which in 5.x is the only one."""
    return transformers.CLIPTokenizerFast.from_pretrained(directory)


def token(content: str, **flags: object) -> dict[str, object]:
    """A token as the files spell it out."""
    plain = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": True, "special": False}
    return {"content": content, **plain, **flags}


def vocabulary() -> dict[str, int]:
    """Bytes, bytes at the end of a word, merges, BOS and EOS: the order of CLIP's own file."""
    symbols = sorted(ByteLevel.alphabet())
    learned = ["".join(merge.split()) for merge in MERGES]
    names = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *learned, START, END]
    return {name: number for number, name in enumerate(names)}


def write_tokenizer(directory: Path, *, literal: bool = False, **config: object) -> Path:
    """`vocab.json`, `merges.txt`, `tokenizer_config.json`, each token's flags spelled out."""
    directory.mkdir(parents=True, exist_ok=True)
    ids = vocabulary()
    named = [token(START, special=True, normalized=not literal), token(END, special=True, normalized=not literal)]
    decoder = {str(ids[START] + number): entry for number, entry in enumerate(named)}
    decoder |= {str(len(ids) + number): token(**entry) for number, entry in enumerate(ADDED)}
    roles = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    write_json(directory / "vocab.json", ids)
    (directory / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]), encoding="utf-8")
    write_json(
        directory / "tokenizer_config.json",
        {**roles, "tokenizer_class": "CLIPTokenizer", "added_tokens_decoder": decoder, **config},
    )
    return directory


def write_json(path: Path, content: object) -> None:
    """As transformers writes it."""
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer as written by hand, limit 20 tokens."""
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"), model_max_length=20)


@dataclass(frozen=True, slots=True)
class Pair:
    """The library's tokenizer and ours, loaded once."""

    tokenizer: Any
    encoder: BytePairEncoder


@pytest.fixture(scope="module")
def shared(checkpoint: Path) -> Pair:
    """Both sides on the handwritten tokenizer."""
    return Pair(library_tokenizer(checkpoint), BytePairEncoder.from_directory(checkpoint))


def assert_same_ids(directory: Path, texts: list[str]) -> None:
    """Encoder and library give the same ids for every text."""
    tokenizer, encoder = library_tokenizer(directory), BytePairEncoder.from_directory(directory)
    observed = {text: tokenizer(text)["input_ids"] for text in texts}
    expected = {text: encoder.encode(text) for text in texts}
    assert {text: ids for text, ids in observed.items() if ids != expected[text]} == {}


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


def test_tokens_that_no_file_describes_are_marked(tmp_path: Path) -> None:
    """The begin and end token are undeclared with vocabulary and merges alone, and declared by any list of tokens."""
    described = BytePairEncoder.from_directory(write_tokenizer(tmp_path))
    assert all(added.declared and not added.named_twice for added in described.added)
    (tmp_path / "tokenizer_config.json").unlink()
    bare = BytePairEncoder.from_directory(tmp_path)
    assert [(added.content, added.declared) for added in bare.added] == [(START, False), (END, False)]
    write_json(tmp_path / "tokenizer_config.json", {"pad_token": "!"})
    padded = BytePairEncoder.from_directory(tmp_path)
    assert {added.content: added.declared for added in padded.added} == {"!": True, START: False, END: False}


def test_flags_of_the_special_tokens_map_are_read(tmp_path: Path) -> None:
    """Files of 2021 spell flags out in `special_tokens_map.json`, and a pad token without flags changes none."""
    write_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 77, "eos_token": "x"}', encoding="utf-8")
    named = {role: token(name) for role, name in (("bos_token", START), ("eos_token", END), ("unk_token", END))}
    write_json(tmp_path / "special_tokens_map.json", {**named, "pad_token": END})
    write_json(tmp_path / "added_tokens.json", {"<New>": len(vocabulary())})
    encoder = BytePairEncoder.from_directory(tmp_path)
    ids = vocabulary()
    assert encoder.added == (
        AddedToken(START, ids[START], normalized=True),
        AddedToken(END, ids[END], normalized=True, named_twice=True),
        AddedToken("<New>", len(ids), normalized=True),
    )
    assert (encoder.eos_id, encoder.pad_id, encoder.max_length) == (ids[END], ids[END], 77)


def test_the_decoder_decides_over_the_special_tokens_map(tmp_path: Path) -> None:
    """Where `tokenizer_config.json` lists the added tokens, `special_tokens_map.json` is not read; else it decides."""
    write_tokenizer(tmp_path)
    write_json(tmp_path / "special_tokens_map.json", {"eos_token": START})
    assert BytePairEncoder.from_directory(tmp_path).eos_id == vocabulary()[END]
    assert_same_ids(tmp_path, ["the cat"])
    write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", "eos_token": END})
    assert BytePairEncoder.from_directory(tmp_path).eos_id == vocabulary()[START]
    assert_same_ids(tmp_path, ["the cat"])


@pytest.mark.parametrize("written", ["1000000000000000019884624838656", "1e30", "null"])
def test_no_limit_is_read_as_none(tmp_path: Path, written: str) -> None:
    """An unlimited length is written as a huge number, or not at all."""
    write_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(f'{{"model_max_length": {written}}}', encoding="utf-8")
    assert BytePairEncoder.from_directory(tmp_path).max_length is None


def test_a_pad_token_of_its_own_is_recognised_in_text(tmp_path: Path) -> None:
    """Larger CLIPs pad with "!": then that character is the pad token wherever it stands."""
    write_tokenizer(tmp_path, pad_token="!")
    encoder = BytePairEncoder.from_directory(tmp_path)
    assert encoder.pad_id == vocabulary()["!"]
    assert encoder.encode("a!")[2] == encoder.pad_id
    assert_same_ids(tmp_path, [text for text in HARD_STRINGS if not divided_otherwise(text)])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("padding", "truncation", "max_length"),
    [
        (True, False, None),
        (True, True, None),
        (True, True, 5),
        (True, True, 2),
        (True, True, 300),
        ("max_length", True, None),
        ("max_length", True, 4),
        ("max_length", False, 250),
    ],
)
def test_batches_are_those_of_the_library(
    tmp_path: Path, side: str, padding: bool | str, truncation: bool, max_length: int | None
) -> None:
    """Same ids, same mask, for texts below and above the limit."""
    write_tokenizer(tmp_path, padding_side=side, truncation_side=side, model_max_length=20)
    texts = ["", "the cat", "a " * 18, "a b " * 30, "low lower the cat!!"]
    kwargs = {"padding": padding, "truncation": truncation, "max_length": max_length}
    expected = BytePairEncoder.from_directory(tmp_path).batch(texts, **kwargs)
    observed = library_tokenizer(tmp_path)(texts, return_tensors="np", **kwargs)
    assert expected.input_ids.dtype == expected.attention_mask.dtype == np.int64
    np.testing.assert_array_equal(observed["input_ids"], expected.input_ids)
    np.testing.assert_array_equal(observed["attention_mask"], expected.attention_mask)


def test_truncation_keeps_bos_first_and_eos_last(checkpoint: Path) -> None:
    """By hand: of seven words in five tokens, three stay; padding is masked."""
    encoder = BytePairEncoder.from_directory(checkpoint)
    ids = vocabulary()
    batch = encoder.batch(["a b c d e f g", "a"], padding=True, truncation=True, max_length=5)
    middle = [ids[f"{letter}</w>"] for letter in "abc"]
    assert batch.input_ids.tolist() == [
        [ids[START], *middle, ids[END]],
        [ids[START], ids["a</w>"], ids[END], ids[END], ids[END]],
    ]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]


def test_padding_goes_to_a_multiple_and_to_either_side(checkpoint: Path) -> None:
    """By hand: four and three tokens padded to a multiple of five, on the left; nothing is added to five."""
    encoder = BytePairEncoder.from_directory(checkpoint)
    ids = vocabulary()
    batch = encoder.batch(["a b", "a"], padding=True, multiple_of=5, padding_side="left")
    assert batch.input_ids.tolist() == [
        [ids[END], ids[START], ids["a</w>"], ids["b</w>"], ids[END]],
        [ids[END], ids[END], ids[START], ids["a</w>"], ids[END]],
    ]
    assert batch.attention_mask.tolist() == [[0, 1, 1, 1, 1], [0, 0, 1, 1, 1]]
    assert encoder.batch(["a b c"], padding=True, multiple_of=5).input_ids.shape == (1, 5)
    assert encoder.batch(["a b"], multiple_of=5).input_ids.shape == (1, 4)  # without padding nothing is padded


def test_rows_are_truncated_and_not_padded(checkpoint: Path) -> None:
    """By hand: four tokens of seven; a short text stays as it is; without a limit none is cut."""
    encoder = BytePairEncoder.from_directory(checkpoint)
    ids = vocabulary()
    middle = [ids[f"{letter}</w>"] for letter in "abcde"]
    rows = encoder.rows(["a b c d e", "a"], truncation=True, max_length=4)
    assert rows == [[ids[START], *middle[:2], ids[END]], [ids[START], middle[0], ids[END]]]
    assert encoder.rows(["a b c d e"], max_length=4) == [[ids[START], *middle, ids[END]]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A photo, isn't it?", "a photo , isn 't it ?"),
        ("caf\u00e9 \u65e5\u672c \U0001f44d", "caf\u00e9 \u65e5\u672c \U0001f44d"),
        ("  ", ""),
        ("12", "1 2"),
    ],
)
def test_decoding_puts_a_space_after_each_word(checkpoint: Path, text: str, expected: str) -> None:
    """By hand, and the same with begin and end token around, which have no space of their own."""
    encoder = BytePairEncoder.from_directory(checkpoint)
    assert encoder.decode(encoder.inner(text)) == expected
    assert encoder.decode(encoder.encode(text)) == f"{START}{expected} {END}".replace(f"{START} ", START)


def test_decoding_shows_what_is_no_text(checkpoint: Path) -> None:
    """Half a character is U+FFFD, an id without a token nothing, an added token its own text."""
    encoder = BytePairEncoder.from_directory(checkpoint)
    ids = vocabulary()
    assert encoder.decode([ids["Ã"]]) == "\ufffd"
    assert encoder.decode([10**6, ids["a</w>"]]) == "a"
    assert encoder.decode([len(ids), ids["a</w>"]]) == "<Blue>a"


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


def test_texts_of_one_length_need_no_padding(checkpoint: Path) -> None:
    """A batch without padding is what its rows are."""
    encoder = BytePairEncoder.from_directory(checkpoint)
    batch = encoder.batch(["the", "a"])
    assert batch.input_ids.tolist() == [encoder.encode("the"), encoder.encode("a")]
    assert batch.attention_mask.all()


def test_batches_that_are_no_table_are_refused(checkpoint: Path) -> None:
    """No text, ragged rows, no limit to pad to, a limit without room: each says what to pass."""
    encoder = replace(BytePairEncoder.from_directory(checkpoint), max_length=None)
    with pytest.raises(UsageError, match="no texts"):
        encoder.batch([])
    with pytest.raises(UsageError, match="different numbers"):
        encoder.batch(["a", "a b"])
    with pytest.raises(UsageError, match="without a max_length"):
        encoder.batch(["a"], padding="max_length")
    with pytest.raises(UsageError, match="no room"):
        encoder.batch(["a"], truncation=True, max_length=1)
    with pytest.raises(UsageError, match="different numbers"):
        encoder.batch(["a", "a b c d"], padding=False, truncation=True, max_length=4)


BROKEN = {
    "no tokenizer": {"vocab.json": None},
    "vocab.json is no JSON": {"vocab.json": "{"},
    "vocab.json is a list": {"vocab.json": "[]"},
    "vocab.json is empty": {"vocab.json": "{}"},
    "an id is text": {"vocab.json": '{"a": "1"}'},
    "an id is used twice": {"vocab.json": '{"a": 1, "b": 1}'},
    "a merge of three": {"merges.txt": "#version: 0.2\nt h e\n"},
    "a merge of nothing": {"merges.txt": "#version: 0.2\nt h\n\ni n\n"},
    "a merge out of the vocabulary": {"merges.txt": "#version: 0.2\nz z\n"},
    "bos is not in the vocabulary": {"tokenizer_config.json": '{"bos_token": "<bos>"}'},
    "eos has no text": {"tokenizer_config.json": '{"eos_token": {"normalized": true}}'},
    "the limit is text": {"tokenizer_config.json": '{"model_max_length": "77"}'},
    "the limit is 1": {"tokenizer_config.json": '{"model_max_length": 1}'},
    "an added token has an id far away": {"added_tokens.json": '{"<x>": 9000}'},
    "the saved length is text": {"tokenizer.json": '{"truncation": {"max_length": "9"}}'},
    "the padding side is up": {"tokenizer_config.json": '{"padding_side": "up"}'},
    "the decoder is a list": {"tokenizer_config.json": '{"added_tokens_decoder": [1]}'},
    "the decoder names no id": {"tokenizer_config.json": '{"added_tokens_decoder": {"x": {"content": "a"}}}'},
    "an added id is negative": {"added_tokens.json": '{"<x>": -1}'},
    "added tokens of tokenizer.json are text": {"tokenizer.json": '{"added_tokens": ["<x>"]}'},
    "tokenizer.json holds another model": {
        "vocab.json": None,
        "tokenizer.json": '{"model": {"type": "WordPiece", "vocab": {"a": 0}}}',
    },
    "tokenizer.json marks no end of word": {
        "vocab.json": None,
        "tokenizer.json": '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}',
    },
    "tokenizer.json has no merges": {
        "vocab.json": None,
        "tokenizer.json": '{"model": {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": {"a": 0}}}',
    },
}


@pytest.mark.parametrize("files", BROKEN.values(), ids=BROKEN)
def test_broken_tokenizers_are_refused(tmp_path: Path, files: dict[str, str | None]) -> None:
    """What is wrong, in which file or directory, and what to do."""
    write_tokenizer(tmp_path)
    for name, content in files.items():
        if content is None:
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        BytePairEncoder.from_directory(tmp_path)
    assert str(tmp_path) in str(caught.value.where)
    assert caught.value.fix


def test_a_renamed_special_token_is_read_from_tokenizer_json_alone(tmp_path: Path) -> None:
    """Without other files, the tokens that `tokenizer.json` puts around a text are BOS and EOS."""
    ids = {"a": 0, "a</w>": 1, "<s>": 2, END: 3}
    model = {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": ids, "merges": []}
    ends = {"type": "RobertaProcessing", "cls": ["<s>", 2], "sep": [END, 3]}
    write_json(tmp_path / "tokenizer.json", {"model": model, "post_processor": ends, "added_tokens": []})
    encoder = BytePairEncoder.from_directory(tmp_path)
    assert encoder.encode("aa") == [2, 0, 1, 3]
    assert encoder.encode("b") == [2, 3, 3]  # a byte that the vocabulary lacks is the unknown token


def test_the_shipped_checkpoint_gives_the_ids_of_the_library() -> None:
    """`fixtures/shapes-clip`, the hard strings in one padded batch and one by one, and captions of its own kind."""
    sides = ("top left", "bottom right", "middle")
    captions = [f"A small blue {shape} in the {side} corner." for shape in ("triangle", "pentagon") for side in sides]
    assert_same_ids(FIXTURE, HARD_STRINGS + captions)
    observed = library_tokenizer(FIXTURE)(HARD_STRINGS, padding=True, truncation=True, return_tensors="np")
    expected = BytePairEncoder.from_directory(FIXTURE).batch(HARD_STRINGS, padding=True, truncation=True)
    np.testing.assert_array_equal(observed["input_ids"], expected.input_ids)
    np.testing.assert_array_equal(observed["attention_mask"], expected.attention_mask)
