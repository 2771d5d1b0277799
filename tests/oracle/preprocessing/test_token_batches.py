"""Batches of token ids against the library and by hand: padding, truncation, decoding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.small_tokenizer import (
    END,
    START,
    library_tokenizer,
    vocabulary,
    write_tokenizer,
)

from clip_eval.errors import UsageError
from clip_eval.oracle.preprocessing.tokenizer import BytePairEncoder


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
