"""get_text_features and get_image_features, in the form that each release documents."""

from __future__ import annotations

import pytest

from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.subject import features_are_tensors
from clip_eval.subject.observations import Clip
from clip_eval.verdict.compare import Compare

TEXTS, IMAGES = 5, 3


@pytest.mark.needs("objects")
def test_type_is_the_documented_one(clip: Clip, compare: Compare) -> None:
    """Both return a bare tensor in transformers 4, and BaseModelOutputWithPooling from 5.0 on."""
    expected = "Tensor" if features_are_tensors(clip.release) else "BaseModelOutputWithPooling"
    compare.equal(type(clip.text_features(texts=TEXTS)).__name__, expected, name="type of get_text_features")
    compare.equal(type(clip.image_features(images=IMAGES)).__name__, expected, name="type of get_image_features")


def test_features_are_projected_and_not_normalised(clip: Clip, compare: Compare, oracle: Oracle) -> None:
    """The features are the projected pooled states, before division by their norm."""
    text = clip.features(clip.text_features(texts=TEXTS))
    image = clip.features(clip.image_features(images=IMAGES))
    compare.close(text, oracle.text(texts=TEXTS).projected, name="text features", module="text_projection")
    compare.close(image, oracle.vision(images=IMAGES).projected, name="image features", module="visual_projection")


@pytest.mark.shallow
def test_text_features_follow_the_mask(clip: Clip, compare: Compare, oracle: Oracle) -> None:
    """get_text_features honours an attention mask that hides tokens inside the text."""
    text = clip.features(clip.text_features(texts=TEXTS, mask="interior"))
    compare.close(text, oracle.text(texts=TEXTS, mask="interior").projected, name="text features", module="text_model")


@pytest.mark.needs("objects")
def test_other_states_come_along(clip: Clip, compare: Compare, oracle: Oracle) -> None:
    """If the features come in an output object, its last_hidden_state is the tower's."""
    if features_are_tensors(clip.release):
        compare.equal(
            hasattr(clip.text_features(texts=TEXTS), "last_hidden_state"), False, name="a tensor and nothing else"
        )
        return
    text, image = clip.text_features(texts=TEXTS), clip.image_features(images=IMAGES)
    compare.close(
        text.last_hidden_state,
        oracle.text(texts=TEXTS).last_hidden_state,
        name="text last_hidden_state",
        where=clip.real(TEXTS)[:, :, None],
        module="text_model",
    )
    compare.close(
        image.last_hidden_state,
        oracle.vision(images=IMAGES).last_hidden_state,
        name="image last_hidden_state",
        module="vision_model",
    )
