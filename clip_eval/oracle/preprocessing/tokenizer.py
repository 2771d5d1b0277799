"""CLIP's byte-level BPE: from a text to token ids.

Radford et al. 2021 (section 2.4) use a lower-cased byte-pair encoding. Merging follows Sennrich et al. 2016 (Algorithm
1), with the end-of-word symbol on the last byte, over UTF-8 bytes written as printable characters. Normalisation,
pattern and added tokens are those documented by transformers and tokenizers; see
`clip_eval.oracle.preprocessing.pre_tokenizer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from clip_eval.errors import UsageError
from clip_eval.oracle.preprocessing.pre_tokenizer import divide, divide_like_python, normalize, split
from clip_eval.oracle.preprocessing.tokenizer_files import END_OF_WORD, AddedToken, Side, read_tokenizer_files

__all__ = ["AddedToken", "BytePairEncoder", "TokenBatch", "normalize"]


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
        python_padding_side: where the tokenizer written in Python puts padding, which does not read `tokenizer.json`.
        python_truncation_side: where it cuts tokens off.
        saved_length: the length that `tokenizer.json` was saved to truncate or pad to. A tokenizer ignores it; a
            processor uses it as the `max_length` of every call without one.
        clean: cleans the text between added tokens; None for CLIP's normalisation. With such a function texts are read
            as by the tokenizer written in Python: added tokens are matched literally, and a special token that
            appears only after cleaning becomes one word.
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
    python_padding_side: Side = "right"
    python_truncation_side: Side = "right"
    saved_length: int | None = None
    clean: Callable[[str], str] | None = None
    _known: dict[str, list[int]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _symbols: dict[int, str] = field(default_factory=dict, init=False, repr=False, compare=False)

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
            python_padding_side=files.python_padding_side,
            python_truncation_side=files.python_truncation_side,
            saved_length=files.saved_length,
        )

    def encode(self, text: str) -> list[int]:
        """Ids of one text, BOS first and EOS last, neither padded nor truncated."""
        return [self.bos_id, *self.inner(text), self.eos_id]

    def inner(self, text: str) -> list[int]:
        """Ids of one text without the BOS before and the EOS after it."""
        return list(self._ids(text))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids: bytes put together, a space after each word, added tokens as they are.

        Bytes that are not UTF-8 become U+FFFD; an id without a token is skipped.
        """
        if not self._symbols:
            self._symbols.update((number, symbol) for symbol, number in self.vocabulary.items())
            self._symbols.update((token.id, token.content) for token in self.added)
        spelled = b"".join(_bytes_of(self._symbols.get(number, "")) for number in ids)
        return spelled.decode("utf-8", errors="replace").replace(END_OF_WORD, " ").strip()

    def rows(self, texts: Sequence[str], *, truncation: bool = False, max_length: int | None = None) -> list[list[int]]:
        """Ids of several texts, not padded.

        Args:
            texts: any number.
            truncation: cut each text to `max_length` tokens; BOS stays first and EOS last.
            max_length: in tokens, BOS and EOS included; by default the encoder's own, and none if that has none.

        Raises:
            UsageError: a `max_length` that leaves no room for BOS and EOS.
        """
        limit = self._limit(max_length)
        return [self._truncated(row, limit if truncation else None) for row in map(self.encode, texts)]

    def batch(
        self,
        texts: Sequence[str],
        *,
        padding: bool | Literal["max_length"] = False,
        truncation: bool = False,
        max_length: int | None = None,
        multiple_of: int = 1,
        padding_side: Side | None = None,
    ) -> TokenBatch:
        """Ids of several texts, (texts, tokens) int64.

        Args:
            texts: at least one.
            padding: True pads to the longest text, "max_length" to `max_length`.
            truncation: cut each text to `max_length` tokens; BOS stays first and EOS last.
            max_length: in tokens, BOS and EOS included; by default the encoder's own.
            multiple_of: padding goes on up to a multiple of this.
            padding_side: where padding goes; by default the encoder's own.

        Raises:
            UsageError: no texts, texts of different lengths without padding, or a `max_length` that is missing or
                leaves no room for BOS and EOS.
        """
        limit = self._limit(max_length)
        if padding == "max_length" and limit is None:
            raise UsageError("padding to max_length without a max_length", fix="Pass max_length")
        rows = self.rows(texts, truncation=truncation, max_length=max_length)
        if not rows:
            raise UsageError("there are no texts to encode", fix="Pass at least one text")
        length = max(map(len, rows))
        if padding == "max_length" and limit is not None:
            length = max(length, limit)
        if not padding and any(len(row) != length for row in rows):
            raise UsageError("the texts have different numbers of tokens", fix="Pass padding=True")
        length += -length % multiple_of if padding else 0
        return self._padded(rows, length, padding_side or self.padding_side)

    def _limit(self, max_length: int | None) -> int | None:
        limit = self.max_length if max_length is None else max_length
        if limit is not None and limit < 2:
            raise UsageError(f"max_length {limit} leaves no room for the first and the last token", fix="Use 2 or more")
        return limit

    def _truncated(self, row: list[int], limit: int | None) -> list[int]:
        if limit is None or len(row) <= limit:
            return row
        inner = row[1:-1]
        kept = inner[: limit - 2] if self.truncation_side == "right" else inner[len(inner) - (limit - 2) :]
        return [row[0], *kept, row[-1]]

    def _padded(self, rows: list[list[int]], length: int, side: Side) -> TokenBatch:
        input_ids = np.full((len(rows), length), self.pad_id, dtype=np.int64)  # (texts, tokens)
        attention_mask = np.zeros((len(rows), length), dtype=np.int64)  # (texts, tokens)
        for index, row in enumerate(rows):
            real = slice(0, len(row)) if side == "right" else slice(length - len(row), length)
            input_ids[index, real] = row
            attention_mask[index, real] = 1
        return TokenBatch(input_ids=input_ids, attention_mask=attention_mask)

    def _ids(self, text: str) -> Iterator[int]:
        for part in self._parts(text):
            if isinstance(part, int):
                yield part
            else:
                yield from self._word(part)

    def _word(self, word: str) -> list[int]:
        """Ids of one word, worked out once."""
        if word not in self._known:
            symbols = [word] if word in self._whole else _merged(word, self.ranks)
            self._known[word] = [self.vocabulary.get(symbol, self.unk_id) for symbol in symbols]
        return self._known[word]

    @property
    def _whole(self) -> frozenset[str]:
        """Words that are never split: the special tokens, for the tokenizer written in Python."""
        names = frozenset(("<|startoftext|>", "<|endoftext|>"))
        return frozenset() if self.clean is None else names & self.vocabulary.keys()

    def _parts(self, text: str) -> Iterator[str | int]:
        """Words, and added tokens by id, in order."""
        if self.clean is not None:
            for part in split(text, tuple(replace(token, normalized=False) for token in self.added)):
                yield from [part] if isinstance(part, int) else divide_like_python(self.clean(part))
            return
        normalized = tuple(token for token in self.added if token.normalized)
        for part in split(text, tuple(token for token in self.added if not token.normalized)):
            for piece in [part] if isinstance(part, int) else split(normalize(part), normalized):
                yield from [piece] if isinstance(piece, int) else divide(piece)


def _merged(word: str, ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """The symbols of one word: its bytes, with the pair of lowest rank merged until no pair has a rank."""
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


def _bytes_of(symbol: str) -> bytes:
    """The bytes of a symbol; a symbol with any other character is plain text."""
    values = [_byte_values().get(character) for character in symbol]
    known = [value for value in values if value is not None]
    return bytes(known) if len(known) == len(values) else symbol.encode("utf-8")


@cache
def _byte_values() -> Mapping[str, int]:
    return {character: byte for byte, character in enumerate(_byte_characters())}


@cache
def _byte_characters() -> tuple[str, ...]:
    """The printable character of each byte: its Latin-1 character if printable, else the next from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in printable else next(others)) for byte in range(256))
