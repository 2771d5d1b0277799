"""Properties of cleaned text, of finished names and of shortened text."""

from __future__ import annotations

import unicodedata

import regex
from hypothesis import given
from hypothesis import strategies as st

from clip_eval.paths import clean, fold
from clip_eval.paths.cleaning import ELLIPSIS, cut, finish, narrow, size_bytes, unfinished

from . import reference
from .strategies import ANY_TEXT


@given(ANY_TEXT)
def test_cleaning_is_total_idempotent_and_as_the_reference(text: str) -> None:
    """Cleaning takes any str, changes nothing the second time, and does what the rules say."""
    cleaned = clean(text)
    assert cleaned == reference.clean(text)
    assert clean(cleaned) == cleaned
    assert unicodedata.is_normalized("NFC", cleaned)
    assert not any(character in reference.NARROW or reference.is_deleted(character) for character in cleaned)


def test_every_character_is_deleted_or_kept_as_the_reference_says() -> None:
    """Of all 1,114,112 code points, those that the rules delete are deleted, alone and inside other text."""
    deleted = {character for character in map(chr, range(0x110000)) if reference.is_deleted(character)}
    assert {character for character in map(chr, range(0x110000)) if not clean(character)} == deleted
    assert {clean(f"a{character}b") for character in deleted} == {"ab"}


def test_deleted_characters_are_those_of_another_unicode_library() -> None:
    """For the characters that this Python's Unicode knows, the regex library agrees on what is deleted."""
    pattern = regex.compile(r"[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_Control}\p{Noncharacter_Code_Point}]")
    known = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) != "Cn" or reference.is_deleted(c)]
    assert set(pattern.findall("".join(known))) == {character for character in known if not clean(character)}


@given(ANY_TEXT, ANY_TEXT)
def test_cleaning_never_joins_a_separator(left: str, right: str) -> None:
    """Cleaning parts gives no separator of segments, on either system, whatever they are joined with."""
    assert not {"/", "\\", ":", "\0"} & set(unicodedata.normalize("NFC", clean(left) + clean(right)))


@given(ANY_TEXT)
def test_finished_names_are_valid_and_stay_as_they_are(text: str) -> None:
    """A finished name is no dot name and no device, has no outer white space or dot, and is finished."""
    name = finish(clean(text))
    assert name == name.strip() == name.strip(".")
    assert not reference.is_reserved(name)
    assert finish(name) == name


@given(ANY_TEXT)
def test_unfinished_texts_finish_to_the_name_and_hold_the_original(text: str) -> None:
    """Every text that a name may come from becomes that name; the one it did come from is one of them, dots aside."""
    raw = clean(text).strip()
    name = finish(raw)
    texts = unfinished(name)
    assert {finish(candidate) for candidate in texts} == {name}
    assert narrow(raw) in map(narrow, texts)


@given(ANY_TEXT, st.integers(0, 400), st.integers(0, 400))
def test_cut_text_is_a_prefix_of_whole_graphemes(text: str, limit_bytes: int, more_bytes: int) -> None:
    """Cut text fits, keeps whole graphemes from the start, as many as fit, and cutting in two steps is cutting once."""
    text = clean(text)
    short = cut(text, limit_bytes)
    assert size_bytes(short) <= max(limit_bytes, len(ELLIPSIS.encode()))
    assert cut(cut(text, limit_bytes + more_bytes), limit_bytes) == short
    if short != text:
        assert short.endswith(ELLIPSIS)
        graphemes = regex.findall(r"\X", text)
        heads = ["".join(graphemes[:count]) for count in range(len(graphemes))]
        fitting = [head for head in heads if size_bytes(head + ELLIPSIS) <= limit_bytes] or [""]
        assert short == fitting[-1].rstrip() + ELLIPSIS


@given(ANY_TEXT)
def test_folding_ignores_case_and_normalisation(text: str) -> None:
    """Texts that differ by case folding or normalisation alone have one key, and a key is its own key."""
    key = fold(text)
    decomposed = unicodedata.normalize("NFD", text)
    assert key == fold(key) == fold(decomposed) == fold(unicodedata.normalize("NFC", text))
    # Folding case before decomposing can part canonically equal texts (The Unicode Standard, section 3.13, U+0345).
    assert key == fold(decomposed.casefold())
