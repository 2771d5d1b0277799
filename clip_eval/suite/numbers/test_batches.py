"""Rows of a batch are independent: a row's result depends neither on its neighbours nor on their order and count.

In the same place of a batch of the same shape a row is compared bit for bit. In another place or count it is compared
with the reference: for other shapes kernels use other blocks and round differently.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from clip_eval.families.family import EntryPoint
from clip_eval.families.registry import entry_point
from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.probes.batches import MOST_ROWS
from clip_eval.subject.observations import Clip
from clip_eval.verdict.compare import Compare

SHUFFLED = [3, 0, 4, 1, 2]
REPEATED = [*SHUFFLED, 2, 1, 4, 0, 3, 0]
"""Every row twice, not in its place in the probe, and one row a third time: 11 rows."""

either = pytest.mark.parametrize("inputs", ["texts", "images"])


@pytest.mark.shallow
def test_neighbours_do_not_matter(clip: Clip, compare: Compare) -> None:
    """A row's embeddings, states and logit are bit-equal whatever the other texts and images of the batch are.

    The row stays in its place and all others change, for each row in turn.
    """
    entry = entry_point(clip.holds.main_class)
    inputs = clip.inputs(entry, images=MOST_ROWS, texts=MOST_ROWS)
    before = _row_results(clip, entry, inputs)
    for row in range(MOST_ROWS):
        others = np.arange(MOST_ROWS) != row  # (rows,)
        changed = {name: values.copy() for name, values in inputs.items()}
        if entry.texts:
            changed["input_ids"][others] = (inputs["input_ids"][others] + 1) % clip.config.text.vocab_size
        if entry.images:
            changed["pixel_values"][others] = 0.5 - inputs["pixel_values"][others]
        after = _row_results(clip, entry, changed)
        for name, expected in before.items():
            compare.equal(after[name][row], expected[row], name=f"{name}[{row}] beside other rows")
        first = next(iter(before))
        compare.equal(bool((after[first] == before[first]).all()), False, name="other rows are others")


@either
def test_a_row_alone_is_the_same(clip: Clip, oracle: Oracle, compare: Compare, inputs: str) -> None:
    """Each text and each image by itself gives the states and the embedding that it has in a batch."""
    for row in range(MOST_ROWS):
        _compare_rows(clip, oracle, compare, inputs, [row], f"of row {row} alone")


@either
def test_order_and_count_do_not_matter(clip: Clip, oracle: Oracle, compare: Compare, inputs: str) -> None:
    """In a batch of 11, with each row in several other places, every state and embedding is that of its row."""
    _compare_rows(clip, oracle, compare, inputs, REPEATED, "of repeated rows")


@pytest.mark.parametrize("mask", ["padding", "none"])
def test_logits_follow_the_order_of_rows(clip: Clip, oracle: Oracle, compare: Compare, mask: str) -> None:
    """Reordering texts and images reorders the logits on both axes, and changes nothing else."""
    texts, images = SHUFFLED, [2, 0, 1]
    inputs = {name: values[texts] for name, values in clip.texts(MOST_ROWS, mask).items()}  # (texts, tokens)
    inputs["pixel_values"] = clip.images(MOST_ROWS)["pixel_values"][images]  # (images, channels, height, width)
    out = clip.answer(entry_point("CLIPModel"), inputs)
    expected = oracle.forward(images=len(images), texts=len(texts))
    compare.close(out.text_embeds, expected.text_embeds[texts], name="text_embeds in another order")
    compare.close(out.image_embeds, expected.image_embeds[images], name="image_embeds in another order")
    logits = expected.logits_per_text[texts][:, images]  # (texts, images)
    compare.close(out.logits_per_text, logits, name="logits_per_text in another order")
    compare.close(out.logits_per_image, logits.transposed, name="logits_per_image in another order")


def _row_results(clip: Clip, entry: EntryPoint, inputs: dict[str, Any]) -> dict[str, Any]:
    """What the model gives for each row: an entry a row. The diagonal of the logits is a row's own."""
    out = clip.answer(entry, inputs)
    if not clip.holds.whole:
        return {name: out[name] for name in entry.fields}
    return {
        "text_embeds": out.text_embeds,
        "image_embeds": out.image_embeds,
        "text_model_output.last_hidden_state": out.text_model_output.last_hidden_state,
        "vision_model_output.last_hidden_state": out.vision_model_output.last_hidden_state,
        "logits_per_text.diagonal()": out.logits_per_text.diagonal(),
    }


def _compare_rows(clip: Clip, oracle: Oracle, compare: Compare, inputs: str, rows: list[int], name: str) -> None:
    """Judge states and embedding of a batch of these rows of the probe, through the tower with projection if there is
    one.
    """
    is_text = inputs == "texts"
    given = clip.texts(MOST_ROWS) if is_text else clip.images(MOST_ROWS)
    model_class = clip.holds.tower_class("text" if is_text else "vision")
    oracle = oracle.of(model_class)
    expected = oracle.text(texts=MOST_ROWS) if is_text else oracle.vision(images=MOST_ROWS)
    out = clip.answer(entry_point(model_class), {name: values[rows] for name, values in given.items()})
    compare.close(
        out.last_hidden_state,
        expected.last_hidden_state[rows],
        name=f"last_hidden_state {name}",
        where=clip.real(MOST_ROWS)[rows][:, :, None] if is_text else None,
        module="text_model" if is_text else "vision_model",
    )
    if not model_class.endswith("WithProjection"):
        pooled = expected.pooler_output[rows]
        compare.close(
            out.pooler_output, pooled, name=f"pooled state {name}", module="text_model" if is_text else "vision_model"
        )
        return
    embeds = out.text_embeds if is_text else out.image_embeds
    compare.close(
        embeds,
        expected.projected[rows],
        name=f"embedding {name}",
        module="text_projection" if is_text else "visual_projection",
    )
