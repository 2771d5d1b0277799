"""Every state, embedding and logit against the float64 oracle, within rounding bounds.

Comparisons follow the network, so that the first mismatch names the module that diverges. A cosine proves
nothing: a wrong activation leaves it at 0.9999.
"""

from __future__ import annotations

from typing import Any

import pytest

from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.run.evidence import Evidence
from clip_eval.subject.observations import Clip
from clip_eval.suite._similarity import show_similarity
from clip_eval.verdict.compare import Compare

TEXTS, IMAGES = 5, 5

every_attention = pytest.mark.parametrize(
    "attention", [None, pytest.param("eager", marks=pytest.mark.needs("attention"))], ids=["default", "eager"]
)
every_mask = pytest.mark.parametrize("mask", ["padding", pytest.param("interior", marks=pytest.mark.shallow), "none"])


@every_attention
@every_mask
def test_text_tower(clip: Clip, oracle: Oracle, compare: Compare, mask: str, attention: str | None) -> None:
    """Every hidden state and pooled state of the text tower is what the weights and tokens determine, at every real
    token.

    Masks: right padding, tokens hidden inside the text (padding alone cannot show a dropped mask), and none. What the
    second does is the same in every layer, so of a deep tower the first layers are asked; the checks of its modules
    hide tokens in all of them.
    """
    out = clip.text_model(texts=TEXTS, mask=mask, attention=attention, **clip.with_states)
    expected = oracle.of("CLIPTextModel").text(texts=TEXTS, mask="padding" if mask == "none" else mask)
    real = clip.real(TEXTS, mask)[:, :, None]  # (texts, tokens, 1)
    _stream(clip, compare, out, expected.hidden_states, "text_model", real)
    compare.close(
        out.last_hidden_state,
        expected.last_hidden_state,
        name="last_hidden_state",
        where=real,
        module="text_model.final_layer_norm",
    )
    compare.close(out.pooler_output, expected.pooler_output, name="pooler_output", module="text_model")


def test_short_texts(clip: Clip, oracle: Oracle, compare: Compare) -> None:
    """A batch with fewer tokens than the model takes gives each token the state that it has in a full one.

    The tower is causal, so no state depends on what follows; positions count from the first token whatever the length.
    """
    tokens = max(3, clip.config.text.max_position_embeddings // 3)
    out = clip.text_model(texts=TEXTS, tokens=tokens, **clip.with_states)
    expected = oracle.of("CLIPTextModel").text(texts=TEXTS)
    real = clip.real(TEXTS)[:, :tokens, None]  # (texts, tokens, 1)
    _stream(clip, compare, out, tuple(state[:, :tokens] for state in expected.hidden_states), "text_model", real)
    if not clip.with_states:
        last = expected.last_hidden_state[:, :tokens]
        compare.close(out.last_hidden_state, last, name="last_hidden_state", where=real, module="text_model")


@every_attention
def test_vision_tower(clip: Clip, oracle: Oracle, compare: Compare, attention: str | None) -> None:
    """Every hidden state and pooled state of the vision tower is what the weights and pixels determine."""
    out = clip.vision_model(images=IMAGES, attention=attention, **clip.with_states)
    expected = oracle.of("CLIPVisionModel").vision(images=IMAGES)
    _stream(clip, compare, out, expected.hidden_states, "vision_model", None)
    compare.close(
        out.last_hidden_state, expected.last_hidden_state, name="last_hidden_state", module="vision_model.encoder"
    )
    compare.close(out.pooler_output, expected.pooler_output, name="pooler_output", module="vision_model.post_layernorm")


@every_attention
@every_mask
def test_embeddings_and_logits(
    clip: Clip, oracle: Oracle, compare: Compare, evidence: Evidence, mask: str, attention: str | None
) -> None:
    """Embeddings and logits of CLIPModel are what the weights and inputs determine, in every element."""
    out = clip.forward(images=3, texts=TEXTS, mask=mask, attention=attention)
    expected = oracle.forward(images=3, texts=TEXTS, mask="padding" if mask == "none" else mask)
    if mask == "padding" and attention is None:
        show_similarity(evidence, clip, out.logits_per_image, expected.logits_per_image)
    compare.close(out.text_embeds, expected.text_embeds, name="text_embeds", module="text_projection")
    compare.close(out.image_embeds, expected.image_embeds, name="image_embeds", module="visual_projection")
    compare.close(out.logits_per_text, expected.logits_per_text, name="logits_per_text", module="logit_scale")
    compare.close(out.logits_per_image, expected.logits_per_image, name="logits_per_image", module="logit_scale")


@pytest.mark.shallow
def test_nested_towers(clip: Clip, oracle: Oracle, compare: Compare) -> None:
    """Inside CLIPModel both towers compute the states that the weights and inputs determine."""
    out = clip.forward(images=3, texts=TEXTS, mask="interior")
    text, vision = oracle.text(texts=TEXTS, mask="interior"), oracle.vision(images=3)
    compare.close(
        out.text_model_output.last_hidden_state,
        text.last_hidden_state,
        name="text last_hidden_state",
        where=clip.real(TEXTS, "interior")[:, :, None],
        module="text_model",
    )
    compare.close(
        out.vision_model_output.last_hidden_state,
        vision.last_hidden_state,
        name="vision last_hidden_state",
        module="vision_model",
    )


@pytest.mark.needs("options")
def test_loss(clip: Clip, oracle: Oracle, compare: Compare) -> None:
    """The contrastive loss is what the weights and inputs determine."""
    expected = oracle.forward(images=4, texts=4).loss
    assert expected is not None
    compare.close(clip.forward(images=4, texts=4, return_loss=True).loss, expected, name="loss", module="logit_scale")


def _stream(clip: Clip, compare: Compare, output: Any, expected: Any, tower: str, real: Any) -> None:
    """Judge every hidden state of an answer to a call with `Clip.with_states`."""
    if not clip.with_states:
        return
    observed = output.hidden_states
    compare.equal(len(observed), len(expected), name=f"number of {tower} hidden states")
    first = "text_model.embeddings" if tower == "text_model" else "vision_model.pre_layrnorm"
    for index, (state, value) in enumerate(zip(observed, expected, strict=True)):
        module = f"{tower}.encoder.layers.{index - 1}" if index else first
        compare.close(state, value, name=f"hidden_states[{index}]", where=real, module=module)
