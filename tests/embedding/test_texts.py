"""Batches of texts: as the processor pads them, longest first, within the budget of tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small_clip import write_small_clip

from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.embedding.texts import Tokenised, batches, tokenised
from clip_eval.subject import Subject

TEXTS = ["a red dog", "", "cat", "a red dog cat cat blue", "a", "été 猫"]


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_batch_is_what_the_processor_pads(tmp_path_factory: pytest.TempPathFactory, side: str) -> None:
    """Ids and mask of any choice of texts are those of calling the processor on just these."""
    subject = Subject(open_checkpoint(write_small_clip(tmp_path_factory.mktemp("small"))), "float32")
    processor = subject.processors.load()
    processor.tokenizer.padding_side = side
    tokens = tokenised(subject, TEXTS)
    for places in ([0], [1, 2], [3, 0, 5], [0, 1, 2, 3, 4, 5]):
        texts = [TEXTS[place] for place in places]
        expected = subject.processors.process(processor, text=texts, padding=True, return_tensors="pt")
        for name, values in tokens.inputs(places).items():
            assert np.array_equal(values, expected[name].numpy())


@settings(derandomize=True, deadline=None, max_examples=100)
@given(lengths=st.lists(st.integers(0, 20), max_size=40), budget=st.integers(1, 60))
def test_batches_hold_each_text_once_within_the_budget(lengths: list[int], budget: int) -> None:
    """Sorted by length, the longest first; one text alone may be longer than the budget."""
    tokens = Tokenised([[1] * length for length in lengths], 0, False)
    found = list(batches(tokens, range(len(lengths)), tokens_at_once=budget))
    flat = [place for batch in found for place in batch]
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[place] for place in flat] == sorted(lengths, reverse=True)
    assert all(len(batch) == 1 or len(batch) * lengths[batch[0]] <= budget for batch in found)
