"""Configs as users read and make them: attributes with defaults, content of to_dict, refused values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clip_eval.baseline.surface.formatting import attempt, kept_apart, members, spelled
from clip_eval.subject import transformers_module
from clip_eval.subject.observations import Clip
from clip_eval.verdict.plain_values import Json

__all__ = ["flat", "observe_configs"]

_CLASSES = ("CLIPConfig", "CLIPTextConfig", "CLIPVisionConfig")
_BASE = "PretrainedConfig"
_RELEASE = "transformers_version"
_ARGUMENTS: Mapping[str, Mapping[str, object]] = {
    "an unknown name": {"no_such_field": 1},
    "a width as text": {"hidden_size": "512"},
    "a width as a float": {"hidden_size": 512.0},
    "a width that heads do not divide": {"hidden_size": 510},
    "an unknown activation": {"hidden_act": "no_such_activation"},
    "a width of None": {"hidden_size": None},
    "output_attentions": {"output_attentions": True},
    "return_dict": {"return_dict": False},
    "torch_dtype": {"torch_dtype": "float16"},
    "dtype": {"dtype": "float16"},
    "num_labels": {"num_labels": 3},
    "attn_implementation": {"attn_implementation": "eager"},
}


def observe_configs(clip: Clip) -> dict[str, Json]:
    """Return what configs made from their defaults offer. Nothing depends on the checkpoint: its config is compared."""
    made = {name: getattr(transformers_module(), name)() for name in _CLASSES}
    plain = transformers_module("configuration_utils").PretrainedConfig()
    base, written = members(plain), _written(plain)
    hub = members(transformers_module("utils.hub").PushToHubMixin)
    entries: dict[str, Json] = {
        f"{_BASE}().*": _without_release(kept_apart(base, hub)),
        f"{_BASE}().to_dict()[*]": written,
    }
    for name, config in made.items():
        entries[f"{name}().*"] = kept_apart(members(config), base)
        entries[f"{name}().to_dict()[*]"] = kept_apart(_written(config), written)
    entries["CLIPTextConfig(arguments).*"] = {what: attempt(_made, values) for what, values in _ARGUMENTS.items()}
    return entries


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested mappings by dotted key, without the version of the release."""
    entries: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            entries |= {f"{key}.{inner}": item for inner, item in flat(value).items()}
        elif key != _RELEASE:
            entries[key] = value
    return entries


def _written(config: Any) -> dict[str, Json]:
    return {key: spelled(value) for key, value in flat(config.to_dict()).items()}


def _without_release(entries: dict[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in entries.items() if name != _RELEASE}


def _made(values: Mapping[str, object]) -> str:
    config = transformers_module().CLIPTextConfig(**values)
    return ", ".join(f"{name}={spelled(getattr(config, name))}" for name in values)
