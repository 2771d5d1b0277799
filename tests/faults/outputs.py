"""Faults of the output objects: types, fields, order, tuples, hidden states and attention maps as they are handed
out.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from packaging.specifiers import SpecifierSet
from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_transformers
from faults.patching import change_output, change_tower, modeling, text_tower, vision_tower

TYPE = "output_objects.type_is_the_documented_one"
FIELDS = "output_objects.fields_are_the_documented_ones_in_order"
ALIKE = "output_objects.fields_read_alike_every_way"
TO_TUPLE = "output_objects.to_tuple_holds_every_field"
AS_TUPLE = "output_objects.return_dict_false_gives_the_tuple"
DEFAULT = "output_objects.return_dict_true_is_the_default"
LOSS_FIRST = "output_objects.loss_comes_first"
STATES = "hidden_states.hidden_states_are_the_residual_stream"
ENDS = "hidden_states.first_and_last_hidden_states"
MAPS = "hidden_states.attentions_are_the_softmax_maps"
DTYPE = "output_shapes.outputs_have_the_dtype_of_the_model"
TOWER_SHAPES = "output_shapes.tower_shapes"
NESTED_SHAPES = "output_shapes.nested_output_shapes"
PROJECTED_SHAPES = "output_shapes.tower_with_projection_shapes"
FULL_SHAPES = "output_shapes.full_model_shapes"
POOLED = "towers.nested_pooled_states_are_the_towers_own"


@in_transformers(FIELDS)
def logits_per_text_come_first(patch: MonkeyPatch) -> None:
    """CLIPOutput lists logits_per_text before logits_per_image."""
    change_output(
        patch, "CLIPModel", lambda output, **_: OrderedDict.move_to_end(output, "logits_per_text", last=False)
    )


@in_transformers(LOSS_FIRST)
def loss_comes_last(patch: MonkeyPatch) -> None:
    """The loss is the last field of CLIPOutput, not the first."""

    def spoil(output: Any, **_: Any) -> None:
        if "loss" in output:
            OrderedDict.move_to_end(output, "loss")

    change_output(patch, "CLIPModel", spoil)


@in_transformers("contrastive_head.loss_is_the_mean_of_both_cross_entropies", "reference_values.loss")
def loss_has_a_dimension(patch: MonkeyPatch) -> None:
    """The loss is not a scalar but has shape (1,)."""

    def spoil(output: Any, **_: Any) -> None:
        if "loss" in output:
            output.loss = output.loss[None]

    change_output(patch, "CLIPModel", spoil)


@in_transformers(FIELDS)
def text_embeddings_are_missing(patch: MonkeyPatch) -> None:
    """CLIPOutput has no text_embeds."""
    change_output(patch, "CLIPModel", lambda output, **_: _without(output, "text_embeds"))


@in_transformers(FIELDS, TOWER_SHAPES)
def pooled_state_is_missing(patch: MonkeyPatch) -> None:
    """CLIPVisionModel alone returns no pooler_output."""

    def spoil(output: Any, model: Any, **_: Any) -> Any:
        return _without(output, "pooler_output") if _is_alone(model) else None

    change_output(patch, "CLIPVisionModel", spoil)


@in_transformers(TO_TUPLE)
def to_tuple_keeps_none(patch: MonkeyPatch) -> None:
    """CLIPOutput.to_tuple has an entry for every field, None for the absent ones."""
    from dataclasses import fields

    def to_tuple(self: Any) -> tuple[Any, ...]:
        values = [getattr(self, field.name) for field in fields(self)]
        return tuple(value.to_tuple() if hasattr(value, "to_tuple") else value for value in values)

    patch.setattr(modeling().CLIPOutput, "to_tuple", to_tuple)


@in_transformers(TO_TUPLE, AS_TUPLE)
def nested_outputs_stay_objects_in_tuples(patch: MonkeyPatch) -> None:
    """CLIPOutput.to_tuple leaves the nested tower outputs as objects."""
    patch.setattr(modeling().CLIPOutput, "to_tuple", lambda self: tuple(self.values()))


@in_transformers(TO_TUPLE, AS_TUPLE)
def nested_outputs_are_missing_in_tuples(patch: MonkeyPatch) -> None:
    """CLIPOutput.to_tuple stops before the nested tower outputs."""
    patch.setattr(modeling().CLIPOutput, "to_tuple", lambda self: tuple(self.values())[:-2])


@in_transformers(TO_TUPLE)
def to_tuple_of_a_tower_repeats_a_state(patch: MonkeyPatch) -> None:
    """CLIPTextModelOutput.to_tuple has the right length and gives text_embeds twice."""

    def to_tuple(self: Any) -> tuple[Any, ...]:
        values = tuple(self.values())
        return (values[0], values[0], *values[2:])

    patch.setattr(modeling().CLIPTextModelOutput, "to_tuple", to_tuple)


@in_transformers(AS_TUPLE)
def return_dict_false_is_ignored(patch: MonkeyPatch) -> None:
    """CLIPModel returns the output object although return_dict=False."""
    _change_return(patch, "CLIPModel", lambda result, output: output)


@in_transformers(AS_TUPLE)
def tuple_of_a_tower_has_one_entry_too_few(patch: MonkeyPatch) -> None:
    """CLIPVisionModelWithProjection(return_dict=False) returns the embeddings alone."""
    _change_return(patch, "CLIPVisionModelWithProjection", lambda result, output: result[:1])


@in_transformers(DEFAULT)
def return_dict_true_gives_the_tuple(patch: MonkeyPatch) -> None:
    """CLIPTextModelWithProjection returns a tuple where return_dict=True is spelled out."""
    owner = modeling().CLIPTextModelWithProjection
    original = owner.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        spelled_out = kwargs.get("return_dict") is True
        result = original(self, *args, **kwargs)
        return result.to_tuple() if spelled_out else result

    patch.setattr(owner, "forward", forward)


@in_transformers(TYPE)
def output_is_of_another_class(patch: MonkeyPatch) -> None:
    """CLIPVisionModelWithProjection returns a CLIPTextModelOutput look-alike: the right fields under a wrong class."""

    def spoil(output: Any, **_: Any) -> Any:
        class ImageOutput(type(output)):  # type: ignore[misc]
            pass

        return ImageOutput(**output)

    change_output(patch, "CLIPVisionModelWithProjection", spoil)


@in_transformers(TYPE, AS_TUPLE)
def output_is_a_plain_dict(patch: MonkeyPatch) -> None:
    """CLIPTextModelWithProjection returns a dict."""
    change_output(patch, "CLIPTextModelWithProjection", lambda output, **_: dict(output))


@in_transformers(TYPE, FIELDS)
def nested_output_is_a_tuple(patch: MonkeyPatch) -> None:
    """CLIPOutput.text_model_output is a tuple, not an output object."""

    def spoil(output: Any, **_: Any) -> None:
        output.text_model_output = output.text_model_output.to_tuple()

    change_output(patch, "CLIPModel", spoil)


@in_transformers(ALIKE)
def attribute_is_not_the_entry(patch: MonkeyPatch) -> None:
    """output.logits_per_image and output["logits_per_image"] are two tensors."""

    def spoil(output: Any, **_: Any) -> None:
        object.__setattr__(output, "logits_per_image", output["logits_per_image"] * 1.0)

    change_output(patch, "CLIPModel", spoil)


@in_transformers(FULL_SHAPES)
def batch_of_one_loses_its_axis(patch: MonkeyPatch) -> None:
    """With a single image, image_embeds has no batch axis."""

    def spoil(output: Any, **_: Any) -> None:
        output.image_embeds = output.image_embeds.squeeze(0)

    change_output(patch, "CLIPModel", spoil)


@in_transformers(PROJECTED_SHAPES, FIELDS)
def projected_tower_keeps_an_axis(patch: MonkeyPatch) -> None:
    """CLIPTextModelWithProjection returns text_embeds of shape (texts, 1, projection), and the pooled state besides."""

    def spoil(output: Any, **_: Any) -> Any:
        output.text_embeds = output.text_embeds[:, None]
        output["pooler_output"] = output.last_hidden_state[:, 0]

    change_output(patch, "CLIPTextModelWithProjection", spoil)


@in_transformers(NESTED_SHAPES, "reference_values.nested_towers", diverges_at=("vision_model",))
def nested_states_lack_the_class_token(patch: MonkeyPatch) -> None:
    """The nested vision output of CLIPModel holds the patches alone."""

    def spoil(output: Any, **_: Any) -> None:
        nested = output.vision_model_output
        nested.last_hidden_state = nested.last_hidden_state[:, 1:]

    change_output(patch, "CLIPModel", spoil)


@in_transformers(DTYPE)
def logits_are_doubles(patch: MonkeyPatch) -> None:
    """Logits of a float32 model are float64."""

    def spoil(output: Any, **_: Any) -> None:
        output.logits_per_image, output.logits_per_text = (
            output.logits_per_image.double(),
            output.logits_per_text.double(),
        )

    change_output(patch, "CLIPModel", spoil)


@in_transformers(DTYPE)
def loss_is_a_double(patch: MonkeyPatch) -> None:
    """The loss of a float32 model is float64."""

    def spoil(output: Any, **_: Any) -> None:
        if "loss" in output:
            output.loss = output.loss.double()

    change_output(patch, "CLIPModel", spoil)


@in_transformers(DTYPE)
def attentions_are_doubles(patch: MonkeyPatch) -> None:
    """Attention maps of a float32 model are float64, as those of a 16 bit model are float32 where a cast is
    forgotten.
    """
    _change_maps(patch, lambda maps: tuple(each.double() for each in maps))


@in_transformers(DTYPE)
def hidden_states_are_doubles(patch: MonkeyPatch) -> None:
    """Hidden states of a float32 text tower alone are float64."""

    def spoil(output: Any, **_: Any) -> None:
        if output.hidden_states:
            output["hidden_states"] = tuple(state.double() for state in output.hidden_states)

    change_output(patch, "CLIPTextModelWithProjection", spoil)


@in_transformers(POOLED)
def nested_pooled_state_is_normalised(patch: MonkeyPatch) -> None:
    """The nested pooler_output of CLIPModel holds the normalised embedding, in neither form that a release gives."""

    def spoil(output: Any, **_: Any) -> None:
        output.text_model_output.pooler_output = output.text_embeds

    change_output(patch, "CLIPModel", spoil)


@in_transformers(STATES)
def hidden_states_are_one_short(patch: MonkeyPatch) -> None:
    """The text tower leaves out the hidden state that enters the first layer."""
    _change_states(patch, text_tower(), lambda states, output: states[1:])


@in_transformers(STATES)
def hidden_states_are_a_list(patch: MonkeyPatch) -> None:
    """The vision tower gives its hidden states as a list."""
    _change_states(patch, vision_tower(), lambda states, output: list(states))


@in_transformers(STATES, diverges_at=("vision_model.pre_layrnorm",))
def first_hidden_state_is_before_the_norm(patch: MonkeyPatch) -> None:
    """The first hidden state of an image is the embedding before pre_layrnorm."""

    def spoil(output: Any, model: Any, pixel_values: Any = None, **_: Any) -> None:
        if output.hidden_states:
            output.hidden_states = (model.embeddings(pixel_values), *output.hidden_states[1:])

    change_tower(patch, vision_tower(), spoil)


@in_transformers(STATES, diverges_at=("text_model.encoder.layers.3",))
def last_hidden_state_of_texts_is_after_the_norm(patch: MonkeyPatch) -> None:
    """The last hidden state of a text is last_hidden_state, which final_layer_norm has already changed."""
    _change_states(patch, text_tower(), lambda states, output: (*states[:-1], output.last_hidden_state))


@in_transformers(ENDS)
def last_hidden_state_of_images_is_another_tensor(patch: MonkeyPatch) -> None:
    """last_hidden_state of an image differs from the last hidden state in the last bit."""
    import torch

    _change_states(
        patch, vision_tower(), lambda states, output: (*states[:-1], torch.nextafter(states[-1], torch.zeros(())))
    )


@in_transformers(STATES, diverges_at=("vision_model",))
def hidden_states_are_one_tensor(patch: MonkeyPatch) -> None:
    """All hidden states of an image are the last one, as when a buffer is shared."""
    _change_states(patch, vision_tower(), lambda states, output: (states[-1],) * len(states))


@in_transformers(STATES, diverges_at=("text_model.encoder.layers.1",))
def two_hidden_states_change_places(patch: MonkeyPatch) -> None:
    """The third and fourth hidden state of a text are exchanged: a look at the length sees nothing."""
    _change_states(patch, text_tower(), lambda states, output: (*states[:2], states[3], states[2], *states[4:]))


@in_transformers(MAPS)
def attentions_are_none_under_eager(patch: MonkeyPatch) -> None:
    """The vision tower returns no attention maps although eager attention has them."""
    _change_maps(patch, lambda maps: None)


@in_transformers(MAPS, diverges_at=("vision_model.encoder.layers",))
def attentions_come_in_reverse(patch: MonkeyPatch) -> None:
    """The attention maps of an image are listed from the last layer to the first."""
    _change_maps(patch, lambda maps: maps[::-1])


@in_transformers(MAPS, diverges_at=("vision_model.encoder.layers.0",))
def attentions_are_averaged_over_heads(patch: MonkeyPatch) -> None:
    """Each head of an attention map holds the mean of all heads."""
    _change_maps(patch, lambda maps: tuple(each.mean(1, keepdim=True).expand_as(each) for each in maps))


@in_transformers("hidden_states.attentions_under_the_default_implementation")
def fused_attention_makes_up_its_maps(patch: MonkeyPatch) -> None:
    """Under the fused kernel, which knows no attention maps, the vision tower returns maps of ones."""
    import torch

    def spoil(output: Any, model: Any, output_attentions: Any = None, **_: Any) -> None:
        if output_attentions and model.config._attn_implementation == "sdpa":
            output["attentions"] = tuple(torch.ones(len(output[0]), 4, 17, 17) for _ in range(5))

    change_tower(patch, vision_tower(), spoil)


@in_transformers(POOLED, releases=SpecifierSet(">=5.6"))
def nested_pooled_state_keeps_the_contract(patch: MonkeyPatch) -> None:
    """The library returns to the contract: the declared deviation of the nested pooler_output is stale and has to
    go.
    """

    def spoil(output: Any, model: Any, **_: Any) -> None:
        nested = output.vision_model_output
        nested.pooler_output = model.vision_model.post_layernorm(nested.last_hidden_state[:, 0])

    change_output(patch, "CLIPModel", spoil)


def _without(output: Any, name: str) -> Any:
    return type(output)(**{key: value for key, value in output.items() if key != name})


def _is_alone(model: Any) -> bool:
    """Whether `from_pretrained` made this very model, not a CLIPModel around it."""
    return model.config.name_or_path != "" and type(model).__name__ == "CLIPVisionModel"


def _change_return(patch: MonkeyPatch, class_name: str, change: Any) -> None:
    """Let `change(tuple, output)` replace what return_dict=False returns."""
    owner = getattr(modeling(), class_name)
    original = owner.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        if kwargs.get("return_dict") is not False:
            return result
        return change(result, original(self, *args, **{**kwargs, "return_dict": True}))

    patch.setattr(owner, "forward", forward)


def _change_states(patch: MonkeyPatch, tower: Any, change: Any) -> None:
    def spoil(output: Any, **_: Any) -> None:
        if output.hidden_states:
            output["hidden_states"] = change(output.hidden_states, output)

    change_tower(patch, tower, spoil)


def _change_maps(patch: MonkeyPatch, change: Any) -> None:
    def spoil(output: Any, **_: Any) -> Any:
        if not output.attentions:
            return None
        maps = change(output.attentions)
        if maps is None:
            return _without(output, "attentions")
        output["attentions"] = maps
        return None

    change_tower(patch, vision_tower(), spoil)
