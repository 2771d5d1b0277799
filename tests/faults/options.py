"""Faults of options and methods: what output_hidden_states, return_loss, masks and get_*_features do and leave
alone.
"""

from __future__ import annotations

from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_transformers
from faults.patching import (
    change_features,
    change_output,
    change_tower,
    modeling,
    text_tower,
    vision_tower,
    wrap,
    wrap_features,
)

OFF = "hidden_states.off_by_default"
STATES = "hidden_states.hidden_states_are_the_residual_stream"
CHANGES_NOTHING = "hidden_states.asking_for_states_changes_nothing"
WITH_MAPS = "hidden_states.attentions_leave_states_alone"
FEATURES = "features.features_are_projected_and_not_normalised"
FEATURE_SHAPES = "output_shapes.feature_shapes"
PROJECTED = "towers.projected_towers_give_the_features"


@in_transformers(CHANGES_NOTHING, "hidden_states.first_and_last_hidden_states", diverges_at=("text_model",))
def hidden_states_change_the_last_one(patch: MonkeyPatch) -> None:
    """With output_hidden_states the text tower normalises last_hidden_state once more."""

    def spoil(output: Any, model: Any, **_: Any) -> None:
        if output.hidden_states:
            output.last_hidden_state = model.final_layer_norm(output.last_hidden_state)

    change_tower(patch, text_tower(), spoil)


@in_transformers(STATES)
def hidden_states_are_not_given(patch: MonkeyPatch) -> None:
    """CLIPVisionModelWithProjection ignores output_hidden_states."""
    _drop(patch, "CLIPVisionModelWithProjection", "hidden_states")


@in_transformers(STATES)
def nested_hidden_states_are_not_given(patch: MonkeyPatch) -> None:
    """CLIPModel ignores output_hidden_states for its text tower; the tower alone honours it."""

    def spoil(output: Any, **_: Any) -> None:
        nested = output.text_model_output
        if nested.hidden_states:
            output.text_model_output = type(nested)(**{k: v for k, v in nested.items() if k != "hidden_states"})

    change_output(patch, "CLIPModel", spoil)


@in_transformers(OFF)
def hidden_states_come_unasked(patch: MonkeyPatch) -> None:
    """CLIPTextModelWithProjection returns hidden states that nobody asked for."""

    def forward(original: Any, self: Any, *args: Any, output_hidden_states: Any = None, **kwargs: Any) -> Any:
        return original(self, *args, output_hidden_states=True, **kwargs)

    wrap(patch, modeling().CLIPTextModelWithProjection, "forward", forward)


@in_transformers(WITH_MAPS)
def hidden_states_or_attentions(patch: MonkeyPatch) -> None:
    """The vision tower gives hidden states or attention maps, not both."""

    def spoil(output: Any, output_attentions: Any = None, **_: Any) -> Any:
        if output_attentions and output.hidden_states:
            return type(output)(**{key: value for key, value in output.items() if key != "hidden_states"})
        return None

    change_tower(patch, vision_tower(), spoil)


@in_transformers("hidden_states.attentions_are_the_softmax_maps")
def attentions_are_hidden_states(patch: MonkeyPatch) -> None:
    """With output_attentions CLIPTextModelWithProjection returns hidden states under that name."""

    def forward(original: Any, self: Any, *args: Any, output_attentions: Any = None, **kwargs: Any) -> Any:
        if not output_attentions:
            return original(self, *args, **kwargs)
        output = original(self, *args, **{**kwargs, "output_hidden_states": True})
        output["attentions"] = output.hidden_states[1:]
        return output

    wrap(patch, modeling().CLIPTextModelWithProjection, "forward", forward)


@in_transformers(FEATURES, diverges_at=("text_projection",))
def text_features_are_normalised(patch: MonkeyPatch) -> None:
    """get_text_features divides by the norm."""
    change_features(patch, "get_text_features", lambda features: features / features.norm(dim=-1, keepdim=True))


@in_transformers(FEATURES, FEATURE_SHAPES, diverges_at=("visual_projection",))
def image_features_are_not_projected(patch: MonkeyPatch) -> None:
    """get_image_features returns the pooled state without the projection."""

    def features(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        found = original(self, *args, **kwargs)
        pooled = self.vision_model(pixel_values=kwargs["pixel_values"]).pooler_output
        if not hasattr(found, "pooler_output"):
            return pooled
        found.pooler_output = pooled
        return found

    wrap_features(patch, "get_image_features", features)


@in_transformers("output_shapes.outputs_have_the_dtype_of_the_model")
def text_features_are_doubles(patch: MonkeyPatch) -> None:
    """get_text_features of a float32 model gives float64."""
    change_features(patch, "get_text_features", lambda features: features.double())


@in_transformers("features.type_is_the_documented_one")
def text_features_have_another_type(patch: MonkeyPatch) -> None:
    """get_text_features returns a tuple, in neither form that a release documents."""
    wrap_features(patch, "get_text_features", lambda original, *args, **kwargs: (original(*args, **kwargs),))


@in_transformers("features.other_states_come_along")
def image_features_carry_other_states(patch: MonkeyPatch) -> None:
    """get_image_features brings along a last_hidden_state that is not the tower's; in 4.x it should bring none."""

    def features(original: Any, *args: Any, **kwargs: Any) -> Any:
        found = original(*args, **kwargs)
        found.last_hidden_state = found.last_hidden_state * 1.001 if hasattr(found, "last_hidden_state") else found
        return found

    wrap_features(patch, "get_image_features", features)
    wrap_features(patch, "get_text_features", features)


@in_transformers("features.text_features_follow_the_mask", diverges_at=("text_model.encoder.layers.0.self_attn",))
def text_features_ignore_the_mask(patch: MonkeyPatch) -> None:
    """get_text_features drops the attention mask; CLIPModel itself honours it."""

    def features(original: Any, self: Any, *args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        return original(self, *args, **kwargs)

    wrap_features(patch, "get_text_features", features)


@in_transformers(PROJECTED, "output_shapes.tower_with_projection_shapes", diverges_at=("text_projection",))
def projected_text_tower_returns_the_pooled_state(patch: MonkeyPatch) -> None:
    """CLIPTextModelWithProjection returns the pooled state as text_embeds."""

    def spoil(output: Any, model: Any, input_ids: Any, attention_mask: Any = None, **_: Any) -> None:
        output.text_embeds = model.text_model(input_ids=input_ids, attention_mask=attention_mask).pooler_output

    change_output(patch, "CLIPTextModelWithProjection", spoil)


@in_transformers(PROJECTED, diverges_at=("text_model.encoder.layers.0.self_attn",))
def projected_text_tower_ignores_the_mask(patch: MonkeyPatch) -> None:
    """CLIPTextModelWithProjection drops the attention mask; CLIPTextModel and CLIPModel honour it."""

    def forward(original: Any, self: Any, *args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        return original(self, *args, **kwargs)

    wrap(patch, modeling().CLIPTextModelWithProjection, "forward", forward)


@in_transformers(PROJECTED, diverges_at=("visual_projection",))
def projected_vision_tower_normalises(patch: MonkeyPatch) -> None:
    """CLIPVisionModelWithProjection returns image_embeds of unit norm."""

    def spoil(output: Any, **_: Any) -> None:
        output.image_embeds = output.image_embeds / output.image_embeds.norm(dim=-1, keepdim=True)

    change_output(patch, "CLIPVisionModelWithProjection", spoil)


@in_transformers("towers.projected_towers_agree_with_the_plain_ones")
def projected_vision_tower_normalises_its_states(patch: MonkeyPatch) -> None:
    """CLIPVisionModelWithProjection applies post_layernorm to last_hidden_state; CLIPVisionModel does not."""

    def spoil(output: Any, model: Any, **_: Any) -> None:
        output.last_hidden_state = model.vision_model.post_layernorm(output.last_hidden_state)

    change_output(patch, "CLIPVisionModelWithProjection", spoil)


@in_transformers("towers.text_model_is_the_nested_one", "reference_values.nested_towers", diverges_at=("text_model",))
def nested_text_states_are_before_the_norm(patch: MonkeyPatch) -> None:
    """CLIPModel nests the text states from before final_layer_norm; the tower alone gives those after it."""

    def spoil(output: Any, model: Any, input_ids: Any, attention_mask: Any = None, **_: Any) -> None:
        tower = model.text_model(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
        output.text_model_output.last_hidden_state = tower.hidden_states[-1]

    change_output(patch, "CLIPModel", spoil)


@in_transformers(
    "towers.vision_model_is_the_nested_one", "reference_values.nested_towers", diverges_at=("vision_model",)
)
def nested_image_states_are_after_the_norm(patch: MonkeyPatch) -> None:
    """CLIPModel nests image states after post_layernorm; the tower alone gives those before it."""

    def spoil(output: Any, model: Any, **_: Any) -> None:
        nested = output.vision_model_output
        nested.last_hidden_state = model.vision_model.post_layernorm(nested.last_hidden_state)

    change_output(patch, "CLIPModel", spoil)


@in_transformers("contrastive_head.loss_changes_nothing_else", "output_objects.fields_are_the_documented_ones_in_order")
def loss_comes_unasked(patch: MonkeyPatch) -> None:
    """CLIPModel returns a loss that nobody asked for."""

    def spoil(output: Any, **_: Any) -> Any:
        return output if "loss" in output else type(output)(loss=output.logits_per_text.mean(), **output)

    change_output(patch, "CLIPModel", spoil)


@in_transformers("output_objects.loss_comes_first", "contrastive_head.loss_changes_nothing_else")
def loss_is_not_given(patch: MonkeyPatch) -> None:
    """CLIPModel ignores return_loss."""
    _drop(patch, "CLIPModel", "loss")


@in_transformers(CHANGES_NOTHING, "output_objects.return_dict_false_gives_the_tuple")
def results_drift_from_call_to_call(patch: MonkeyPatch) -> None:
    """Every call of the vision tower adds a millionth to what the one before it gave."""
    calls: list[int] = []

    def spoil(output: Any, **_: Any) -> None:
        calls.append(1)
        output.last_hidden_state = output.last_hidden_state + 1e-6 * len(calls)

    change_tower(patch, vision_tower(), spoil)


def _drop(patch: MonkeyPatch, class_name: str, name: str) -> None:
    def spoil(output: Any, **_: Any) -> Any:
        return type(output)(**{key: value for key, value in output.items() if key != name})

    change_output(patch, class_name, spoil)
