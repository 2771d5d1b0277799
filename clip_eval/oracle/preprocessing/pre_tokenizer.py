"""Split a text into the words that BPE merges one by one: take out added tokens, normalise, divide.

Unicode tables: composition and letter case are the running Python's, letters and numbers the `regex` package's. For
characters newer than the tables of another library, its words may differ from these.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import regex

from clip_eval.oracle.preprocessing.tokenizer_files import AddedToken

__all__ = ["clean_like_python", "divide", "divide_like_python", "normalize", "split"]

_SPACES = regex.compile(r"\s+")
_CLIP_PIECES = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
# CLIPTokenizer in Python ignores letter case in this pattern: 'ſ is an ending there, like 's
_PYTHON_PIECES = regex.compile(_CLIP_PIECES.pattern, regex.IGNORECASE)
# the byte-level step of tokenizers splits each piece again, which changes only a literal <|endoftext|>
_BYTE_LEVEL_WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}+|[^\s\p{L}\p{N}]+")
_WORD_CHARACTER = r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]"
_ENDS_IN_WORD = regex.compile(_WORD_CHARACTER + r"\Z")
_STARTS_WITH_WORD = regex.compile(_WORD_CHARACTER)


def normalize(text: str) -> str:
    """The normalised text: NFC, each run of whitespace one space, lower case character by character.

    Character by character, a final capital sigma becomes the medial small one, unlike in `str.lower` of a word.
    """
    composed = _SPACES.sub(" ", unicodedata.normalize("NFC", text))
    return "".join(character.lower() for character in composed)


def divide(text: str) -> Iterator[str]:
    """Split a normalised text into words, in order; whitespace is dropped."""
    for piece in _CLIP_PIECES.findall(text):
        yield from _BYTE_LEVEL_WORDS.findall(piece)


def split(text: str, tokens: tuple[AddedToken, ...]) -> Iterator[str | int]:
    """Split a text at its added tokens; each of them becomes its id."""
    matcher = _matcher(tokens)
    start = 0
    for match in matcher.pattern.finditer(text):
        token = matcher.tokens[match.group()]
        first, last = match.span()
        if token.single_word and (_ENDS_IN_WORD.search(text[:first]) or _STARTS_WITH_WORD.match(text[last:])):
            continue
        if start < first:
            yield text[start:first]
        yield token.id
        start = last
    if start < len(text):
        yield text[start:]


def clean_like_python(text: str) -> str:
    """Clean a text as the tokenizer written in Python does, which transformers 4 has beside the fast one.

    Control, format, private and unassigned characters are deleted (line ends and tabs become spaces), ideographs get
    spaces around them, then NFC and lower case word by word: a capital sigma at a word's end is a final one. The steps
    are those of BERT's basic tokenizer (Devlin et al. 2018) without splitting punctuation or stripping accents.
    """
    without_controls = (char for char in text if char in "\t\n\r" or not _is_deleted(char))
    spaced = "".join(f" {char} " if _is_ideograph(char) else char for char in without_controls)
    return " ".join(word.lower() for word in unicodedata.normalize("NFC", spaced).split())


def divide_like_python(text: str) -> Iterator[str]:
    """Split a cleaned text into words, in order; a special token in it is one word."""
    yield from _PYTHON_PIECES.findall(text)


def _is_deleted(char: str) -> bool:
    return char == "\ufffd" or unicodedata.category(char).startswith("C")


def _is_ideograph(char: str) -> bool:
    return unicodedata.name(char, "").startswith(("CJK UNIFIED IDEOGRAPH", "CJK COMPATIBILITY IDEOGRAPH"))


@dataclass(frozen=True, slots=True)
class _Matcher:
    pattern: regex.Pattern[str]
    tokens: Mapping[str, AddedToken]


@lru_cache(maxsize=64)
def _matcher(tokens: tuple[AddedToken, ...]) -> _Matcher:
    """A pattern that finds the leftmost token, and of several that start there the longest."""
    by_text: dict[str, AddedToken] = {}
    for token in tokens:
        by_text.setdefault(normalize(token.content) if token.normalized else token.content, token)
    longest_first = sorted(by_text, key=len, reverse=True)
    pattern = "|".join(map(regex.escape, longest_first)) or r"(?!)"  # without tokens, a pattern that never matches
    return _Matcher(pattern=regex.compile(pattern), tokens=by_text)
