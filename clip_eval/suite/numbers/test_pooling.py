"""The pooled state of a text: that of the first end token, under both rules and for every kind of text.

Radford et al. 2021, section 2.4, take the state at the end of the text. Checkpoints made before
https://github.com/huggingface/transformers/pull/24773 have eos_token_id 2, which means the largest id of the text.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clip_eval.families.config import LEGACY_EOS_TOKEN_ID, TextConfig
from clip_eval.families.registry import entry_point
from clip_eval.probes.batches import end_token_id
from clip_eval.run.evidence import Evidence
from clip_eval.subject.observations import Clip, answer_of
from clip_eval.subject.runtime import Runtime
from clip_eval.subject.tiny_clip import small_subject
from clip_eval.verdict.compare import Compare

TOKENS = 8

SMALL_TEXTS = {
    "plain": [5, 1, 3, 6, 6, 6, 6, 6],
    "an id above the end before it": [5, 7, 3, 1, 6, 6, 6, 6],
    "an id above the end behind it": [5, 1, 6, 3, 7, 6, 6, 6],
    "several ends": [5, 6, 3, 6, 1, 6, 4, 3],
    "several of the largest id": [5, 3, 7, 1, 7, 6, 7, 6],
    "token 2 before the end": [5, 2, 3, 1, 6, 2, 6, 6],
    "no end": [5, 1, 3, 4, 2, 1, 3, 0],
    "an end and nothing else": [6, 6, 6, 6, 6, 6, 6, 6],
    "an end at the last place": [5, 1, 2, 3, 4, 1, 0, 6],
}
"""Texts of the tiny model, whose end token is 6 and largest id 7."""


@pytest.fixture(autouse=True)
def one_token(clip: Clip, evidence: Evidence) -> None:
    """What this chapter is about."""
    if not clip.family.network.pools_one_token:
        evidence.not_applicable("a text of this family is not represented by the state of one token")


def test_a_text_is_pooled_at_its_first_end(clip: Clip, compare: Compare) -> None:
    """pooler_output is, bit for bit, the row of last_hidden_state at the position given by the config's eos_token_id.

    CLIPTextModel is called, which reads text_config alone; another id in text_config_dict counts for CLIPModel. Texts:
    plain, with an id above the end before it, with several ends, with none, and the end alone.
    """
    texts = _texts(clip.checkpoint.standalone_text)
    _judge(clip.runtime, compare, list(texts), np.array(list(texts.values())))


@pytest.mark.needs("loading")
@pytest.mark.parametrize("eos_token_id", [6, LEGACY_EOS_TOKEN_ID], ids=["eos", "legacy"])
@pytest.mark.parametrize("masked", [False, True], ids=["none", "masked"])
def test_both_rules_hold(clip: Clip, compare: Compare, tmp_path: Path, eos_token_id: int, masked: bool) -> None:
    """Both pooling rules, a true eos_token_id and the legacy 2, hold on a tiny model of the same kind.

    A candidate has one eos_token_id; the other rule is for other checkpoints. A mask does not move the position.
    """
    small = small_subject(tmp_path, clip.subject, text={"eos_token_id": eos_token_id})
    _judge(small, compare, list(SMALL_TEXTS), np.array(list(SMALL_TEXTS.values())), masked=masked)


def _judge(
    runtime: Runtime, compare: Compare, names: list[str], ids: NDArray[np.int64], *, masked: bool = False
) -> None:
    inputs = {"input_ids": ids}
    if masked:
        inputs["attention_mask"] = np.ones_like(ids)  # (texts, tokens)
        inputs["attention_mask"][:, ids.shape[1] // 2] = 0
    out = answer_of(runtime, entry_point("CLIPTextModel"), inputs)
    places = runtime.checkpoint.family.network.last_read(ids, runtime.checkpoint.standalone_text)  # (texts,)
    for row, (name, place) in enumerate(zip(names, places, strict=True)):
        compare.equal(
            out.pooler_output[row], out.last_hidden_state[row, place], name=f"pooled state: {name}, place {place}",
            module="text_model",
        )  # fmt: skip


def _texts(config: TextConfig) -> dict[str, list[int]]:
    """Texts in the candidate's vocabulary, as long as its positions allow, up to `TOKENS`."""
    end, tokens = end_token_id(config), min(TOKENS, config.max_position_embeddings)
    one, other = [index for index in range(3) if index != end][:2]
    rows = {
        "plain": [one, other, one, end, end, end, end, end],
        "several ends": [one, end, other, end, one, other, end, end],
        "no end": [one, other, other, one, other, one, one, other],
        "an end and nothing else": [end] * TOKENS,
    }
    if config.vocab_size > end + 1:
        above = config.vocab_size - 1
        rows["an id above the end before it"] = [one, above, other, end, end, end, end, end]
        rows["an id above the end behind it"] = [one, end, other, above, end, end, end, end]
    return {name: row[:tokens] for name, row in rows.items()}
