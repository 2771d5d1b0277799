"""Models that users make from a config, to train them: the weights that they begin with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clip_eval.families.roles import CLASSIFIER
from clip_eval.subject.observations import Clip
from clip_eval.subject.tiny_clip import new_model
from clip_eval.verdict import budgets
from clip_eval.verdict.compare import Compare, to_array

pytestmark = pytest.mark.needs("surface")

FACTOR, RANGE = 2.0, 0.25
TEXT_SPREAD = 1 / 50  # of token and position embeddings, before the factor: the same in every release

_TEXT: Mapping[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 300,
    "max_position_embeddings": 40, "projection_dim": 32, "initializer_factor": FACTOR, "initializer_range": RANGE,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
}  # fmt: skip
_VISION: Mapping[str, Any] = {
    "hidden_size": 128, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 40,
    "patch_size": 8, "projection_dim": 32, "initializer_factor": FACTOR, "initializer_range": RANGE,
}  # fmt: skip
_WHOLE: Mapping[str, Any] = {
    "text_config": _TEXT, "vision_config": _VISION, "projection_dim": 32, "logit_scale_init_value": 1.5,
    "num_labels": 24,
}  # fmt: skip
CONFIGS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "CLIPModel": ("CLIPConfig", _WHOLE),
    "CLIPTextModel": ("CLIPTextConfig", _TEXT),
    "CLIPTextModelWithProjection": ("CLIPTextConfig", _TEXT),
    "CLIPVisionModel": ("CLIPVisionConfig", _VISION),
    "CLIPVisionModelWithProjection": ("CLIPVisionConfig", _VISION),
    CLASSIFIER: ("CLIPConfig", _WHOLE),
}


@pytest.mark.parametrize("model_class", list(CONFIGS))
def test_weights_begin_as_their_config_says(clip: Clip, compare: Compare, model_class: str) -> None:
    """A model made from a config has weights around zero with the spread that their place, width, depth and the
    config's initializer fields give; biases are 0, norms are 1.

    A spread that is off trains worse or not at all, and no loaded checkpoint shows it.
    """
    config_class, fields = CONFIGS[model_class]
    model = new_model(clip.subject, model_class, clip.subject.processors.construct(config_class, **fields))
    for kind, values in _kinds(model):
        fixed = _fixed(kind)
        if fixed is not None:
            compare.equal(values, np.full_like(values, fixed), name=f"{kind} of a new {model_class}")
            continue
        whole = config_class == "CLIPConfig"
        # What joins the towers follows the factor of the whole, which a CLIPConfig does not take from its sections.
        factor = 1.0 if whole and ("projection" in kind or "classifier" in kind) else FACTOR
        spread = factor * _spread(kind, text="text" in (kind if whole else model_class).lower())
        means, spreads = budgets.sample(spread, values.size)
        compare.within(np.asarray(values.mean()), np.zeros(()), means, name=f"mean of {kind} of a new {model_class}")
        compare.within(
            np.asarray(values.std()), np.asarray(spread), spreads, name=f"spread of {kind} of a new {model_class}"
        )


def _kinds(model: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """The parameters of a model, those of one kind in all layers together, by the name in the first layer."""
    kinds: dict[str, list[NDArray[Any]]] = {}
    for name, parameter in model.named_parameters():
        parts = ["0" if part.isdecimal() else part for part in name.split(".")]
        kinds.setdefault(".".join(parts), []).append(to_array(parameter.detach()).ravel())
    return ((kind, np.concatenate(values)) for kind, values in kinds.items())  # (values,)


def _fixed(kind: str) -> float | None:
    """The value that a parameter has without any draw."""
    if kind == "logit_scale":
        return float(_WHOLE["logit_scale_init_value"])
    if kind.endswith(".bias"):
        return 0.0
    return 1.0 if "norm" in kind or "layrnorm" in kind else None


def _spread(kind: str, *, text: bool) -> float:
    """The standard deviation of a kind of weights for a factor of 1, as every release since CLIP came to transformers.

    Args:
        kind: as `_kinds` names it.
        text: it is of the text tower, or projects from there.
    """
    tower = _TEXT if text else _VISION
    width, layers = tower["hidden_size"], tower["num_hidden_layers"]
    place = kind.removesuffix(".weight").rpartition(".")[2]
    if place in ("token_embedding", "position_embedding", "patch_embedding"):
        return TEXT_SPREAD if text else RANGE
    if place in ("q_proj", "k_proj", "v_proj", "fc2"):
        return float((2 * width * layers) ** -0.5)
    return float((2 * width) ** -0.5 if place == "fc1" else width**-0.5)
