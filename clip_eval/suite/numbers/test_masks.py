"""Causality, attention masks and positions of the text tower: which tokens may reach which state.

Only states of real tokens are compared; states at padding may differ between releases.
"""

from __future__ import annotations

from collections import ChainMap
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clip_eval.families.config import TextConfig
from clip_eval.families.family import EntryPoint
from clip_eval.families.registry import ENTRY_POINTS, entry_point
from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.probes.batches import Batch, end_token_id
from clip_eval.subject import features_are_tensors
from clip_eval.subject.observations import Clip
from clip_eval.verdict.compare import Compare

pytestmark = pytest.mark.shallow

TEXTS = 4
SHORT = 12
"""Tokens of a short batch, for which a reference of its own is cheap."""

MASK_DTYPES = ("int32", "uint8", "bool", "float32", "float16")
TEXT_ENTRIES = tuple(entry for entry in ENTRY_POINTS if entry.texts)

every_text_entry = pytest.mark.parametrize("entry", TEXT_ENTRIES, ids=str)


@pytest.mark.parametrize("mask", ["padding", "interior", "none"])
def test_later_tokens_change_nothing_before_them(clip: Clip, compare: Compare, mask: str) -> None:
    """Changing a token changes its own state and none before it: all earlier states, of every layer, stay bit-equal."""
    inputs = clip.texts(TEXTS, mask)
    before = clip.text_model(texts=TEXTS, mask=mask, **clip.with_states)
    tokens = inputs["input_ids"].shape[1]
    for first in sorted({tokens // 3, tokens - 1}):
        ids = inputs["input_ids"].copy()  # (texts, tokens)
        ids[:, first:] = (ids[:, first:] + 1) % clip.config.text.vocab_size
        after = clip.answer(entry_point("CLIPTextModel"), {**inputs, "input_ids": ids}, **clip.with_states)
        for name, expected in _states(clip, before).items():
            observed = _states(clip, after)[name]
            compare.equal(
                observed[:, :first], expected[:, :first], name=f"{name} before token {first}", module="text_model"
            )
        own = (after.last_hidden_state[:, first] != before.last_hidden_state[:, first]).any()
        compare.equal(bool(own), True, name=f"the state of token {first} changes")


@every_text_entry
@pytest.mark.parametrize("mask", ["padding", "none"])
def test_nothing_after_the_end_changes_a_text(clip: Clip, compare: Compare, entry: EntryPoint, mask: str) -> None:
    """Whatever ids follow the end token of a text, its pooled state, feature and embedding stay bit-equal."""
    inputs = clip.inputs(entry, images=1, texts=TEXTS, mask=mask)
    ids = inputs["input_ids"]  # (texts, tokens)
    ends = clip.family.network.last_read(ids, clip.config.text)  # (texts,)
    follows = np.arange(ids.shape[1]) > ends[:, None]  # (texts, tokens)
    changed = np.where(follows, _other_id(clip.config.text), ids)  # (texts, tokens)
    compare.equal(bool((changed != ids).any()), True, name="some id after an end was changed")
    before = _pooled(clip, entry, clip.answer(entry, inputs))
    after = _pooled(clip, entry, clip.answer(entry, {**inputs, "input_ids": changed}))
    compare.equal(after, before, name=f"{entry} with other ids after the end, {mask} masked", module="text_model")


def test_ids_under_the_mask_do_not_matter(clip: Clip, compare: Compare) -> None:
    """Whatever ids are masked, as padding or inside a text, every state of a real token stays bit-equal."""
    inputs = clip.texts(TEXTS, "interior")
    real = clip.real(TEXTS, "interior")  # (texts, tokens)
    changed = np.where(real, inputs["input_ids"], _other_id(clip.config.text))  # (texts, tokens)
    before = clip.text_model(texts=TEXTS, mask="interior", **clip.with_states)
    after = clip.answer(entry_point("CLIPTextModel"), {**inputs, "input_ids": changed}, **clip.with_states)
    for name, expected in _states(clip, before).items():
        compare.equal(
            _states(clip, after)[name][real], expected[real], name=f"{name} of real tokens", module="text_model"
        )


@every_text_entry
def test_a_mask_of_ones_is_no_mask(clip: Clip, oracle: Oracle, compare: Compare, entry: EntryPoint) -> None:
    """With a mask of ones every real token's state, and the pooled one, are the reference's without a mask."""
    inputs = clip.inputs(entry, images=1, texts=TEXTS)
    inputs["attention_mask"] = np.ones_like(inputs["attention_mask"])  # (texts, tokens)
    out = clip.answer(entry, inputs)
    expected = oracle.of(entry.model_class).text(texts=TEXTS)
    if (states := _last_states(clip, entry, out)) is not None:
        compare.close(
            states, expected.last_hidden_state, name=f"{entry} states", where=clip.real(TEXTS)[:, :, None],
            module="text_model",
        )  # fmt: skip
    projected = entry.model_class == "CLIPTextModelWithProjection" or entry.method == "get_text_features"
    if projected:
        compare.close(_pooled(clip, entry, out), expected.projected, name=f"{entry} pooled", module="text_model")


@pytest.mark.parametrize("dtype", MASK_DTYPES)
@pytest.mark.parametrize("mask", ["padding", "interior"])
def test_masks_of_every_dtype_mean_the_same(clip: Clip, compare: Compare, mask: str, dtype: str) -> None:
    """A mask of int32, uint8, bool or floating-point zeros and ones hides what the int64 one hides, bit for bit."""
    inputs = dict(clip.texts(TEXTS, mask))
    inputs["attention_mask"] = inputs["attention_mask"].astype(dtype)  # (texts, tokens)
    observed = clip.answer(entry_point("CLIPTextModel"), inputs, **clip.with_states)
    expected = clip.text_model(texts=TEXTS, mask=mask, **clip.with_states)
    real = clip.real(TEXTS, mask)  # (texts, tokens)
    compare.equal(
        observed.last_hidden_state[real], expected.last_hidden_state[real], name=f"states under a {dtype} mask"
    )
    compare.equal(observed.pooler_output, expected.pooler_output, name=f"pooled states under a {dtype} mask")


def test_left_padding_moves_the_text_and_not_the_pooling(clip: Clip, oracle: Oracle, compare: Compare) -> None:
    """With left padding real tokens have the states of their shifted positions, and the text is pooled at position 0.

    CLIP pads with its end token, and pools at the first one: the pooled state is then that of a padding token. No
    release repairs this; CLIP tokenizers pad on the right.
    """
    batch = _left_padded(clip)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    out = clip.answer(entry_point("CLIPTextModel"), inputs)
    with np.errstate(invalid="ignore"):  # a padded token has no key left to attend to, and its state does not count
        expected = oracle.of("CLIPTextModel").on(batch).text(texts=len(batch.input_ids)).last_hidden_state
    real = batch.attention_mask[:, :, None] == 1  # (texts, tokens, 1)
    compare.close(out.last_hidden_state, expected, name="left-padded states", where=real, module="text_model")
    places = clip.family.network.last_read(batch.input_ids, clip.config.text)  # (texts,)
    compare.equal(places, np.zeros_like(places), name="the first end token is at place 0")
    compare.equal(out.pooler_output, out.last_hidden_state[:, 0], name="left-padded pooled states")


@every_text_entry
def test_positions_count_from_zero_by_default(clip: Clip, compare: Compare, entry: EntryPoint) -> None:
    """Position ids 0, 1, 2, ... are the default: giving them, for one row or one a text, changes nothing."""
    inputs = clip.inputs(entry, images=1, texts=TEXTS, mask="interior")
    expected = _pooled(clip, entry, clip.answer(entry, inputs))
    counted = np.arange(inputs["input_ids"].shape[1])[None]  # (1, tokens)
    for rows in (1, TEXTS):
        positioned = {**inputs, "position_ids": np.repeat(counted, rows, axis=0)}
        compare.equal(
            _pooled(clip, entry, clip.answer(entry, positioned)), expected, name=f"{entry} with {rows} rows of ids"
        )


def test_given_positions_are_used(clip: Clip, oracle: Oracle, compare: Compare) -> None:
    """Position ids choose the position embedding of each token, in every class and method with texts."""
    clip.holds.require_tower("text")
    batch = _short(clip)
    places = np.arange(batch.input_ids.shape[1])[::-1].copy()  # (tokens,)
    repositioned = _repositioned(oracle, places).on(batch)
    given = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "position_ids": places[None]}
    for entry in clip.holds.entries(TEXT_ENTRIES):
        inputs = {**given, **(clip.images(1) if entry.images else {})}
        out = clip.answer(entry, inputs)
        states, name = _last_states(clip, entry, out), f"{entry} at given positions"
        expected = repositioned.of(entry.model_class).text(texts=len(batch.input_ids))
        if states is None:
            compare.close(_pooled(clip, entry, out), expected.projected, name=name, module="text_model")
        else:
            real = batch.attention_mask[:, :, None] == 1  # (texts, tokens, 1)
            compare.close(states, expected.last_hidden_state, name=name, where=real, module="text_model")


def _states(clip: Clip, output: Any) -> dict[str, Any]:
    """Every state of a text tower asked with `Clip.with_states`, by name, along the network."""
    layers = {
        f"hidden_states[{index}]": state for index, state in enumerate(output.hidden_states if clip.with_states else ())
    }
    return {**layers, "last_hidden_state": output.last_hidden_state}


def _last_states(clip: Clip, entry: EntryPoint, output: Any) -> Any:
    """The last states of the texts; None where the entry point returns a bare feature."""
    if entry.method == "get_text_features" and features_are_tensors(clip.release):
        return None
    return (output.text_model_output if entry.images else output).last_hidden_state


def _pooled(clip: Clip, entry: EntryPoint, output: Any) -> Any:
    """An entry point's pooled output of each text."""
    if entry.method == "get_text_features":
        return clip.features(output)
    return output.pooler_output if entry.model_class == "CLIPTextModel" else output.text_embeds


def _other_id(config: TextConfig) -> int:
    """The smallest id, which does not end a text under either pooling rule."""
    return 1 if end_token_id(config) == 0 else 0


def _short(clip: Clip) -> Batch:
    """Two texts of the probe, cut."""
    rows, tokens = slice(1, 3), min(SHORT, clip.config.text.max_position_embeddings)
    cut = {name: getattr(clip.batch, name)[rows, :tokens] for name in ("input_ids", "attention_mask", "interior_mask")}
    return replace(clip.batch, pixel_values=clip.batch.pixel_values[rows], **cut)


def _left_padded(clip: Clip) -> Batch:
    """The short texts moved to the right behind end tokens, the first text shorter than the other."""
    batch = _short(clip)
    ids, mask = np.full_like(batch.input_ids, end_token_id(clip.config.text)), np.zeros_like(batch.attention_mask)
    tokens = ids.shape[1]
    for row, length in enumerate((min(3, tokens - 1), max(2, tokens - 2))):
        ids[row, tokens - length :] = batch.input_ids[row, :length]
        mask[row, tokens - length :] = 1
    return replace(batch, input_ids=ids, attention_mask=mask)


def _repositioned(oracle: Oracle, places: NDArray[np.int64]) -> Oracle:
    """The reference whose token i has the position embedding of places[i]."""
    name = f"{oracle.family.text.module}.embeddings.position_embedding.weight"
    table = oracle.weights[name].copy()  # (positions, width)
    table[: len(places)] = oracle.weights[name][places]
    weights = ChainMap({name: table}, oracle.weights)  # type: ignore[arg-type]
    return replace(oracle, weights=weights)
