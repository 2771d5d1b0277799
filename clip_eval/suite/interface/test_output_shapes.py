"""Shapes and dtypes of every output, always with unequal counts: a square batch hides a missing transpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from clip_eval.subject import projected_features
from clip_eval.subject.observations import Clip
from clip_eval.verdict.compare import Compare

pytestmark = [pytest.mark.needs("objects", "options"), pytest.mark.shallow]

RECTANGLES = pytest.mark.parametrize(("images", "texts"), [(3, 5), (4, 2), (1, 3)], ids=str)


@RECTANGLES
def test_full_model_shapes(clip: Clip, compare: Compare, images: int, texts: int) -> None:
    """CLIPModel returns logits (images, texts) and (texts, images) and one embedding for each input."""
    out = clip.forward(images=images, texts=texts)
    width = clip.config.projection_dim
    _shape(compare, out.logits_per_image, (images, texts), "logits_per_image")
    _shape(compare, out.logits_per_text, (texts, images), "logits_per_text")
    _shape(compare, out.image_embeds, (images, width), "image_embeds", module="visual_projection")
    _shape(compare, out.text_embeds, (texts, width), "text_embeds", module="text_projection")


@RECTANGLES
def test_nested_output_shapes(clip: Clip, compare: Compare, images: int, texts: int) -> None:
    """The nested tower outputs of CLIPModel have one state for every token, and for every patch plus the class
    token.
    """
    out = clip.forward(images=images, texts=texts)
    _shape(compare, out.text_model_output.last_hidden_state, _text_states(clip, texts), "text last_hidden_state")
    _shape(compare, out.vision_model_output.last_hidden_state, _vision_states(clip, images), "vision last_hidden_state")


def test_tower_shapes(clip: Clip, compare: Compare) -> None:
    """CLIPTextModel and CLIPVisionModel return every state and one pooled state for each input."""
    if clip.holds.texts:
        text = clip.text_model(texts=4)
        _shape(compare, text.last_hidden_state, _text_states(clip, 4), "text last_hidden_state")
        _shape(compare, text.pooler_output, (4, clip.config.text.hidden_size), "text pooler_output")
    if clip.holds.images:
        vision = clip.vision_model(images=3)
        _shape(compare, vision.last_hidden_state, _vision_states(clip, 3), "vision last_hidden_state")
        _shape(compare, vision.pooler_output, (3, clip.config.vision.hidden_size), "vision pooler_output")


def test_tower_with_projection_shapes(clip: Clip, compare: Compare) -> None:
    """The towers with projection return every state and one projected embedding for each input."""
    width = clip.config.projection_dim
    if clip.holds.texts:
        text = clip.text_model_with_projection(texts=4)
        _shape(compare, text.text_embeds, (4, width), "text_embeds", module="text_projection")
        _shape(compare, text.last_hidden_state, _text_states(clip, 4), "text last_hidden_state")
    if clip.holds.images:
        vision = clip.vision_model_with_projection(images=3)
        _shape(compare, vision.image_embeds, (3, width), "image_embeds", module="visual_projection")
        _shape(compare, vision.last_hidden_state, _vision_states(clip, 3), "vision last_hidden_state")


def test_feature_shapes(clip: Clip, compare: Compare) -> None:
    """get_text_features and get_image_features give one projected feature for each input."""
    text = projected_features(clip.text_features(texts=4), clip.release)
    image = projected_features(clip.image_features(images=3), clip.release)
    _shape(compare, text, (4, clip.config.projection_dim), "text features", module="text_projection")
    _shape(compare, image, (3, clip.config.projection_dim), "image features", module="visual_projection")


def test_outputs_have_the_dtype_of_the_model(clip: Clip, compare: Compare) -> None:
    """Every tensor of every output has the subject's dtype and device, including states, maps, loss and features."""
    states: dict[str, Any] = {"output_hidden_states": True, "output_attentions": True, "attention": "eager"}
    calls: dict[str, Callable[[], Any]] = {
        "CLIPModel": lambda: clip.forward(images=3, texts=5, **states),
        "CLIPModel(return_loss=True)": lambda: clip.forward(images=3, texts=3, return_loss=True),
        "CLIPTextModel": lambda: clip.text_model(texts=4, **states),
        "CLIPVisionModel": lambda: clip.vision_model(images=3, **states),
        "CLIPTextModelWithProjection": lambda: clip.text_model_with_projection(texts=4, **states),
        "CLIPVisionModelWithProjection": lambda: clip.vision_model_with_projection(images=3, **states),
        "get_text_features": lambda: clip.text_features(texts=4),
        "get_image_features": lambda: clip.image_features(images=3),
    }
    for call, answer in calls.items():
        if not (clip.holds.whole or call in clip.holds.classes):
            continue
        for name, tensor in _tensors(answer(), call):
            compare.equal(str(tensor.dtype).removeprefix("torch."), clip.dtype, name=f"dtype of {name}")
            compare.equal(tensor.device.type, clip.subject.device.partition(":")[0], name=f"device of {name}")


def _tensors(value: Any, name: str) -> list[tuple[str, Any]]:
    if hasattr(value, "detach"):
        return [(name, value)]
    items = value.items() if hasattr(value, "items") else enumerate(value) if isinstance(value, tuple) else ()
    return [found for key, item in items for found in _tensors(item, f"{name}.{key}")]


def _shape(compare: Compare, tensor: Any, expected: tuple[int, ...], name: str, module: str | None = None) -> None:
    observed = tuple(tensor.shape) if hasattr(tensor, "shape") else type(tensor).__name__
    compare.equal(observed, expected, name=f"shape of {name}", module=module)


def _text_states(clip: Clip, texts: int) -> tuple[int, ...]:
    return (texts, clip.batch.input_ids.shape[1], clip.config.text.hidden_size)


def _vision_states(clip: Clip, images: int) -> tuple[int, ...]:
    vision = clip.config.vision
    return (images, (vision.image_size // vision.patch_size) ** 2 + 1, vision.hidden_size)
