"""What a CLIP's config.json says, checked and complete. Imports nothing but the errors.

Field names, meanings and defaults are those of the documented `CLIPConfig`, `CLIPTextConfig` and `CLIPVisionConfig`
(https://huggingface.co/docs/transformers/model_doc/clip). A default is taken only where a wrong one would be noticed:
sizes are compared with the tensors by `clip_eval.checkpoint`; what no tensor's shape can tell (attention heads, the
end-of-text id of another vocabulary) must be stated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from clip_eval.errors import CheckpointError

__all__ = [
    "ACTIVATIONS",
    "LEGACY_BOS_TOKEN_ID",
    "LEGACY_EOS_TOKEN_ID",
    "ClipConfig",
    "TextConfig",
    "VisionConfig",
    "absent_fields",
    "parse_config",
]

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu", "selu", "silu")
"""The values of `hidden_act` that the oracle can compute: the documented five, and two more that transformers knows."""

LEGACY_EOS_TOKEN_ID = 2
"""What configs say that were written before the end-of-text id was corrected: texts are pooled at their largest id."""

LEGACY_BOS_TOKEN_ID = 0
"""What such configs say of the begin-of-text id. Nothing reads it."""

_TOWERS = ("text_config", "vision_config")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """The text tower. Sizes are counts; `TextConfig()` is the documented default (the text tower of ViT-B/32)."""

    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    vocab_size: int = 49408
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    bos_token_id: int | None = 49406
    eos_token_id: int = 49407
    pad_token_id: int | None = 1
    projection_dim: int = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionConfig:
    """The vision tower. `image_size` and `patch_size` are in pixels; `VisionConfig()` is the documented default."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    image_size: int = 224
    patch_size: int = 32
    num_channels: int = 3
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    projection_dim: int = 512


@dataclass(frozen=True, slots=True)
class ClipConfig:
    """Both towers and what joins them.

    `projection_dim` is the model's own. The towers' fields of that name are read only by the standalone classes with a
    projection, and published checkpoints exist in which they disagree.
    """

    text: TextConfig
    vision: VisionConfig
    projection_dim: int = 512
    logit_scale_init_value: float = 2.6592


def parse_config(raw: Mapping[str, object], *, where: str) -> ClipConfig:
    """The config of a full CLIP from the mapping that config.json holds.

    Args:
        raw: the parsed config.json.
        where: the file's name, for error messages.

    Raises:
        CheckpointError: another architecture, a field of the wrong type or range, or a missing field whose default
            would be a guess.
    """
    _require_clip(raw, where)
    text_stated, vision_stated = (_effective(raw, name, where) for name in _TOWERS)
    text = TextConfig(**_read(TextConfig, text_stated, where, "text_config"))
    vision = VisionConfig(**_read(VisionConfig, vision_stated, where, "vision_config"))
    _check_heads("text_config", text, text_stated, where)
    _check_heads("vision_config", vision, vision_stated, where)
    _check_eos(text, text_stated, where)
    _check_patches(vision, vision_stated, where)
    default = ClipConfig(text, vision)
    return ClipConfig(
        text,
        vision,
        _size(raw.get("projection_dim", default.projection_dim), "projection_dim", where),
        _number(raw.get("logit_scale_init_value", default.logit_scale_init_value), "logit_scale_init_value", where),
    )


def absent_fields(raw: Mapping[str, object]) -> frozenset[str]:
    """Fields that config.json leaves to their defaults, as dotted names such as ``text_config.hidden_size``.

    Args:
        raw: a mapping that `parse_config` accepts.
    """
    absent = {name for name in ("projection_dim", "logit_scale_init_value") if name not in raw}
    for section, kind in (("text_config", TextConfig), ("vision_config", VisionConfig)):
        stated = _effective(raw, section, "config.json")
        absent |= {f"{section}.{field.name}" for field in fields(kind) if field.name not in stated}
    return frozenset(absent)


def _refuse(what: str, where: str, *, fix: str = "Correct it, or copy the checkpoint again") -> NoReturn:
    raise CheckpointError(what, where=where, fix=fix)


def _require_clip(raw: Mapping[str, object], where: str) -> None:
    model_type = raw.get("model_type")
    if model_type == "clip":
        return
    if model_type is None:
        _refuse("the config has no model_type, so nothing says that this is a CLIP", where)
    if model_type in ("clip_text_model", "clip_vision_model"):
        _refuse(f"this is a {model_type} checkpoint, one tower of a CLIP", where, fix="Save the full CLIPModel")
    _refuse(f"this is a {model_type} checkpoint, not a CLIP", where, fix="Name a checkpoint whose model_type is clip")


def _effective(raw: Mapping[str, object], name: str, where: str) -> Mapping[str, object]:
    """The tower's stated fields: in old files `<tower>_config_dict`, where it is not null, replaces all of them."""
    for key in (f"{name}_dict", name):
        value = raw.get(key)
        if isinstance(value, Mapping):
            return value
        if value is not None:
            _refuse(f"{key} is {_shown(value)}, not an object of fields", where)
    _refuse(f"the config has no {name}", where)


def _read(
    kind: type[TextConfig | VisionConfig], values: Mapping[str, object], where: str, section: str
) -> dict[str, Any]:
    stated = [field.name for field in fields(kind) if field.name in values]
    return {name: _READERS.get(name, _size)(values[name], f"{section}.{name}", where) for name in stated}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _size(value: object, name: str, where: str) -> int:
    size = _integer(value)
    if size is None or size < 1:
        _refuse(f"{name} is {_shown(value)}, not a positive integer", where)
    return size


def _token(value: object, name: str, where: str) -> int:
    token = _integer(value)
    if token is None or token < 0:
        _refuse(f"{name} is {_shown(value)}, not a token id", where)
    return token


def _optional_token(value: object, name: str, where: str) -> int | None:
    return None if value is None else _token(value, name, where)


def _number(value: object, name: str, where: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        _refuse(f"{name} is {_shown(value)}, not a finite number", where)
    return float(value)


def _epsilon(value: object, name: str, where: str) -> float:
    epsilon = _number(value, name, where)
    if epsilon <= 0:
        _refuse(f"{name} is {_shown(value)}, not a positive number", where)
    return epsilon


def _activation(value: object, name: str, where: str) -> str:
    if not isinstance(value, str) or value not in ACTIVATIONS:
        _refuse(f"{name} is {_shown(value)}, which is none of {', '.join(ACTIVATIONS)}", where)
    return value


def _check_heads(section: str, tower: TextConfig | VisionConfig, stated: Mapping[str, object], where: str) -> None:
    default = type(tower)()
    if "num_attention_heads" not in stated and tower.hidden_size != default.hidden_size:
        _refuse(
            f"{section} has no num_attention_heads, and its default of {default.num_attention_heads} belongs to a "
            f"hidden_size of {default.hidden_size}, not {tower.hidden_size}",
            where,
            fix="State num_attention_heads: the tensors do not show it",
        )
    if tower.hidden_size % tower.num_attention_heads:
        _refuse(
            f"{section}.hidden_size {_value('hidden_size', tower, stated)} is not a multiple of its "
            f"{tower.num_attention_heads} attention heads",
            where,
        )


def _check_patches(vision: VisionConfig, stated: Mapping[str, object], where: str) -> None:
    if vision.image_size % vision.patch_size:
        image, patch = (_value(name, vision, stated) for name in ("image_size", "patch_size"))
        _refuse(f"vision_config.image_size {image} is not a multiple of patch_size {patch}", where)


def _value(name: str, tower: TextConfig | VisionConfig, stated: Mapping[str, object]) -> str:
    return f"{getattr(tower, name)}" if name in stated else f"(absent, so {getattr(tower, name)})"


def _check_eos(text: TextConfig, stated: Mapping[str, object], where: str) -> None:
    default = TextConfig()
    if "eos_token_id" not in stated and text.vocab_size != default.vocab_size:
        _refuse(
            f"text_config has no eos_token_id, and its default of {default.eos_token_id} belongs to a vocab_size of "
            f"{default.vocab_size}, not {text.vocab_size}",
            where,
            fix="State eos_token_id: texts are pooled where it stands",
        )
    if text.eos_token_id >= text.vocab_size:
        _refuse(
            f"text_config.eos_token_id {text.eos_token_id} is no token of a vocabulary of {text.vocab_size}",
            where,
            fix="State the tokenizer's end-of-text id: texts are pooled where it stands",
        )


_READERS: Mapping[str, Callable[[object, str, str], Any]] = {
    "hidden_act": _activation,
    "layer_norm_eps": _epsilon,
    "bos_token_id": _optional_token,
    "eos_token_id": _token,
    "pad_token_id": _optional_token,
}
