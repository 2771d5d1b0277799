"""config.json: documented defaults, what the installed transformers writes, and what is refused."""

from __future__ import annotations

import json
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small_clip import small_config

from clip_eval.errors import CheckpointError
from clip_eval.families.clip.config import (
    absent_fields,
    parse_config,
    reading_notes,
    standalone_text,
    standalone_vision,
)
from clip_eval.families.config import ACTIVATIONS, ClipConfig, TextConfig, VisionConfig, shown
from clip_eval.families.reference import arithmetic
from clip_eval.subject import quiet


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


def test_config_dict_of_old_files_is_laid_over_the_tower() -> None:
    """text_config_dict is laid over text_config with defaults for the rest; null and absent ones change nothing."""
    raw = raw_config(text_config_dict={"num_hidden_layers": 3}, vision_config_dict=None)
    observed = parse_config(raw, where="")
    assert observed.text == TextConfig(num_hidden_layers=3)
    assert observed.vision.num_hidden_layers == 3


def test_end_of_text_of_the_sections_differs_as_in_openai_l14() -> None:
    """CLIPModel pools at 49407 and the standalone tower by the legacy rule, and a note says so with all values."""
    text = {"bos_token_id": 0, "eos_token_id": 2, "vocab_size": 49408}
    raw = raw_config(text_config=text)
    raw["text_config_dict"] = {name: value for name, value in raw["text_config"].items() if name not in text}
    assert parse_config(raw, where="").text.eos_token_id == 49407
    assert standalone_text(raw, where="").eos_token_id == 2
    (note,) = reading_notes(raw, where="config.json")
    assert (
        "config.json: text_config says bos_token_id 0 and eos_token_id 2, and CLIPModel runs with 49406 and 49407"
        in note
    )
    assert "text_config_dict is laid over it with the defaults of what it leaves out" in note


@pytest.mark.parametrize("raw", [raw_config(), raw_config(text_config_dict=None), raw_config(text_config={"zeal": 1})])
def test_a_config_that_says_what_counts_has_no_notes(raw: dict[str, Any]) -> None:
    """Files without a second reading give no note, and so do unknown fields, which every release passes over."""
    assert reading_notes(raw, where="") == ()


def test_copies_of_the_sections_give_no_note() -> None:
    """Most old files repeat the section: both readings are the same then."""
    raw = raw_config()
    raw |= {"text_config_dict": raw["text_config"], "vision_config_dict": raw["vision_config"]}
    assert reading_notes(raw, where="") == ()


@pytest.mark.parametrize(("state", "change"), [("absent", {}), ("null", {"text_config": None})])
def test_missing_section_is_the_default(state: str, change: dict[str, Any]) -> None:
    """The library takes the default of every field, so the sizes are compared with the tensors; a note says it."""
    raw = without(raw_config(), "text_config") | change
    assert parse_config(raw, where="").text == TextConfig()
    assert f"text_config is {state}, so CLIPModel takes the default" in reading_notes(raw, where="")[0]


def test_end_of_text_that_was_left_out_is_the_default() -> None:
    """Release 4 leaves out an id that equals the default, also of a vocabulary that was extended; a note says it.

    It was refused once, as if nobody could have meant it.
    """
    raw = without(raw_config(text_config={"vocab_size": 49411}), "text_config.eos_token_id")
    assert parse_config(raw, where="").text.eos_token_id == 49407
    (note,) = reading_notes(raw, where="")
    assert "49407, in a vocabulary of 49411 tokens" in note


def test_towers_keep_their_own_projection() -> None:
    """The model's and the towers' projection_dim may differ: the standalone classes project to the towers' own."""
    raw = raw_config(text_config={"projection_dim": 512}, vision_config={"projection_dim": 512})
    assert parse_config(raw, where="").projection_dim == 24
    assert standalone_text(raw, where="").projection_dim == standalone_vision(raw, where="").projection_dim == 512


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
        ({"model_type": "vision-text-dual-encoder"}, "this is a vision-text-dual-encoder checkpoint, not a CLIP"),
        (
            {"model_type": "clip_text_model", "hidden_size": 30},
            "the config has no num_attention_heads",
        ),
        ({"model_type": "clip_text_model", "vocab_size": 9}, "eos_token_id (absent, so 49407) is not in"),
        (
            {"model_type": "clip_vision_model", "image_size": 9},
            "image_size 9 is smaller than patch_size (absent",
        ),
        ({}, "no model_type"),
        (raw_config() | {"text_config": 3}, "text_config is 3, not an object"),
        (without(raw_config(), "text_config.num_attention_heads"), "text_config has no num_attention_heads"),
        (without(raw_config(), "vision_config.num_attention_heads"), "vision_config has no num_attention_heads"),
        (without(raw_config(), "text_config.eos_token_id"), "eos_token_id (absent, so 49407) is not in"),
        (
            raw_config(text_config={"eos_token_id": 9999}),
            "eos_token_id 9999 is not in a vocabulary",
        ),
        (raw_config(text_config={"eos_token_id": None}), "eos_token_id is None, not a token id"),
        (raw_config(text_config={"eos_token_id": [1, 2]}), "eos_token_id is [1, 2], not a token id"),
        (raw_config(text_config={"pad_token_id": "1"}), "pad_token_id is '1', not a token id"),
        (raw_config(text_config={"hidden_size": -32}), "hidden_size is -32, not a positive integer"),
        (raw_config(text_config={"hidden_size": 32.0}), "hidden_size is 32.0, not a positive integer"),
        (raw_config(text_config={"num_hidden_layers": True}), "num_hidden_layers is True, not a positive integer"),
        (raw_config(text_config={"hidden_size": 30}), "hidden_size 30 is not a multiple of its 4 attention heads"),
        (raw_config(vision_config={"image_size": 7}), "image_size 7 is smaller than patch_size 8"),
        (
            without(raw_config(text_config={"num_attention_heads": 5}), "text_config.hidden_size"),
            "hidden_size (absent, so 512)",
        ),
        (
            without(raw_config(vision_config={"patch_size": 300}), "vision_config.image_size"),
            "image_size (absent, so 224)",
        ),
        (raw_config(vision_config={"image_size": [32, 32]}), "image_size is [32, 32], not a positive integer"),
        (raw_config(vision_config={"hidden_act": "gelo"}), "hidden_act is 'gelo', not one of"),
        (raw_config(vision_config={"layer_norm_eps": 0}), "layer_norm_eps is 0, not a positive floating-point number"),
        (raw_config(vision_config={"layer_norm_eps": "1e-5"}), "layer_norm_eps is '1e-5', not a finite number"),
        (raw_config(vision_config={"layer_norm_eps": 1}), "layer_norm_eps is 1, not a positive floating-point number"),
        (raw_config(text_config_dict=[]), "text_config_dict is [], not an object of fields"),
        ({"model_type": ["clip"]}, "this is a ['clip'] checkpoint, not a CLIP"),
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


_HUGE = int("9" * 400)
_FIELDS = [
    "projection_dim",
    "logit_scale_init_value",
    *(f"text_config.{field.name}" for field in fields(TextConfig)),
    *(f"vision_config.{field.name}" for field in fields(VisionConfig)),
]


@pytest.mark.parametrize("value", [_HUGE, -_HUGE, float("inf"), float("nan"), True, {"a": [{}]}, "9" * 400], ids=shown)
@pytest.mark.parametrize("field", _FIELDS)
def test_hostile_values_are_refused(field: str, value: object) -> None:
    """Any field may hold any JSON value: numbers of 400 digits too are refused, in a short message."""
    raw = raw_config()
    *section, name = field.split(".")
    (raw[section[0]] if section else raw)[name] = value
    message = refusal(raw)
    assert f"{field} is " in message
    assert len(message) < 300


_NAMES = ["model_type", *(name.rpartition(".")[2] for name in _FIELDS)]
_PLACES = [*_FIELDS, "model_type", "text_config", "vision_config", "text_config_dict", "vision_config_dict"]


def config_values(section: str) -> st.SearchStrategy[dict[str, Any]]:
    """Fields of a section, some or all of them, with values that are meant and, rarely, ones that are not."""
    common = {
        "hidden_size": st.sampled_from([512, 768, 32]),
        "intermediate_size": st.sampled_from([16, 80]),
        "num_hidden_layers": st.integers(1, 3),
        "num_attention_heads": st.sampled_from([1, 2, 4, 7]),
        "hidden_act": st.sampled_from(["gelu", "quick_gelu"]),
        "layer_norm_eps": st.sampled_from([1e-5, 1e-6, 1e-3]),
        "projection_dim": st.sampled_from([24, 512]),
        "no_such_field": st.integers(),
        "model_type": st.sampled_from(["clip", "clip_text_model", "clip_vision_model"]),
    }
    own = {
        "text_config": {
            "max_position_embeddings": st.sampled_from([16, 77]),
            "vocab_size": st.sampled_from([524, 49408, 49411]),
            "bos_token_id": st.sampled_from([None, -1, 0, 521]),
            "eos_token_id": st.sampled_from([2, 7, 522, 49407]),
            "pad_token_id": st.sampled_from([None, -1, 1]),
        },
        "vision_config": {
            "image_size": st.sampled_from([30, 32, 224]),
            "patch_size": st.sampled_from([8, 14]),
            "num_channels": st.sampled_from([1, 3]),
            "bos_token_id": st.none(),
        },
    }[section]
    return st.fixed_dictionaries({}, optional={**common, **own})


@st.composite
def config_files(draw: st.DrawFn) -> dict[str, Any]:
    """What config.json may hold: sections that are absent, null, empty or filled, and what is laid over them."""
    raw: dict[str, Any] = {"model_type": "clip"}
    for section in ("text_config", "vision_config"):
        for key in (section, f"{section}_dict"):
            if draw(st.integers(0, 3)):
                raw[key] = draw(st.none() | config_values(section) | config_values(section))
    raw |= draw(st.fixed_dictionaries({}, optional={"projection_dim": st.just(40), "hidden_size": st.just(64)}))
    return raw


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(raw=config_files())
def test_values_are_those_that_the_library_runs_with(raw: dict[str, Any]) -> None:
    """Wherever a config is read, every value is the installed transformers': in CLIPModel, and in each tower alone.

    What it refuses is refused.
    """
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "config.json").write_text(json.dumps(raw), encoding="utf-8")
        whole = library_config("CLIPConfig", directory)
        alone = {name: library_config(name, directory) for name in ("CLIPTextConfig", "CLIPVisionConfig")}
    model, text = taken(parse_config, raw), taken(standalone_text, raw)
    if model is not None:
        assert whole is not None
        assert values_of(model.text) == values_of(model.text, whole.text_config)
        assert values_of(model.vision) == values_of(model.vision, whole.vision_config)
        assert model.projection_dim == whole.projection_dim
    for ours, name in ((text, "CLIPTextConfig"), (taken(standalone_vision, raw), "CLIPVisionConfig")):
        assert ours is None or values_of(ours) == values_of(ours, alone[name])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=4),
    max_leaves=6,
)


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(raw=config_files(), changes=st.dictionaries(st.sampled_from(_PLACES), _JSON, max_size=3))
def test_any_json_is_read_or_refused(raw: dict[str, Any], changes: dict[str, Any]) -> None:
    """Whatever a config holds, each reader gives values or a CheckpointError of one short paragraph."""
    for place, value in changes.items():
        *section, name = place.split(".")
        target = raw.get(section[0]) if section else raw
        (target if isinstance(target, dict) else raw)[name] = value
    for read in (parse_config, reading_notes, standalone_text, standalone_vision):
        said = refused(read, raw)
        assert len(said) < 400
        assert "\n" not in said
    if taken(parse_config, raw) is not None:
        absent_fields(raw)


def refused(read: Any, raw: dict[str, Any]) -> str:
    """The message of a refusal, or nothing."""
    try:
        read(raw, where="config.json")
    except CheckpointError as problem:
        return str(problem)
    return ""


def library_config(name: str, directory: str) -> Any:
    """A config as the installed transformers reads it, or None where it raises."""
    import transformers

    with quiet():
        try:
            return getattr(transformers, name).from_pretrained(directory)
        except Exception:  # whatever it raises is a refusal
            return None


def taken(read: Any, raw: dict[str, Any]) -> Any:
    """What a reader of ours gives, or None where it refuses."""
    try:
        return read(raw, where="config.json")
    except CheckpointError:
        return None


def values_of(kind: Any, source: Any = None) -> dict[str, Any]:
    """The fields of one of our sections, from itself or from the library's config."""
    return {field.name: getattr(source or kind, field.name) for field in fields(kind)}
