"""Texts to features: tokenised by the checkpoint's own tokenizer, in batches of similar length.

A batch is padded to its longest text only. Texts are sorted by their tokens, so that little is padding, and a batch
holds as many as a number of tokens allows. Which batches there are follows from the texts alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_eval.errors import DatasetError
from clip_eval.families.registry import entry_point
from clip_eval.families.roles import WHOLE
from clip_eval.subject.launch import launched
from clip_eval.subject.runtime import Runtime

__all__ = ["TOKENS_AT_ONCE", "Tokenised", "batches", "refuse_long", "text_features", "tokenised", "too_long"]

TOKENS_AT_ONCE = 4096
"""Tokens in one batch, padding included: 53 texts of 77 tokens, 341 of 12."""

_TOKENISED_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Tokenised:
    """Token ids of texts, without padding.

    Attributes:
        rows: ids of each text, in the order of the texts.
        padding: the id that fills a shorter row.
        on_the_left: where it is filled.
    """

    rows: Sequence[Sequence[int]]
    padding: int
    on_the_left: bool

    def inputs(self, places: Sequence[int]) -> dict[str, NDArray[np.int64]]:
        """Return `input_ids` and `attention_mask`, (places, longest), of the texts at these places."""
        longest = max(len(self.rows[place]) for place in places)
        ids = np.full((len(places), longest), self.padding, dtype=np.int64)  # (places, longest)
        mask = np.zeros_like(ids)  # (places, longest)
        for row, place in enumerate(places):
            count = len(self.rows[place])
            span = slice(longest - count, longest) if self.on_the_left else slice(0, count)
            ids[row, span], mask[row, span] = self.rows[place], 1
        return {"input_ids": ids, "attention_mask": mask}


def tokenised(runtime: Runtime, texts: Sequence[str]) -> Tokenised:
    """Return the tokens of any number of texts, by the checkpoint's processor.

    Args:
        runtime: a checkpoint with a tokenizer.
        texts: any.
    """
    processor = runtime.processors.load()
    rows: list[Sequence[int]] = []
    for start in range(0, len(texts), _TOKENISED_AT_ONCE):
        part = list(texts[start : start + _TOKENISED_AT_ONCE])
        rows += runtime.processors.process(processor, text=part)["input_ids"]
    tokenizer: Any = getattr(processor, "tokenizer", processor)
    return Tokenised(rows, int(tokenizer.pad_token_id or 0), tokenizer.padding_side == "left")


def too_long(runtime: Runtime, tokens: Tokenised) -> list[int]:
    """Return the places of texts with more tokens than the model has positions."""
    positions = runtime.checkpoint.config.text.max_position_embeddings
    return [place for place, row in enumerate(tokens.rows) if len(row) > positions]


def refuse_long(runtime: Runtime, texts: Sequence[str], tokens: Tokenised) -> None:
    """Raise DatasetError where a text has more tokens than the model has positions."""
    for place in too_long(runtime, tokens)[:1]:
        positions = runtime.checkpoint.config.text.max_position_embeddings
        raise DatasetError(
            f"the text {texts[place][:200]!r} has {len(tokens.rows[place])} tokens, and the model takes {positions}",
            fix="Shorten the prompt, the name of the class or the caption",
        )


def batches(tokens: Tokenised, places: Sequence[int], *, tokens_at_once: int = TOKENS_AT_ONCE) -> Iterator[list[int]]:
    """Yield the places in batches, longest texts first, so that a lack of memory shows at once.

    Args:
        tokens: of all texts.
        places: which of them to take.
        tokens_at_once: most tokens in a batch, padding included; a longer text is a batch of its own.
    """
    waiting = sorted(places, key=lambda place: -len(tokens.rows[place]))
    while waiting:
        count = max(1, tokens_at_once // max(1, len(tokens.rows[waiting[0]])))
        yield waiting[:count]
        waiting = waiting[count:]


def text_features(
    runtime: Runtime, tokens: Tokenised, places: Sequence[int], *, tokens_at_once: int = TOKENS_AT_ONCE
) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """Yield places and their features, (places, projection), batch by batch; a GPU has the next batch already.

    Args:
        runtime: what runs the checkpoint.
        tokens: of all texts.
        places: which of them to embed; none of them too long.
        tokens_at_once: most tokens in a batch.
    """
    entry = entry_point(WHOLE, "get_text_features")
    behind = None
    for batch in batches(tokens, places, tokens_at_once=tokens_at_once):
        started = batch, launched(runtime, entry, tokens.inputs(batch))
        if behind is not None:
            yield behind[0], behind[1]()
        behind = started
    if behind is not None:
        yield behind[0], behind[1]()
