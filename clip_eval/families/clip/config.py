"""Read a CLIP's config.json into a checked and complete config.

Field names, meanings and defaults are those of the documented `CLIPConfig`, `CLIPTextConfig` and `CLIPVisionConfig`
(https://huggingface.co/docs/transformers/model_doc/clip). Values are taken by the loading rules of transformers,
the same from 4.57 to 5.23. In `CLIPModel`, `text_config_dict`, if present, with the defaults of what it leaves out,
overrides `text_config`; a class of one tower reads `text_config` alone. The same holds for the vision tower.

config.json of a tower alone has that tower's fields at its top, with the model_type of the tower; a file with sections
is read, too, by their own rule.

A default is used only if a wrong one would be noticed: `clip_eval.checkpoint.checkpoint` compares sizes with the
tensors; attention heads, which no tensor's shape shows, must be stated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, NoReturn

from clip_eval.errors import CheckpointError
from clip_eval.families.config import (
    ABSENT_TEXT,
    ABSENT_VISION,
    ACTIVATIONS,
    ClipConfig,
    TextConfig,
    VisionConfig,
    shown,
)

__all__ = [
    "absent_fields",
    "label_count",
    "parse_config",
    "parse_tower",
    "reading_notes",
    "standalone_text",
    "standalone_vision",
]

_TEXT, _VISION = "text_config", "vision_config"
_MODEL_TYPES = {_TEXT: "clip_text_model", _VISION: "clip_vision_model"}
_CLASSES = {
    _TEXT: "CLIPTextModel and CLIPTextModelWithProjection",
    _VISION: "CLIPVisionModel and CLIPVisionModelWithProjection",
}

# No tensor has a longer axis, and products of such sizes still print fast.
_LARGEST = 2**40


def parse_config(raw: Mapping[str, object], *, where: str) -> ClipConfig:
    """The config that `CLIPModel` runs with, from the mapping that config.json holds; of a tower's own, the tower's.

    Args:
        raw: the parsed config.json.
        where: the file's name, for error messages.

    Raises:
        CheckpointError: another architecture, a field of the wrong type or range, or a missing field whose default
            would be a guess.
    """
    _require_clip(raw, where)
    if (own := _own_section(raw)) is not None:
        return parse_tower(raw, texts=own == _TEXT, where=where)
    text_stated, vision_stated = (_nested(raw, section, where) for section in (_TEXT, _VISION))
    text = TextConfig(**_read(TextConfig, text_stated, where, _TEXT))
    vision = VisionConfig(**_read(VisionConfig, vision_stated, where, _VISION))
    _check_heads(_TEXT, text, text_stated, where)
    _check_heads(_VISION, vision, vision_stated, where)
    _check_eos(_TEXT, text, text_stated, where)
    _check_patches(_VISION, vision, vision_stated, where)
    default = ClipConfig(text, vision)
    return ClipConfig(
        text,
        vision,
        _size(raw.get("projection_dim", default.projection_dim), "projection_dim", where),
        _number(raw.get("logit_scale_init_value", default.logit_scale_init_value), "logit_scale_init_value", where),
    )


def parse_tower(raw: Mapping[str, object], *, texts: bool, where: str) -> ClipConfig:
    """The config of a checkpoint of one tower, as the classes of one tower read it; the other is a stand-in.

    Args:
        raw: the parsed config.json: a tower's own, or one with a section for each tower.
        texts: whether it is the text tower.
        where: the file's name, for error messages.

    Raises:
        CheckpointError: as `parse_config`.
    """
    if texts:
        text = standalone_text(raw, where=where)
        _check_eos(_label(raw, _TEXT), text, _alone(raw, _TEXT, where), where)
        return ClipConfig(text, ABSENT_VISION, text.projection_dim)
    vision = standalone_vision(raw, where=where)
    _check_patches(_label(raw, _VISION), vision, _alone(raw, _VISION, where), where)
    return ClipConfig(ABSENT_TEXT, vision, vision.projection_dim)


def label_count(raw: Mapping[str, object], *, where: str) -> int:
    """The number of labels of an image classifier: of the names in id2label, else num_labels, else 2.

    Source: https://huggingface.co/docs/transformers/main_classes/configuration.

    Raises:
        CheckpointError: num_labels is no count.
    """
    names = raw.get("id2label")
    if isinstance(names, Mapping):
        return len(names)
    return _size(raw.get("num_labels", 2), "num_labels", where)


def standalone_text(raw: Mapping[str, object], *, where: str) -> TextConfig:
    """The text tower's config as `CLIPTextModel` and `CLIPTextModelWithProjection` read it from a full CLIP's file.

    Its `projection_dim` is what the second class projects to; `CLIPModel` projects to its own.

    Args:
        raw: a mapping that `parse_config` accepts.
        where: the file's name, for error messages.

    Raises:
        CheckpointError: these classes cannot read it.
    """
    stated = _alone(raw, _TEXT, where)
    text = TextConfig(**_read(TextConfig, stated, where, _label(raw, _TEXT)))
    _check_heads(_label(raw, _TEXT), text, stated, where)
    return text


def standalone_vision(raw: Mapping[str, object], *, where: str) -> VisionConfig:
    """The same of the vision tower, for `CLIPVisionModel` and `CLIPVisionModelWithProjection`.

    Raises:
        CheckpointError: these classes cannot read it.
    """
    stated = _alone(raw, _VISION, where)
    vision = VisionConfig(**_read(VisionConfig, stated, where, _label(raw, _VISION)))
    _check_heads(_label(raw, _VISION), vision, stated, where)
    return vision


def absent_fields(raw: Mapping[str, object]) -> frozenset[str]:
    """Fields that config.json leaves to their defaults, as dotted names such as ``text_config.hidden_size``.

    Args:
        raw: a mapping that `parse_config` accepts.
    """
    kinds: dict[str, type[TextConfig | VisionConfig]] = {_TEXT: TextConfig, _VISION: VisionConfig}
    if (own := _own_section(raw)) is not None:
        stated = _alone(raw, own, "config.json")
        return frozenset(field.name for field in fields(kinds[own]) if field.name not in stated)
    absent = {name for name in ("projection_dim", "logit_scale_init_value") if name not in raw}
    for section, kind in kinds.items():
        stated = _nested(raw, section, "config.json")
        absent |= {f"{section}.{field.name}" for field in fields(kind) if field.name not in stated}
    return frozenset(absent)


def reading_notes(raw: Mapping[str, object], *, where: str) -> tuple[str, ...]:
    """Sentences for reports on values in effect that differ from what the file seems to say.

    Args:
        raw: a mapping that `parse_config` accepts.
        where: the file's name, for the sentences.
    """
    config, own = parse_config(raw, where=where), _own_section(raw)
    if own is not None:
        return _pooling_notes(config.text, _alone(raw, _TEXT, where), where) if own == _TEXT else ()
    notes = [*_tower_notes(raw, _TEXT, config.text, where), *_tower_notes(raw, _VISION, config.vision, where)]
    return (*notes, *_pooling_notes(config.text, _nested(raw, _TEXT, where), f"{where}: {_TEXT}"))


def _pooling_notes(text: TextConfig, stated: Mapping[str, object], where: str) -> tuple[str, ...]:
    if "eos_token_id" in stated or text.vocab_size == TextConfig().vocab_size:
        return ()
    return (
        f"{where} has no eos_token_id, so texts are pooled at its default, {text.eos_token_id}, in a vocabulary of "
        f"{text.vocab_size} tokens.",
    )


def _tower_notes(
    raw: Mapping[str, object], section: str, nested: TextConfig | VisionConfig, where: str
) -> tuple[str, ...]:
    if raw.get(section) is None and raw.get(f"{section}_dict") is None:
        state = "null" if section in raw else "absent"
        return (f"{where}: {section} is {state}, so CLIPModel takes the default of each of its fields.",)
    try:
        alone = (standalone_text if section == _TEXT else standalone_vision)(raw, where=where)
    except CheckpointError as problem:
        return (f"{where}: {_CLASSES[section]} read {section} alone, and cannot: {problem.what}.",)
    names = [name.name for name in fields(nested) if getattr(nested, name.name) != getattr(alone, name.name)]
    if not names:
        return ()
    stated = _alone(raw, section, where)
    here = _listed([f"{name} {_value(name, alone, stated)}" for name in names])
    there = _listed([f"{getattr(nested, name)}" for name in names])
    return (
        f"{where}: {section} says {here}, and CLIPModel runs with {there}, since {section}_dict is laid over it "
        f"with the defaults of what it leaves out; {_CLASSES[section]} read {section} alone.",
    )


def _listed(parts: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _refuse(what: str, where: str, *, fix: str = "Correct it, or copy the checkpoint again") -> NoReturn:
    raise CheckpointError(what, where=where, fix=fix)


def _require_clip(raw: Mapping[str, object], where: str) -> None:
    model_type = raw.get("model_type")
    if model_type == "clip" or model_type in _MODEL_TYPES.values():
        return
    if model_type is None:
        fix = 'Add "model_type": "clip" to it if it is one'
        _refuse("the config has no model_type, so it is not known to be a CLIP", where, fix=fix)
    kind = model_type if isinstance(model_type, str) and model_type.replace("-", "_").isidentifier() else None
    name = kind if kind and len(kind) <= 40 else shown(model_type)
    _refuse(f"this is a {name} checkpoint, not a CLIP", where, fix="Name a checkpoint whose model_type is clip")


def _own_section(raw: Mapping[str, object]) -> str | None:
    """The section whose fields a tower's own config.json holds at its top; None for a file with sections."""
    return next((section for section, kind in _MODEL_TYPES.items() if raw.get("model_type") == kind), None)


def _label(raw: Mapping[str, object], section: str) -> str:
    """What messages put before a tower's fields: the section; nothing where the file is the tower's own."""
    return "" if _own_section(raw) == section else section


def _dotted(label: str, name: str) -> str:
    return f"{label}.{name}" if label else name


def _nested(raw: Mapping[str, object], section: str, where: str) -> Mapping[str, object]:
    """The tower's stated fields as `CLIPModel` takes them; a field that is not among them has its default.

    `{section}_dict` is a whole config of the tower's class, so it overrides every field known here. Without it and the
    section every field has its default.
    """
    below, above = _fields(raw, section, where), _fields(raw, f"{section}_dict", where)
    return (below or {}) if above is None else above


def _alone(raw: Mapping[str, object], section: str, where: str) -> Mapping[str, object]:
    """The tower's stated fields as its standalone classes take them.

    From a file without the section they read a nested object of their model_type, or else the whole file.
    """
    if section in raw and _fields(raw, section, where) is None:
        _refuse(f"{section} is null", where)
    chosen = _fields(raw, section, where) or ({} if section in raw else raw)
    own = _MODEL_TYPES[section]
    if chosen.get("model_type", own) != own:
        nested = [value for value in chosen.values() if isinstance(value, Mapping) and value.get("model_type") == own]
        chosen = nested[-1] if nested else chosen
    return chosen


def _fields(raw: Mapping[str, object], key: str, where: str) -> Mapping[str, object] | None:
    value = raw.get(key)
    if value is not None and not isinstance(value, Mapping):
        _refuse(f"{key} is {shown(value)}, not an object of fields", where)
    return value


def _read(
    kind: type[TextConfig | VisionConfig], values: Mapping[str, object], where: str, section: str
) -> dict[str, Any]:
    stated = [field.name for field in fields(kind) if field.name in values]
    return {name: _READERS.get(name, _size)(values[name], _dotted(section, name), where) for name in stated}


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _size(value: object, name: str, where: str) -> int:
    size = _integer(value)
    if size is None or not 1 <= size <= _LARGEST:
        _refuse(f"{name} is {shown(value)}, not a positive integer{_digits(size)}", where)
    return size


def _token(value: object, name: str, where: str) -> int:
    token = _integer(value)
    if token is None or not 0 <= token <= _LARGEST:
        _refuse(f"{name} is {shown(value)}, not a token id{_digits(token)}", where)
    return token


def _unread_token(value: object, name: str, where: str) -> int | None:
    """An id that no model reads: any integer is valid, such as the -1 of other libraries."""
    token = _integer(value)
    if value is not None and (token is None or abs(token) > _LARGEST):
        _refuse(f"{name} is {shown(value)}, not a token id{_digits(token)}", where)
    return token


def _digits(number: int | None) -> str:
    return "" if number is None or abs(number) <= _LARGEST else f" of at most {len(str(_LARGEST))} digits"


def _number(value: object, name: str, where: str) -> float:
    try:
        number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        _refuse(f"{name} is {shown(value)}, not a finite number", where)
    return number


def _epsilon(value: object, name: str, where: str) -> float:
    epsilon = _number(value, name, where)
    if epsilon <= 0 or not isinstance(value, float):
        _refuse(f"{name} is {shown(value)}, not a positive floating-point number, such as 1e-5", where)
    return epsilon


def _activation(value: object, name: str, where: str) -> str:
    if not isinstance(value, str) or value not in ACTIVATIONS:
        _refuse(f"{name} is {shown(value)}, not one of {', '.join(ACTIVATIONS)}", where)
    return value


def _check_heads(section: str, tower: TextConfig | VisionConfig, stated: Mapping[str, object], where: str) -> None:
    default = type(tower)()
    if "num_attention_heads" not in stated and tower.hidden_size != default.hidden_size:
        _refuse(
            f"{section or 'the config'} has no num_attention_heads, and its default of {default.num_attention_heads} "
            f"belongs to a hidden_size of {default.hidden_size}, not {tower.hidden_size}",
            where,
            fix="State num_attention_heads: the tensors do not show it",
        )
    if tower.hidden_size % tower.num_attention_heads:
        _refuse(
            f"{_dotted(section, 'hidden_size')} {_value('hidden_size', tower, stated)} is not a multiple of its "
            f"{tower.num_attention_heads} attention heads",
            where,
        )


def _check_patches(section: str, vision: VisionConfig, stated: Mapping[str, object], where: str) -> None:
    if vision.image_size < vision.patch_size:
        image, patch = (_value(name, vision, stated) for name in ("image_size", "patch_size"))
        _refuse(f"{_dotted(section, 'image_size')} {image} is smaller than patch_size {patch}: no patch fits", where)


def _value(name: str, tower: TextConfig | VisionConfig, stated: Mapping[str, object]) -> str:
    return f"{getattr(tower, name)}" if name in stated else f"(absent, so {getattr(tower, name)})"


def _check_eos(section: str, text: TextConfig, stated: Mapping[str, object], where: str) -> None:
    if text.eos_token_id >= text.vocab_size:
        _refuse(
            f"{_dotted(section, 'eos_token_id')} {_value('eos_token_id', text, stated)} is not in a vocabulary of "
            f"vocab_size {_value('vocab_size', text, stated)}",
            where,
            fix="State the tokenizer's end-of-text id: texts are pooled where it stands",
        )


_READERS: Mapping[str, Callable[[object, str, str], Any]] = {
    "hidden_act": _activation,
    "layer_norm_eps": _epsilon,
    "bos_token_id": _unread_token,
    "eos_token_id": _token,
    "pad_token_id": _unread_token,
}
