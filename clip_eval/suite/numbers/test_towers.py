"""The standalone towers against the towers inside CLIPModel: their values."""

from __future__ import annotations

from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.run.evidence import Evidence
from clip_eval.subject.observations import Clip
from clip_eval.verdict.compare import Compare, Expected
from clip_eval.verdict.deviations import Deviations

TEXTS, IMAGES = 5, 3

_OTHER_VALUES = "in config.json CLIPModel and the tower alone read other values, which a note of the report names"


def test_text_model_is_the_nested_one(clip: Clip, compare: Compare, oracle: Oracle, evidence: Evidence) -> None:
    """CLIPTextModel returns the last_hidden_state that CLIPModel nests as text_model_output."""
    if oracle.of("CLIPTextModel").config.text != oracle.config.text:
        evidence.not_applicable(_OTHER_VALUES)
    alone, nested = clip.text_model(texts=TEXTS), clip.forward(images=IMAGES, texts=TEXTS).text_model_output
    expected = _twice(oracle.text(texts=TEXTS).last_hidden_state, alone.last_hidden_state)
    compare.close(
        nested.last_hidden_state,
        expected,
        name="text last_hidden_state",
        where=clip.real(TEXTS)[:, :, None],
        module="text_model",
    )


def test_vision_model_is_the_nested_one(clip: Clip, compare: Compare, oracle: Oracle, evidence: Evidence) -> None:
    """CLIPVisionModel returns the last_hidden_state that CLIPModel nests as vision_model_output."""
    if oracle.of("CLIPVisionModel").config.vision != oracle.config.vision:
        evidence.not_applicable(_OTHER_VALUES)
    alone, nested = clip.vision_model(images=IMAGES), clip.forward(images=IMAGES, texts=TEXTS).vision_model_output
    expected = _twice(oracle.vision(images=IMAGES).last_hidden_state, alone.last_hidden_state)
    compare.close(nested.last_hidden_state, expected, name="vision last_hidden_state", module="vision_model")


def test_nested_pooled_states_are_the_towers_own(
    clip: Clip, compare: Compare, oracle: Oracle, deviations: Deviations
) -> None:
    """The nested pooler_output of CLIPModel is the tower's own: the pooled state before projection."""
    out = clip.forward(images=IMAGES, texts=TEXTS)
    text, vision = oracle.text(texts=TEXTS), oracle.vision(images=IMAGES)
    projected = deviations.hold("nested-pooler-is-projected")
    compare.close(
        out.text_model_output.pooler_output,
        text.projected if projected else text.pooler_output,
        name="text_model_output.pooler_output",
        module="text_model",
    )
    compare.close(
        out.vision_model_output.pooler_output,
        vision.projected if projected else vision.pooler_output,
        name="vision_model_output.pooler_output",
        module="vision_model",
    )


def test_projected_towers_agree_with_the_plain_ones(clip: Clip, compare: Compare, oracle: Oracle) -> None:
    """The towers with projection return the last_hidden_state of the plain towers."""
    oracle = oracle.of("CLIPTextModel")
    if clip.holds.texts:
        text, projected_text = clip.text_model(texts=TEXTS), clip.text_model_with_projection(texts=TEXTS)
        compare.close(
            projected_text.last_hidden_state,
            _twice(oracle.text(texts=TEXTS).last_hidden_state, text.last_hidden_state),
            name="text last_hidden_state",
            where=clip.real(TEXTS)[:, :, None],
        )
    if clip.holds.images:
        vision, projected_vision = clip.vision_model(images=IMAGES), clip.vision_model_with_projection(images=IMAGES)
        compare.close(
            projected_vision.last_hidden_state,
            _twice(oracle.vision(images=IMAGES).last_hidden_state, vision.last_hidden_state),
            name="vision last_hidden_state",
        )


def test_projected_towers_give_the_features(clip: Clip, compare: Compare, oracle: Oracle) -> None:
    """text_embeds and image_embeds of the towers with projection are the projected pooled states, not normalised."""
    oracle = oracle.of("CLIPTextModelWithProjection")
    for mask in ("padding", "interior") if clip.holds.texts else ():
        text = clip.text_model_with_projection(texts=TEXTS, mask=mask)
        expected = oracle.text(texts=TEXTS, mask=mask).projected
        compare.close(text.text_embeds, expected, name=f"text_embeds, {mask} masked", module="text_projection")
    if clip.holds.images:
        vision, expected = clip.vision_model_with_projection(images=IMAGES), oracle.vision(images=IMAGES).projected
        compare.close(vision.image_embeds, expected, name="image_embeds", module="visual_projection")


def _twice(expected: Expected, other: object) -> Expected:
    """The expected value of two computations: each may be off by its bound, so they may differ by twice that."""
    from clip_eval.verdict.compare import to_array

    return Expected(to_array(other), 2 * expected.bound, f"2 x {expected.rule}")
