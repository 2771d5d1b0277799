"""Expected values: rows do not depend on their batch, and bounds come with every one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clip_eval.oracle.expected.fields import ExpectedTower
from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.probes.batches import MOST_ROWS, Batch
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings
from clip_eval.verdict.compare import Expected, agrees

FIELDS = ("last_hidden_state", "pooler_output", "projected")


@pytest.fixture(scope="module")
def session(bare_model: Path) -> Session:
    """A small checkpoint in float32."""
    return Session(Settings(model=str(bare_model)))


@pytest.fixture(scope="module")
def oracle(session: Session) -> Oracle:
    """The expected values of the whole batch."""
    return session.candidate.oracle


def of(tower: ExpectedTower) -> list[Expected]:
    """Everything that a tower is expected to return."""
    return [*tower.hidden_states, *tower.attentions, *(getattr(tower, name) for name in FIELDS)]


def head(batch: Batch, rows: int) -> Batch:
    """The first rows of a batch."""
    return Batch(batch.pixel_values[:rows], batch.input_ids[:rows], batch.attention_mask[:rows],
                 batch.interior_mask[:rows])  # fmt: skip


@pytest.mark.parametrize("rows", [1, 3])
def test_rows_are_those_of_a_smaller_batch(session: Session, oracle: Oracle, rows: int) -> None:
    """The first rows of the largest batch are what a batch of them alone gives, towers and head alike."""
    alone = session.candidate.oracle_on(head(session.candidate.batch, rows))
    for large, small in (
        *zip(of(oracle.vision(images=rows)), of(alone.vision(images=rows)), strict=True),
        *zip(of(oracle.text(texts=rows)), of(alone.text(texts=rows)), strict=True),
    ):
        assert large.value.shape == small.value.shape
        np.testing.assert_allclose(large.value, small.value, rtol=1e-9, atol=1e-12)
    large, small = oracle.forward(images=rows, texts=rows), alone.forward(images=rows, texts=rows)
    np.testing.assert_allclose(large.logits_per_text.value, small.logits_per_text.value, rtol=1e-9)


def test_a_tower_alone_may_compute_with_other_values(session: Session, tmp_path: Path) -> None:
    """Where text_config_dict is laid over a text_config that says others, the classes of one tower have their own."""
    home = Path(shutil.copytree(session.candidate.checkpoint.path, tmp_path / "clip"))
    raw = json.loads((home / "config.json").read_text(encoding="utf-8"))
    raw["text_config_dict"] = dict(raw["text_config"])
    raw["text_config"] |= {"hidden_act": "gelu", "num_attention_heads": 2, "layer_norm_eps": 1e-3}
    (home / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    candidate = Session(Settings(model=str(home))).candidate
    oracle, whole = candidate.oracle, candidate.clip.forward(images=2, texts=2)
    for observed, model_class in (
        (whole.text_model_output.last_hidden_state, "CLIPModel"),
        (candidate.clip.text_model(texts=2).last_hidden_state, "CLIPTextModel"),
        (candidate.clip.text_model_with_projection(texts=2).last_hidden_state, "CLIPTextModelWithProjection"),
    ):
        real = candidate.clip.real(2)[:, :, None]  # (texts, tokens, 1)
        assert agrees(observed, oracle.of(model_class).text(texts=2).last_hidden_state, where=real), model_class
    expected = oracle.of("CLIPTextModel").text(texts=2).last_hidden_state
    assert not agrees(whole.text_model_output.last_hidden_state, expected, where=real)
    assert "num_attention_heads 2" in " ".join(candidate.checkpoint.notes)


def test_an_end_that_pools_alike_is_not_another_reference(oracle: Oracle) -> None:
    """As in OpenAI's files: eos_token_id 2 alone, the true one in CLIPModel; only other places make a difference."""
    other = replace(oracle.config, text=replace(oracle.config.text, eos_token_id=2))
    ids = np.full_like(oracle.batch.input_ids, oracle.config.text.eos_token_id)  # (texts, tokens)
    ids[:, 2] = oracle.config.text.vocab_size - 1  # the legacy rule's end, behind the first true one
    for given, same in ((np.minimum(oracle.batch.input_ids, oracle.config.text.eos_token_id), True), (ids, False)):
        batch = replace(oracle.batch, input_ids=given)
        alike = replace(oracle, batch=batch, standalone=other)
        assert (alike.of("CLIPTextModel") is alike) == same


def test_every_value_has_a_bound(oracle: Oracle) -> None:
    """Each expected array has a finite bound of its own shape, positive where anything was computed."""
    outputs = oracle.forward(images=4, texts=4)
    assert outputs.loss is not None
    heads = [outputs.text_embeds, outputs.image_embeds, outputs.logits_per_text, outputs.logits_per_image, outputs.loss]
    for entry in (*of(oracle.vision(images=3)), *of(oracle.text(texts=3)), *heads):
        assert entry.value.shape == entry.bound.shape
        assert np.all(np.isfinite(entry.value))
        assert np.all(np.isfinite(entry.bound))
        assert np.all(entry.bound >= 0)
        assert entry.bound.max() > 0
        assert entry.rule == oracle.rule


def test_counts_and_shapes_follow_the_config(session: Session, oracle: Oracle) -> None:
    """There is one hidden state more than layers, one attention map a layer, and rows as asked for."""
    text, vision = session.candidate.checkpoint.config.text, session.candidate.checkpoint.config.vision
    found = oracle.text(texts=2)
    assert len(found.hidden_states) == text.num_hidden_layers + 1
    assert len(found.attentions) == text.num_hidden_layers
    tokens = text.max_position_embeddings
    assert found.attentions[0].value.shape == (2, text.num_attention_heads, tokens, tokens)
    positions = (vision.image_size // vision.patch_size) ** 2 + 1
    assert oracle.vision(images=1).last_hidden_state.value.shape == (1, positions, vision.hidden_size)


def test_logits_are_transposes_and_rectangular(oracle: Oracle) -> None:
    """Logits per image are the transpose of those per text; there is a loss only for as many images as texts."""
    outputs = oracle.forward(images=2, texts=5)
    assert outputs.logits_per_text.value.shape == (5, 2)
    assert np.array_equal(outputs.logits_per_image.value, outputs.logits_per_text.value.T)
    assert np.array_equal(outputs.logits_per_image.bound, outputs.logits_per_text.bound.T)
    assert outputs.loss is None
    assert oracle.forward(images=2, texts=2).loss is not None


def test_masks_change_what_is_expected(oracle: Oracle) -> None:
    """Hidden tokens inside a text change what follows them: the probe can show a dropped mask."""
    padding, interior = oracle.text(texts=MOST_ROWS), oracle.text(texts=MOST_ROWS, mask="interior")
    difference = np.abs(padding.projected.value - interior.projected.value).max(axis=-1)  # (texts,)
    bound = padding.projected.bound.max(axis=-1)  # (texts,)
    assert np.sum(difference > 100 * bound) >= 3


def test_expected_values_are_kept(oracle: Oracle) -> None:
    """Asking twice computes once."""
    assert oracle.forward(images=2, texts=3) is oracle.forward(images=2, texts=3)
    assert oracle.vision(images=2).pooler_output.value.base is oracle.vision(images=3).pooler_output.value.base


def test_half_precision_has_wider_bounds(session: Session, oracle: Oracle) -> None:
    """Bounds grow with the unit roundoff, and the rule names dtype and TF32."""
    coarse = session.candidate.oracle_on(session.candidate.batch, "bfloat16")
    ratio = coarse.vision(images=1).pooler_output.bound.mean() / oracle.vision(images=1).pooler_output.bound.mean()
    assert 5_000 < ratio < 500_000
    assert "bfloat16" in coarse.rule
    tf32 = replace(oracle, precision=replace(oracle.precision, tf32_convolution=True))
    assert "TF32" in tf32.rule
    assert (tf32.vision(images=1).hidden_states[0].bound > 50 * oracle.vision(images=1).hidden_states[0].bound).any()


def test_expected_values_differ_between_inputs(oracle: Oracle) -> None:
    """The probe is not degenerate: images and texts are told apart by far more than rounding."""
    for values in (oracle.forward(images=5, texts=5).image_embeds, oracle.forward(images=5, texts=5).text_embeds):
        cosines = values.value @ values.value.T  # (rows, rows)
        assert np.all(cosines[~np.eye(len(cosines), dtype=bool)] < 0.99)


def test_the_vision_side_needs_no_texts(tmp_path: Path, session: Session) -> None:
    """Each tower is computed when it is asked for: vision checks of a large model do not pay for its text tower."""
    fresh = session.candidate.oracle_on(session.candidate.batch)
    fresh.vision(images=1)
    assert set(fresh._towers) == {"vision"}
