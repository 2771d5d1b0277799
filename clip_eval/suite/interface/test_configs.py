"""Configs made in Python: arguments are kept, saved and loaded; sections in every documented form."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from clip_eval.run.evidence import Evidence
from clip_eval.subject import transformers_module
from clip_eval.subject.observations import Clip
from clip_eval.subject.processors import Processors
from clip_eval.suite._constructors import as_plain, saved_and_loaded
from clip_eval.verdict.compare import Compare
from clip_eval.verdict.deviations import Deviations

pytestmark = pytest.mark.needs("surface")

_TOWER: Mapping[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 36,
    "projection_dim": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "hidden_act": "gelu",
    "layer_norm_eps": 0.125,
    "attention_dropout": 0.25,
    "initializer_range": 0.5,
    "initializer_factor": 2.0,
}
_TEXT: Mapping[str, Any] = {
    **_TOWER,
    "vocab_size": 11,
    "max_position_embeddings": 13,
    "pad_token_id": 3,
    "bos_token_id": 4,
    "eos_token_id": 5,
}
_VISION: Mapping[str, Any] = {**_TOWER, "num_channels": 4, "image_size": 28, "patch_size": 7}
_COMMON: Mapping[str, Any] = {
    "architectures": ["CLIPModel"],
    "id2label": {0: "cat", 1: "dog", 2: "fox"},
    "problem_type": "regression",
    "output_hidden_states": True,
    "return_dict": False,
    "chunk_size_feed_forward": 2,
    "a_field_of_their_own": [1, 2],
}
_WHOLE: Mapping[str, Any] = {"projection_dim": 20, "logit_scale_init_value": 1.5}
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "CLIPTextConfig": {**_TEXT, **_COMMON},
    "CLIPVisionConfig": {**_VISION, **_COMMON},
    "CLIPConfig": {**_WHOLE, **_COMMON},
}
"""Documented arguments, all different from the defaults."""

FORMS = ("both", "text alone", "vision alone")


@pytest.mark.parametrize("name", list(ARGUMENTS))
def test_arguments_are_kept(clip: Clip, compare: Compare, tmp_path: Path, name: str) -> None:
    """Every argument is an attribute of the config, alone or with the others, and is the same after saving and
    loading.
    """
    arguments = ARGUMENTS[name]
    config = clip.processors.construct(name, **arguments)
    again = saved_and_loaded(config, tmp_path)
    for field, value in arguments.items():
        alone = clip.processors.construct(name, **{field: value})
        for how, held in (("alone", alone), ("among others", config), ("saved and loaded", again)):
            compare.equal(getattr(held, field, None), value, name=f"{field} of {name}, {how}")
    compare.equal(int(again.num_labels), 3, name=f"num_labels of {name}, from its id2label")


@pytest.mark.parametrize("form", FORMS)
def test_sections_may_be_configs(clip: Clip, compare: Compare, deviations: Deviations, form: str) -> None:
    """A CLIPConfig with sections as CLIPTextConfig and CLIPVisionConfig, one or both, equals the one made from
    dicts.
    """
    given = _sections(clip.processors, form)
    expected = clip.processors.construct("CLIPConfig", text_config=dict(_TEXT), vision_config=dict(_VISION), **_WHOLE)
    if deviations.hold("sections-must-be-dicts"):
        with pytest.raises(TypeError):
            clip.processors.construct("CLIPConfig", **given, **_WHOLE)
        compare.equal(form in FORMS, True, name=f"{form} as configs is refused with TypeError")
        return
    _expect_sections(
        compare, clip.processors.construct("CLIPConfig", **given, **_WHOLE), expected, f"{form} as configs"
    )


def test_a_config_of_two_towers(clip: Clip, compare: Compare, evidence: Evidence) -> None:
    """CLIPConfig.from_text_vision_configs, where the release has it, makes the config of both sections' fields."""
    if not hasattr(transformers_module().CLIPConfig, "from_text_vision_configs"):
        evidence.not_applicable("this release has no from_text_vision_configs: sections are given to CLIPConfig itself")
    towers = [clip.processors.construct(name, **fields) for name, fields in _TOWERS.items()]
    config = clip.processors.construct("CLIPConfig", *towers, method="from_text_vision_configs", **_WHOLE)
    expected = clip.processors.construct("CLIPConfig", text_config=dict(_TEXT), vision_config=dict(_VISION), **_WHOLE)
    _expect_sections(compare, config, expected, "from_text_vision_configs")


@pytest.mark.parametrize("section", ["text_config", "vision_config"])
def test_a_section_that_is_not_given(clip: Clip, compare: Compare, section: str) -> None:
    """A section that is None or left out has the tower's defaults; the other one stays as it is."""
    name, other = (
        ("CLIPTextConfig", "vision_config") if section == "text_config" else ("CLIPVisionConfig", "text_config")
    )
    fields = dict(_VISION if other == "vision_config" else _TEXT)
    defaults = _fields(clip.processors.construct(name))
    none: dict[str, Any] = {section: None}
    for given in ({}, none):
        sections: dict[str, Any] = {other: fields, **given}
        config = clip.processors.construct("CLIPConfig", **sections)
        compare.equal(type(getattr(config, section)).__name__, name, name=f"type of {section} given as {given}")
        compare.equal(_fields(getattr(config, section)), defaults, name=f"{section} given as {given}")
        for field, value in fields.items():
            compare.equal(getattr(getattr(config, other), field), value, name=f"{other}.{field} beside {given}")


def test_older_sections_are_laid_over(clip: Clip, compare: Compare) -> None:
    """text_config_dict and vision_config_dict of older files override the sections, also with the defaults of fields
    they leave out.
    """
    for section, name, fields in (
        ("text_config", "CLIPTextConfig", _TEXT),
        ("vision_config", "CLIPVisionConfig", _VISION),
    ):
        defaults = clip.processors.construct(name)
        kept = {field: value for field, value in fields.items() if field in ("intermediate_size", "layer_norm_eps")}
        older = {**kept, "id2label": {0: "cat", 1: "dog", 2: "fox"}}
        sections: dict[str, Any] = {section: dict(fields), f"{section}_dict": older}
        config = clip.processors.construct("CLIPConfig", **sections)
        for field in fields:
            expected = kept.get(field, getattr(defaults, field))
            compare.equal(getattr(getattr(config, section), field), expected, name=f"{section}.{field} laid over")
        labels = {int(key): label for key, label in getattr(config, section).id2label.items()}
        compare.equal(labels, older["id2label"], name=f"{section}.id2label laid over")


_TOWERS: Mapping[str, Mapping[str, Any]] = {"CLIPTextConfig": _TEXT, "CLIPVisionConfig": _VISION}


def _sections(processors: Processors, form: str) -> dict[str, Any]:
    text, vision = (processors.construct(name, **fields) for name, fields in _TOWERS.items())
    return {
        "text_config": dict(_TEXT) if form == "vision alone" else text,
        "vision_config": dict(_VISION) if form == "text alone" else vision,
    }


def _expect_sections(compare: Compare, config: Any, expected: Any, name: str) -> None:
    for section, fields in (("text_config", _TEXT), ("vision_config", _VISION), ("", _WHOLE)):
        held = getattr(config, section) if section else config
        for field, value in fields.items():
            compare.equal(getattr(held, field), value, name=f"{section}.{field} of {name}".lstrip("."))
    compare.equal(config.to_dict() == expected.to_dict(), True, name=f"to_dict() of {name} is that of dicts")


def _fields(config: Any) -> dict[str, Any]:
    return {name: as_plain(value) for name, value in config.to_dict().items() if name != "transformers_version"}
