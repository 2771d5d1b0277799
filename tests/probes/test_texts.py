"""The hard texts: each by a name of its own and with a reason, of characters that are settled."""

from __future__ import annotations

import unicodedata

from clip_eval.probes.texts import HARD_TEXTS, ODD_TEXTS, PATTERN_TEXTS, around


def test_names_and_texts_are_unique_and_have_a_reason() -> None:
    """A report names a text by its name alone."""
    entries = (*HARD_TEXTS, *PATTERN_TEXTS, *ODD_TEXTS)
    assert len({entry.name for entry in entries}) == len({entry.text for entry in entries}) == len(entries)
    assert all(entry.name and entry.why for entry in entries)


def test_hard_texts_are_of_settled_characters() -> None:
    """Every character is assigned in this Python's tables, the largest one aside, and none is half a pair."""
    characters = {character for entry in (*HARD_TEXTS, *PATTERN_TEXTS) for character in entry.text} - {"\U0010ffff"}
    assert {character for character in characters if unicodedata.category(character) in ("Cn", "Cs")} == set()


def test_a_token_stands_alone_among_words_glued_and_doubled() -> None:
    """Texts in which a tokenizer has to find an added token."""
    assert around("<x>") == ("<x>", "a <x> b", "a<x>b", "<x><x>", "!<x>?", " <x>  ")
