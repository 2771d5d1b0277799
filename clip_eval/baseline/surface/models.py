"""Loaded models: modules, parameters, buffers and attributes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from clip_eval.baseline.surface.diff import ABSENT
from clip_eval.baseline.surface.formatting import agreed, attempt, spelled
from clip_eval.families.config import TextConfig, VisionConfig
from clip_eval.families.roles import MODEL_CLASSES
from clip_eval.subject.observations import Clip
from clip_eval.verdict.plain_values import Json

__all__ = ["attributes_of", "facts_of", "observe_models"]

_ACTIVATION = ".activation_fn"
_LAYER = re.compile(r"(?<=\.layers\.)\d+(?=\.|$)")
_FACTS = (
    "_no_split_modules",
    "_supports_attention_backend",
    "_supports_flash_attn",
    "_supports_flex_attn",
    "_supports_sdpa",
    "base_model_prefix",
    "config_class",
    "dummy_inputs",
    "generation_config",
    "input_modalities",
    "is_gradient_checkpointing",
    "main_input_name",
    "supports_gradient_checkpointing",
    "training",
)
_ASKED: Mapping[str, Callable[[Any, Clip], str]] = {
    "base_model": lambda model, clip: type(model.base_model).__name__,
    "can_generate()": lambda model, clip: spelled(model.can_generate()),
    "config": lambda model, clip: type(model.config).__name__,
    "device": lambda model, clip: f"{type(model.device).__name__} {model.device.type}",
    "dtype": lambda model, clip: "model" if str(model.dtype) == f"torch.{clip.dtype}" else str(model.dtype),
    "get_input_embeddings()": lambda model, clip: type(model.get_input_embeddings()).__name__,
    "get_output_embeddings()": lambda model, clip: type(model.get_output_embeddings()).__name__,
    "num_parameters()": lambda model, clip: _counted(model),
    "requires_grad": lambda model, clip: _listed({spelled(weight.requires_grad) for weight in model.parameters()}),
    "tensors": lambda model, clip: _listed({type(tensor).__name__ for tensor in model.state_dict().values()}),
}


def observe_models(clip: Clip) -> dict[str, Json]:
    """Return the parts of each model class, by name, and the attributes of all."""
    models = {name: clip.subject.model(name) for name in filter(clip.holds.has, MODEL_CLASSES)}
    entries: dict[str, Json] = {}
    for name, model in models.items():
        names = {clip.family.canonical_name(path, name): None for path, _ in model.named_parameters()}
        entries[f"{name}.state_dict()"] = sorted(_collapsed(clip, name, model.state_dict()))
        entries[f"{name}.parameters()"] = _collapsed(clip, name, names)
        entries[f"{name}.named_modules()[*]"] = _modules(clip, name, model)
    return {**entries, "model.*": facts_of(clip, models), "vars(model)[*]": attributes_of(models)}


def facts_of(clip: Clip, models: Mapping[str, Any]) -> dict[str, Json]:
    """Return properties of models by name: one value if all agree, else each model's."""
    facts: dict[str, Callable[..., str]] = {**{name: partial(_fact, name) for name in _FACTS}, **_ASKED}
    return {
        fact: agreed({name: attempt(ask, model, clip) for name, model in models.items()}) for fact, ask in facts.items()
    }


def _fact(name: str, model: Any, clip: Clip) -> str:
    return spelled(getattr(model, name))


def attributes_of(models: Mapping[str, Any]) -> dict[str, Json]:
    """Return the attributes of instances beside modules, such as projection_dim and logit_scale, by type."""
    held = {name: {**vars(model), **dict(model.named_parameters(recurse=False))} for name, model in models.items()}
    names = {key for values in held.values() for key in values if not key.startswith("_")}
    return {
        key: agreed({name: type(values[key]).__name__ if key in values else ABSENT for name, values in held.items()})
        for key in sorted(names)
    }


def _collapsed(clip: Clip, model_class: str, names: Iterable[str]) -> list[str]:
    """Names in order; one that occurs in every layer is one line, with * for the layer's number."""
    numbers: dict[str, list[str]] = {}
    for name in names:
        numbers.setdefault(_LAYER.sub("*", name, count=1), []).extend(_LAYER.findall(name)[:1])
    collapsed = []
    for name, layers in numbers.items():
        complete = layers in ([], [str(layer) for layer in range(_tower(clip, model_class, name).num_hidden_layers)])
        collapsed.append(name if complete else name.replace("*", f"{{{','.join(layers)}}}", 1))
    return collapsed


def _tower(clip: Clip, model_class: str, name: str) -> TextConfig | VisionConfig:
    """The tower that a weight belongs to: its prefix says so, and where releases leave that out, the class."""
    text, vision = (f"{tower.module}." for tower in (clip.family.text, clip.family.vision))
    is_text = (name if name.startswith((text, vision)) else clip.family.classes[model_class].parts[0]).startswith(text)
    return clip.config.text if is_text else clip.config.vision


def _modules(clip: Clip, model_class: str, model: Any) -> dict[str, Json]:
    """Path to class of every module and buffer; equal layers are one line each."""
    paths: dict[str, list[str]] = {}
    for path, module in (*model.named_modules(), *model.named_buffers()):
        paths.setdefault(type(module).__name__, []).append(path)
    return {
        path or "itself": kind
        for kind, held in sorted(paths.items())
        for path in _collapsed(clip, model_class, held)
        # The config names the activation, so its class is recorded for one model only.
        if model_class == clip.holds.main_class or not path.endswith(_ACTIVATION)
    }


def _counted(model: Any) -> str:
    return "all" if model.num_parameters() == sum(weight.numel() for weight in model.parameters()) else "not all"


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(sorted(texts))
