"""output_hidden_states and output_attentions: off, on, each tower alone and inside CLIPModel, default and eager
attention.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from clip_eval.families.config import TextConfig, VisionConfig
from clip_eval.oracle.expected.fields import ExpectedTower
from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.subject.observations import Clip
from clip_eval.verdict.compare import Compare
from clip_eval.verdict.deviations import Deviations

TEXTS, IMAGES = 5, 3

pytestmark = pytest.mark.needs("options")

ROUTES: dict[str, Callable[..., Any]] = {
    "CLIPModel.text": lambda clip, **options: clip.forward(images=IMAGES, texts=TEXTS, **options).text_model_output,
    "CLIPModel.vision": lambda clip, **options: clip.forward(images=IMAGES, texts=TEXTS, **options).vision_model_output,
    "CLIPTextModel": lambda clip, **options: clip.text_model(texts=TEXTS, **options),
    "CLIPVisionModel": lambda clip, **options: clip.vision_model(images=IMAGES, **options),
    "CLIPTextModelWithProjection": lambda clip, **options: clip.text_model_with_projection(texts=TEXTS, **options),
    "CLIPVisionModelWithProjection": lambda clip, **options: clip.vision_model_with_projection(
        images=IMAGES, **options
    ),
}

every_route = pytest.mark.parametrize("route", list(ROUTES))
every_attention = pytest.mark.parametrize(
    "attention", [None, pytest.param("eager", marks=pytest.mark.needs("attention"))], ids=["default", "eager"]
)


@pytest.mark.shallow
@every_route
def test_off_by_default(clip: Clip, compare: Compare, route: str) -> None:
    """Without options, and with both options False, hidden states and attention maps are None."""
    for options in ({}, {"output_hidden_states": False, "output_attentions": False}):
        output = ROUTES[route](clip, **options)
        for name in ("hidden_states", "attentions"):
            compare.equal(output.get(name) is None, True, name=f"{route} {name} is None with {options}")


@every_route
@every_attention
def test_hidden_states_are_the_residual_stream(
    clip: Clip, oracle: Oracle, compare: Compare, deviations: Deviations, route: str, attention: str | None
) -> None:
    """output_hidden_states gives layers + 1 entries: the input of the first layer, then each layer's output, every
    element right.
    """
    states = ROUTES[route](clip, output_hidden_states=True, attention=attention).hidden_states
    if route.startswith("CLIPModel.") and deviations.hold("nested-states-missing"):
        compare.equal(states, None, name=f"{route} hidden_states")
        return
    expected = _expected(oracle, route).hidden_states
    _count(compare, states, len(expected), f"{route} hidden_states")
    for index, (observed, value) in enumerate(zip(states, expected, strict=True)):
        compare.close(
            observed,
            value,
            name=f"{route} hidden_states[{index}]",
            where=_states_that_count(clip, route),
            module=_module(route, index),
        )


@every_route
def test_first_and_last_hidden_states(
    clip: Clip, compare: Compare, oracle: Oracle, deviations: Deviations, route: str
) -> None:
    """The last entry is last_hidden_state for images; for texts final_layer_norm of it is last_hidden_state."""
    output = ROUTES[route](clip, output_hidden_states=True)
    if route.startswith("CLIPModel.") and deviations.hold("nested-states-missing"):
        compare.equal(output.hidden_states, None, name=f"{route} hidden_states")
        return
    if _is_text(route):
        compare.close(
            output.last_hidden_state,
            _expected(oracle, route).last_hidden_state,
            name=f"{route} last_hidden_state",
            where=_states_that_count(clip, route),
            module="text_model.final_layer_norm",
        )
        return
    compare.equal(output.hidden_states[-1], output.last_hidden_state, name=f"{route} hidden_states[-1]")


@pytest.mark.shallow
@every_route
@every_attention
def test_asking_for_states_changes_nothing(clip: Clip, compare: Compare, route: str, attention: str | None) -> None:
    """Requesting hidden states and attention maps leaves last_hidden_state and the pooled or projected output
    unchanged.
    """
    plain = ROUTES[route](clip, attention=attention)
    asked = ROUTES[route](clip, output_hidden_states=True, attention=attention)
    compare.equal([name for name in asked if name != "hidden_states"], list(plain.keys()), name=f"{route} fields")
    for name in plain:
        compare.equal(asked[name], plain[name], name=f"{route} {name} with hidden states")


@pytest.mark.needs("attention")
@every_route
def test_attentions_are_the_softmax_maps(
    clip: Clip, oracle: Oracle, compare: Compare, deviations: Deviations, route: str
) -> None:
    """Under eager attention output_attentions gives one map (rows, heads, query, key) a layer, every element right."""
    maps = ROUTES[route](clip, output_attentions=True, attention="eager").attentions
    if route.startswith("CLIPModel.") and deviations.hold("nested-states-missing"):
        compare.equal(maps, None, name=f"{route} attentions")
        return
    expected = _expected(oracle, route).attentions
    _count(compare, maps, len(expected), f"{route} attentions")
    for layer, (observed, value) in enumerate(zip(maps, expected, strict=True)):
        compare.close(
            observed,
            value,
            name=f"{route} attentions[{layer}]",
            where=_maps_that_count(clip, route),
            module=f"{_tower(route)}.encoder.layers.{layer}.self_attn",
        )


@pytest.mark.shallow
@every_route
def test_attentions_under_the_default_implementation(
    clip: Clip, oracle: Oracle, compare: Compare, deviations: Deviations, route: str
) -> None:
    """output_attentions gives one map a layer whatever the attention implementation."""
    maps = ROUTES[route](clip, output_attentions=True).attentions
    nested = route.startswith("CLIPModel.")
    if nested and deviations.hold("nested-states-missing"):
        compare.equal(maps, None, name=f"{route} attentions")
    elif deviations.hold("sdpa-attentions-are-none-entries", attention=clip.attention):
        compare.equal(maps, (None,) * _layers(clip, route), name=f"{route} attentions")
    elif deviations.hold("sdpa-attentions-are-none", attention=clip.attention):
        compare.equal(maps, None, name=f"{route} attentions")
    elif deviations.hold("sdpa-attentions-are-empty", attention=clip.attention):
        compare.equal(maps, (), name=f"{route} attentions")
    else:
        expected = _expected(oracle, route).attentions
        _count(compare, maps, len(expected), f"{route} attentions")
        for layer, (observed, value) in enumerate(zip(maps, expected, strict=True)):
            compare.close(observed, value, name=f"{route} attentions[{layer}]", where=_maps_that_count(clip, route))


@pytest.mark.shallow
@every_route
def test_attentions_leave_states_alone(
    clip: Clip, oracle: Oracle, compare: Compare, deviations: Deviations, route: str
) -> None:
    """With both options on, hidden states are the residual stream under the default attention implementation too."""
    both = ROUTES[route](clip, output_hidden_states=True, output_attentions=True).hidden_states
    if route.startswith("CLIPModel.") and deviations.hold("nested-states-missing"):
        compare.equal(both, None, name=f"{route} hidden_states")
        return
    expected = _expected(oracle, route).hidden_states
    _count(compare, both, len(expected), f"{route} hidden_states with attentions")
    for index, (observed, value) in enumerate(zip(both, expected, strict=True)):
        compare.close(
            observed,
            value,
            name=f"{route} hidden_states[{index}] with attentions",
            where=_states_that_count(clip, route),
            module=_module(route, index),
        )


def _count(compare: Compare, entries: Any, expected: int, name: str) -> None:
    compare.equal(type(entries).__name__, "tuple", name=f"type of {name}")
    compare.equal(len(entries), expected, name=f"number of {name}")


def _is_text(route: str) -> bool:
    return "text" in route.lower()


def _tower(route: str) -> str:
    return "text_model" if _is_text(route) else "vision_model"


def _module(route: str, index: int) -> str:
    """The module whose output is hidden state `index`."""
    if index:
        return f"{_tower(route)}.encoder.layers.{index - 1}"
    return "text_model.embeddings" if _is_text(route) else "vision_model.pre_layrnorm"


def _layers(clip: Clip, route: str) -> int:
    tower: TextConfig | VisionConfig = clip.config.text if _is_text(route) else clip.config.vision
    return tower.num_hidden_layers


def _expected(oracle: Oracle, route: str) -> ExpectedTower:
    oracle = oracle.of(route.partition(".")[0])
    return oracle.text(texts=TEXTS) if _is_text(route) else oracle.vision(images=IMAGES)


def _states_that_count(clip: Clip, route: str) -> Any:
    return clip.real(TEXTS)[:, :, None] if _is_text(route) else None  # (texts, tokens, 1)


def _maps_that_count(clip: Clip, route: str) -> Any:
    return clip.real(TEXTS)[:, None, :, None] if _is_text(route) else None  # (texts, 1, query, 1)
