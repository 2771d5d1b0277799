"""Output objects: types, fields and their order, `to_tuple`, `return_dict=False`, nested tuples; every element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from clip_eval.subject.observations import Clip
from clip_eval.subject.output_tree import present_fields
from clip_eval.verdict.compare import Compare

pytestmark = [pytest.mark.needs("objects"), pytest.mark.shallow]

CALLS: dict[str, Callable[..., Any]] = {
    "CLIPModel": lambda clip, **options: clip.forward(images=3, texts=5, **options),
    "CLIPTextModel": lambda clip, **options: clip.text_model(texts=4, **options),
    "CLIPVisionModel": lambda clip, **options: clip.vision_model(images=3, **options),
    "CLIPTextModelWithProjection": lambda clip, **options: clip.text_model_with_projection(texts=4, **options),
    "CLIPVisionModelWithProjection": lambda clip, **options: clip.vision_model_with_projection(images=3, **options),
}

TYPES = {
    "CLIPModel": "CLIPOutput",
    "CLIPTextModel": "BaseModelOutputWithPooling",
    "CLIPVisionModel": "BaseModelOutputWithPooling",
    "CLIPTextModelWithProjection": "CLIPTextModelOutput",
    "CLIPVisionModelWithProjection": "CLIPVisionModelOutput",
}

POOLED = ["last_hidden_state", "pooler_output"]
FIELDS = {
    "CLIPModel": [
        "logits_per_image",
        "logits_per_text",
        "text_embeds",
        "image_embeds",
        "text_model_output",
        "vision_model_output",
    ],
    "CLIPTextModel": POOLED,
    "CLIPVisionModel": POOLED,
    "CLIPTextModelWithProjection": ["text_embeds", "last_hidden_state"],
    "CLIPVisionModelWithProjection": ["image_embeds", "last_hidden_state"],
}

every_class = pytest.mark.parametrize("model_class", list(CALLS))
with_and_without_states = pytest.mark.parametrize("states", [False, True], ids=["plain", "hidden_states"])


@every_class
def test_type_is_the_documented_one(clip: Clip, compare: Compare, model_class: str) -> None:
    """Each model class returns its documented output class."""
    output = CALLS[model_class](clip)
    compare.equal(type(output).__name__, TYPES[model_class], name=f"output of {model_class}")
    for name in ("text_model_output", "vision_model_output"):
        if name in FIELDS[model_class]:
            compare.equal(type(output[name]).__name__, "BaseModelOutputWithPooling", name=name)


@every_class
def test_fields_are_the_documented_ones_in_order(clip: Clip, compare: Compare, model_class: str) -> None:
    """Without options an output has exactly the documented fields, in the documented order."""
    output = CALLS[model_class](clip)
    compare.equal(list(output.keys()), FIELDS[model_class], name=f"fields of {model_class}'s output")
    for name in ("text_model_output", "vision_model_output"):
        if name in FIELDS[model_class]:
            compare.equal(list(output[name].keys()), POOLED, name=f"fields of {name}")


@every_class
@with_and_without_states
def test_fields_read_alike_every_way(clip: Clip, compare: Compare, model_class: str, states: bool) -> None:
    """A field is the same by attribute, by name and by position, and absent fields are None."""
    output = CALLS[model_class](clip, **_options(states))
    values = present_fields(output)
    for position, (name, value) in enumerate(values.items()):
        compare.equal(getattr(output, name) is value, True, name=f"attribute {name} is the entry {name!r}")
        _same(compare, _as_tuple(output[position]), _as_tuple(value), f"entry {position} ({name})")
    absent = [name for name in ("loss", "hidden_states", "attentions") if hasattr(output, name) and name not in values]
    compare.equal(
        [name for name in absent if getattr(output, name) is not None], [], name="absent fields that are not None"
    )


@every_class
@with_and_without_states
def test_to_tuple_holds_every_field(clip: Clip, compare: Compare, model_class: str, states: bool) -> None:
    """to_tuple gives the present fields in order, without None, nested outputs as tuples, every element equal."""
    output = CALLS[model_class](clip, **_options(states))
    _same(compare, output.to_tuple(), _as_tuple(output), f"to_tuple of {model_class}'s output")


@every_class
@with_and_without_states
def test_return_dict_false_gives_the_tuple(clip: Clip, compare: Compare, model_class: str, states: bool) -> None:
    """return_dict=False returns the plain tuple that to_tuple gives, in length and every element."""
    observed = CALLS[model_class](clip, return_dict=False, **_options(states))
    expected = _as_tuple(CALLS[model_class](clip, **_options(states)))
    _same(compare, observed, expected, f"{model_class}(return_dict=False)")


@every_class
def test_return_dict_true_is_the_default(clip: Clip, compare: Compare, model_class: str) -> None:
    """return_dict=True returns what the default returns."""
    observed, expected = CALLS[model_class](clip, return_dict=True), CALLS[model_class](clip)
    compare.equal(type(observed).__name__, type(expected).__name__, name=f"{model_class}(return_dict=True)")
    _same(compare, _as_tuple(observed), _as_tuple(expected), f"{model_class}(return_dict=True)")


def test_loss_comes_first(clip: Clip, compare: Compare) -> None:
    """With return_loss the loss is the first field, entry and tuple element, and the others follow unchanged."""
    output = clip.forward(images=3, texts=3, return_loss=True)
    compare.equal(list(output.keys()), ["loss", *FIELDS["CLIPModel"]], name="fields with return_loss")
    compare.equal(output[0], output.loss, name="entry 0 with return_loss")
    _same(compare, output.to_tuple(), _as_tuple(output), "to_tuple with return_loss")
    _same(
        compare,
        clip.forward(images=3, texts=3, return_loss=True, return_dict=False),
        _as_tuple(output),
        "tuple with loss",
    )


def _options(states: bool) -> dict[str, bool]:
    return {"output_hidden_states": True} if states else {}


def _as_tuple(value: Any) -> Any:
    """The expected to_tuple, made from the fields and not by transformers' own method."""
    if hasattr(value, "items"):
        return tuple(_as_tuple(item) for item in present_fields(value).values())
    return value


def _same(compare: Compare, observed: Any, expected: Any, name: str) -> None:
    if hasattr(expected, "items"):
        compare.equal(type(observed).__name__, type(expected).__name__, name=f"type of {name}")
        observed, expected = _as_tuple(observed), _as_tuple(expected)
    if isinstance(expected, tuple):
        compare.equal(type(observed).__name__, "tuple", name=f"type of {name}")
        compare.equal(len(observed), len(expected), name=f"length of {name}")
        for position, (one, other) in enumerate(zip(observed, expected, strict=True)):
            _same(compare, one, other, f"{name}[{position}]")
    else:
        compare.equal(observed, expected, name=name)
