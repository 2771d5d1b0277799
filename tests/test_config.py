"""config.json: documented defaults, what the installed transformers writes, and what is refused."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from small_clip import small_config

from clip_eval.config import ACTIVATIONS, ClipConfig, TextConfig, VisionConfig, absent_fields, parse_config
from clip_eval.errors import CheckpointError
from clip_eval.oracle import arithmetic


def raw_config(**changes: Any) -> dict[str, Any]:
    """A config.json of the small CLIP; `text_config` and `vision_config` are updated field by field."""
    return {"model_type": "clip", **small_config(**changes)}


def without(raw: dict[str, Any], dotted: str) -> dict[str, Any]:
    """The config without one field, named as `section.field` or `field`."""
    *section, name = dotted.split(".")
    target = raw[section[0]] if section else raw
    del target[name]
    return raw


def refusal(raw: dict[str, Any]) -> str:
    """The message with which a config is refused."""
    with pytest.raises(CheckpointError) as caught:
        parse_config(raw, where="some/config.json")
    return str(caught.value)


def test_defaults_are_the_librarys() -> None:
    """Every default equals that of the installed transformers."""
    from transformers import CLIPConfig

    library = CLIPConfig()
    for ours, theirs in ((TextConfig(), library.text_config), (VisionConfig(), library.vision_config)):
        observed = {field.name: getattr(ours, field.name) for field in fields(ours)}
        assert observed == {name: getattr(theirs, name) for name in observed}
    default = ClipConfig(TextConfig(), VisionConfig())
    assert default.projection_dim == library.projection_dim
    assert default.logit_scale_init_value == library.logit_scale_init_value


def test_empty_towers_are_the_defaults() -> None:
    """A config with nothing but its model type and two empty towers is the documented default, all fields absent."""
    raw = {"model_type": "clip", "text_config": {}, "vision_config": {}}
    assert parse_config(raw, where="") == ClipConfig(TextConfig(), VisionConfig())
    assert absent_fields(raw) >= {"projection_dim", "text_config.vocab_size", "vision_config.patch_size"}


def test_saved_config_is_read_back(tmp_path: Path) -> None:
    """What the installed transformers saves gives the values it was made from, whichever fields it leaves out."""
    from transformers import CLIPConfig

    CLIPConfig(**small_config()).save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    observed, expected = parse_config(raw, where=""), small_config()
    assert {name: getattr(observed.text, name) for name in expected["text_config"]} == expected["text_config"]
    assert {name: getattr(observed.vision, name) for name in expected["vision_config"]} == expected["vision_config"]
    assert observed.projection_dim == expected["projection_dim"]


def test_saved_default_config_is_read_back(tmp_path: Path) -> None:
    """Token ids that equal the defaults are left out by transformers 4: they are not missing."""
    from transformers import CLIPConfig

    CLIPConfig().save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert parse_config(raw, where="") == ClipConfig(TextConfig(), VisionConfig())


def test_config_dict_of_old_files_replaces_the_tower() -> None:
    """Where text_config_dict is not null, text_config is not read, as in every release of transformers."""
    from transformers import CLIPConfig

    raw = raw_config(text_config_dict={"num_hidden_layers": 3}, vision_config_dict=None)
    observed = parse_config(raw, where="")
    assert observed.text == TextConfig(num_hidden_layers=3)
    assert observed.vision.num_hidden_layers == 3
    library = CLIPConfig(**{key: value for key, value in raw.items() if key != "model_type"}).text_config
    assert observed.text.hidden_size == library.hidden_size
    assert observed.text.num_hidden_layers == library.num_hidden_layers


def test_legacy_end_of_text_is_kept() -> None:
    """The legacy id 2 is a statement about pooling and must arrive unchanged."""
    assert parse_config(raw_config(text_config={"eos_token_id": 2}), where="").text.eos_token_id == 2


def test_activations_are_the_oracles() -> None:
    """A config is accepted for exactly the activations that the oracle computes."""
    assert set(ACTIVATIONS) == set(arithmetic.ACTIVATIONS)


def test_absent_fields_are_named() -> None:
    """A field counts as absent only where no default was stated either."""
    raw = without(raw_config(), "vision_config.patch_size")
    assert "vision_config.patch_size" in absent_fields(raw)
    assert "vision_config.image_size" not in absent_fields(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"model_type": "siglip"}, "this is a siglip checkpoint, not a CLIP"),
        ({"model_type": "clip_text_model"}, "one tower of a CLIP"),
        ({}, "no model_type"),
        (without(raw_config(), "text_config"), "no text_config"),
        (without(raw_config(), "vision_config"), "no vision_config"),
        (raw_config() | {"text_config": 3}, "text_config is 3, not an object"),
        (without(raw_config(), "text_config.num_attention_heads"), "text_config has no num_attention_heads"),
        (without(raw_config(), "vision_config.num_attention_heads"), "vision_config has no num_attention_heads"),
        (without(raw_config(), "text_config.eos_token_id"), "text_config has no eos_token_id"),
        (raw_config(text_config={"eos_token_id": 9999}), "eos_token_id 9999 is no token of a vocabulary of 524"),
        (raw_config(text_config={"eos_token_id": None}), "eos_token_id is None, not a token id"),
        (raw_config(text_config={"eos_token_id": [1, 2]}), "eos_token_id is [1, 2], not a token id"),
        (raw_config(text_config={"pad_token_id": -1}), "pad_token_id is -1, not a token id"),
        (raw_config(text_config={"hidden_size": -32}), "hidden_size is -32, not a positive integer"),
        (raw_config(text_config={"hidden_size": 32.0}), "hidden_size is 32.0, not a positive integer"),
        (raw_config(text_config={"num_hidden_layers": True}), "num_hidden_layers is True, not a positive integer"),
        (raw_config(text_config={"hidden_size": 30}), "hidden_size 30 is not a multiple of its 4 attention heads"),
        (raw_config(vision_config={"image_size": 30}), "image_size 30 is not a multiple of patch_size 8"),
        (
            without(raw_config(text_config={"num_attention_heads": 5}), "text_config.hidden_size"),
            "hidden_size (absent, so 512)",
        ),
        (
            without(raw_config(vision_config={"patch_size": 30}), "vision_config.image_size"),
            "image_size (absent, so 224)",
        ),
        (raw_config(vision_config={"image_size": [32, 32]}), "image_size is [32, 32], not a positive integer"),
        (raw_config(vision_config={"hidden_act": "gelo"}), "hidden_act is 'gelo', which is none of"),
        (raw_config(vision_config={"layer_norm_eps": 0}), "layer_norm_eps is 0, not a positive number"),
        (raw_config(vision_config={"layer_norm_eps": "1e-5"}), "layer_norm_eps is '1e-5', not a finite number"),
        (raw_config(projection_dim=None), "projection_dim is None, not a positive integer"),
        (raw_config(logit_scale_init_value=float("nan")), "logit_scale_init_value is nan, not a finite number"),
    ],
)
def test_nonsense_is_refused(raw: dict[str, Any], expected: str) -> None:
    """A config that cannot be meant is refused in one paragraph that names the field and the file."""
    message = refusal(raw)
    assert expected in message
    assert "some/config.json" in message
    assert "\n" not in message
