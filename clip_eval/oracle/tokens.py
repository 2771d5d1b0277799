"""From a text to token ids: CLIP's byte-level BPE.

Radford et al. 2021 (section 2.4) take a lower-cased byte-pair encoding; the merging is that of Sennrich et al. 2016
(Algorithm 1) with the end-of-word symbol on the last byte, over the bytes of UTF-8 written as printable characters.
Normalisation, pattern and added tokens are those that transformers and the tokenizers library document and share.

Unicode tables: composition and letter case are those of the running Python, letters and numbers those of the `regex`
package. Where a text holds characters newer than a library's own tables, its ids may differ from these.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import regex

from clip_eval.errors import UsageError
from clip_eval.oracle.tokenizer_files import END_OF_WORD, AddedToken, Side, read_tokenizer_files

__all__ = ["AddedToken", "BytePairEncoder", "TokenBatch", "normalize"]

_SPACES = regex.compile(r"\s+")
_CLIP_PIECES = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
# The byte-level step of the tokenizers library divides each piece once more; only a literal <|endoftext|> has seams.
_BYTE_LEVEL_WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}+|[^\s\p{L}\p{N}]+")
_WORD_CHARACTER = r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]"
_ENDS_IN_WORD = regex.compile(_WORD_CHARACTER + r"\Z")
_STARTS_WITH_WORD = regex.compile(_WORD_CHARACTER)


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Token ids of several texts, padded to one length.

    Args:
        input_ids: (texts, tokens) int64.
        attention_mask: (texts, tokens) int64, 1 on tokens and 0 on padding.
    """

    input_ids: npt.NDArray[np.int64]
    attention_mask: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class BytePairEncoder:
    """A CLIP tokenizer.

    Args:
        vocabulary: symbol -> id.
        ranks: pair of symbols -> rank; the lowest rank is merged first.
        added: the tokens that are recognised before the text is divided; the special ones are among them.
        bos_id: the id put before each text.
        eos_id: the id put after each text.
        pad_id: the id that fills a batch.
        unk_id: the id of a byte that the vocabulary lacks.
        max_length: the model's limit in tokens, BOS and EOS included; None where none is declared.
        padding_side: where padding goes.
        truncation_side: where tokens are cut off.
    """

    vocabulary: Mapping[str, int]
    ranks: Mapping[tuple[str, str], int]
    added: tuple[AddedToken, ...]
    bos_id: int
    eos_id: int
    pad_id: int
    unk_id: int
    max_length: int | None = None
    padding_side: Side = "right"
    truncation_side: Side = "right"

    @classmethod
    def from_directory(cls, path: str | Path) -> BytePairEncoder:
        """Read a checkpoint's tokenizer: `vocab.json` with `merges.txt`, or else `tokenizer.json`.

        Special and added tokens come from the other files as present; see `read_tokenizer_files`.

        Raises:
            CheckpointError: there is no tokenizer, a file cannot be read, or the tokenizer is not CLIP's.
        """
        files = read_tokenizer_files(Path(path))
        return cls(
            vocabulary=files.vocabulary,
            ranks=files.ranks,
            added=files.added,
            bos_id=files.bos_id,
            eos_id=files.eos_id,
            pad_id=files.pad_id,
            unk_id=files.unk_id,
            max_length=files.max_length,
            padding_side=files.padding_side,
            truncation_side=files.truncation_side,
        )

    def encode(self, text: str) -> list[int]:
        """Ids of one text, BOS first and EOS last, neither padded nor truncated."""
        return [self.bos_id, *self._ids(text), self.eos_id]

    def batch(
        self,
        texts: Sequence[str],
        *,
        padding: bool | Literal["max_length"] = False,
        truncation: bool = False,
        max_length: int | None = None,
    ) -> TokenBatch:
        """Ids of several texts, (texts, tokens) int64.

        Args:
            texts: at least one.
            padding: True pads to the longest text, "max_length" to `max_length`.
            truncation: cut each text to `max_length` tokens; BOS stays first and EOS last.
            max_length: in tokens, BOS and EOS included; by default the encoder's own.

        Raises:
            UsageError: no texts, texts of different lengths without padding, or a `max_length` that is missing or
                leaves no room for BOS and EOS.
        """
        limit = self.max_length if max_length is None else max_length
        if limit is not None and limit < 2:
            raise UsageError(f"max_length {limit} leaves no room for the first and the last token", fix="Use 2 or more")
        if padding == "max_length" and limit is None:
            raise UsageError("padding to max_length, and no max_length is known", fix="Pass max_length")
        rows = [self._truncated(row, limit if truncation else None) for row in map(self.encode, texts)]
        if not rows:
            raise UsageError("there are no texts to encode", fix="Pass at least one text")
        length = max(map(len, rows))
        if padding == "max_length" and limit is not None:
            length = max(length, limit)
        if not padding and any(len(row) != length for row in rows):
            raise UsageError("the texts have different numbers of tokens", fix="Pass padding=True")
        return self._padded(rows, length)

    def _truncated(self, row: list[int], limit: int | None) -> list[int]:
        if limit is None or len(row) <= limit:
            return row
        inner = row[1:-1]
        kept = inner[: limit - 2] if self.truncation_side == "right" else inner[len(inner) - (limit - 2) :]
        return [row[0], *kept, row[-1]]

    def _padded(self, rows: list[list[int]], length: int) -> TokenBatch:
        input_ids = np.full((len(rows), length), self.pad_id, dtype=np.int64)  # (texts, tokens)
        attention_mask = np.zeros((len(rows), length), dtype=np.int64)  # (texts, tokens)
        for index, row in enumerate(rows):
            real = slice(0, len(row)) if self.padding_side == "right" else slice(length - len(row), length)
            input_ids[index, real] = row
            attention_mask[index, real] = 1
        return TokenBatch(input_ids=input_ids, attention_mask=attention_mask)

    def _ids(self, text: str) -> Iterator[int]:
        literal = tuple(token for token in self.added if not token.normalized)
        normalized = tuple(token for token in self.added if token.normalized)
        for part in _split(text, literal):
            if isinstance(part, int):
                yield part
                continue
            for piece in _split(normalize(part), normalized):
                if isinstance(piece, int):
                    yield piece
                else:
                    yield from self._word_ids(piece)

    def _word_ids(self, text: str) -> Iterator[int]:
        for piece in _CLIP_PIECES.findall(text):
            for word in _BYTE_LEVEL_WORDS.findall(piece):
                for symbol in _merged(word, self.ranks):
                    yield self.vocabulary.get(symbol, self.unk_id)


def normalize(text: str) -> str:
    """The text as CLIP reads it: NFC, each run of whitespace one space, lower case character by character.

    A character at a time: a final capital sigma becomes the medial small one, unlike with `str.lower` of a word.
    """
    composed = _SPACES.sub(" ", unicodedata.normalize("NFC", text))
    return "".join(character.lower() for character in composed)


def _split(text: str, tokens: tuple[AddedToken, ...]) -> Iterator[str | int]:
    """The text in order, each added token in it as its id."""
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


@dataclass(frozen=True, slots=True)
class _Matcher:
    pattern: regex.Pattern[str]
    tokens: Mapping[str, AddedToken]


@lru_cache(maxsize=64)
def _matcher(tokens: tuple[AddedToken, ...]) -> _Matcher:
    """Finds the leftmost token, and of several that start there the longest."""
    by_text: dict[str, AddedToken] = {}
    for token in tokens:
        by_text.setdefault(normalize(token.content) if token.normalized else token.content, token)
    longest_first = sorted(by_text, key=len, reverse=True)
    pattern = "|".join(map(regex.escape, longest_first)) or r"(?!)"  # without tokens, a pattern that never matches
    return _Matcher(pattern=regex.compile(pattern), tokens=by_text)


def _merged(word: str, ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """The symbols of one word: its bytes, of which the pair of lowest rank is merged until none is known."""
    symbols = [_byte_characters()[byte] for byte in word.encode("utf-8")]
    symbols[-1] += END_OF_WORD
    while len(symbols) > 1:
        pairs = list(pairwise(symbols))
        known = [pair for pair in pairs if pair in ranks]
        if not known:
            break
        at = pairs.index(min(known, key=ranks.__getitem__))
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
    return symbols


@cache
def _byte_characters() -> tuple[str, ...]:
    """The printable character of each byte: its own in Latin-1 where that has one, else the next from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in printable else next(others)) for byte in range(256))
