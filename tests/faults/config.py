"""Faults of config.json: what the model is said to be, and how its outputs come by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from faults.fault import in_file
from faults.files import edit_json

FITS = "tokenizer.tokens_fit_the_model"
SURFACE = "baseline.surface_is_approved"
OUTPUTS = "baseline.outputs_match_the_record"


@in_file("tokenizer.no_token_moves_the_pooling")
def end_token_is_the_legacy_one(directory: Path) -> None:
    """eos_token_id is 2, so that pooling takes the largest id, although an added token has a larger one than EOS."""
    _text(directory, eos_token_id=2)


@in_file(FITS)
def end_token_is_off_by_one(directory: Path) -> None:
    """eos_token_id is the id of the token that begins a text."""
    edit_json(
        directory / "config.json",
        lambda config: config["text_config"].update(eos_token_id=config["text_config"]["bos_token_id"]),
    )


@in_file("output_objects.type_is_the_documented_one", "reference_values.text_tower")
def tuples_are_the_default(directory: Path) -> None:
    """return_dict is False in the config, so that every model returns bare tuples."""
    edit_json(directory / "config.json", lambda config: [part.update(return_dict=False) for part in _parts(config)])


@in_file("hidden_states.off_by_default")
def hidden_states_are_the_default(directory: Path) -> None:
    """output_hidden_states is True in the config."""
    edit_json(
        directory / "config.json", lambda config: [part.update(output_hidden_states=True) for part in _parts(config)]
    )


@in_file(OUTPUTS, baseline=True)
def activation_changes(directory: Path) -> None:
    """hidden_act is gelu: model and reference agree with the config, the approved release does not."""
    _text(directory, hidden_act="gelu")


@in_file(OUTPUTS, baseline=True)
def number_of_heads_changes(directory: Path) -> None:
    """The text tower has 10 heads instead of 5: every shape fits, every number differs."""
    _text(directory, num_attention_heads=10)


@in_file(SURFACE, OUTPUTS, baseline=True)
def layer_norm_eps_changes(directory: Path) -> None:
    """layer_norm_eps of the vision tower is 1e-6 instead of 1e-5."""
    edit_json(directory / "config.json", lambda config: config["vision_config"].update(layer_norm_eps=1e-6))


@in_file(SURFACE, baseline=True)
def initial_scale_changes(directory: Path) -> None:
    """logit_scale_init_value differs from the approved release: no output does."""
    edit_json(directory / "config.json", lambda config: config.update(logit_scale_init_value=2.0))


def _parts(config: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    return (config, config["text_config"], config["vision_config"])


def _text(directory: Path, **values: Any) -> None:
    edit_json(directory / "config.json", lambda config: config["text_config"].update(values))
