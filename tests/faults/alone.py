"""Faults of a tower alone: its projection, its pooling, its last norm, its classifier, a variant of its weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures
from support.lone_towers import CLASSIFIER, TEXT, TEXT_PROJECTED, VISION, VISION_PROJECTED

from faults.fault import in_file, in_loaded_model, in_transformers
from faults.files import edit_json
from faults.patching import change_output, change_tower, modeling, text_tower, vision_tower, wrap

TEXTS = "reference_values.text_tower"
IMAGES = "reference_values.vision_tower"
POOLING = "pooling.a_text_is_pooled_at_its_first_end"
EMBEDS = "towers.projected_towers_give_the_features"
VALUES = "weights.values_are_those_of_the_file"
LOGITS = "image_classification.logits_are_those_of_the_patches"
FP16 = ("--clip-variant", "fp16")


@in_transformers(TEXTS, POOLING, on=TEXT)
def a_text_encoder_pools_the_last_token(patch: MonkeyPatch) -> None:
    """CLIPTextModel pools each text at its last position, padding or not."""
    _pool(patch, text_tower(), lambda states, ids: states[:, -1])


@in_transformers(TEXTS, POOLING, on=TEXT)
def a_text_encoder_pools_the_largest_id(patch: MonkeyPatch) -> None:
    """CLIPTextModel pools at the largest id, the legacy rule, whatever eos_token_id says."""
    import torch

    _pool(patch, text_tower(), lambda states, ids: states[torch.arange(len(states)), ids.argmax(-1)])


@in_transformers(TEXTS, on=TEXT, diverges_at=("text_model.final_layer_norm", "text_model"))
def a_text_encoder_leaves_out_its_last_norm(patch: MonkeyPatch) -> None:
    """CLIPTextModel returns the last layer's states without final_layer_norm."""
    _forward(patch, "LayerNorm", "final_layer_norm", lambda states, module: states)


@in_loaded_model(TEXTS, on=TEXT)
def a_text_encoder_skips_its_last_layer(model: Any) -> None:
    """CLIPTextModel gives the hidden state before the last one: "clip skip 2", which pipelines ask for, built in."""
    layers = _layers(model)
    layers[-1].forward = lambda hidden_states, *args, **kwargs: _as_layer(layers[-1], hidden_states)


@in_file("tokenizer.no_token_moves_the_pooling", on=TEXT)
def a_text_encoder_says_another_rule(directory: Path) -> None:
    """config.json of a text encoder has the legacy eos_token_id 2, and the tokenizer an id above its end token."""
    edit_json(directory / "config.json", lambda config: config.update(eos_token_id=2))


@in_loaded_model(VALUES, EMBEDS, on=TEXT_PROJECTED)
def a_text_projection_is_new(model: Any) -> None:
    """text_projection has new values, as if the file had none: transformers only prints that."""
    if hasattr(model, "text_projection"):
        model.text_projection.weight.data.normal_(0.0, 0.1)


@in_loaded_model(VALUES, EMBEDS, on=TEXT_PROJECTED)
def a_text_projection_is_tied_to_the_embedding(model: Any) -> None:
    """text_projection is the first rows of the token embedding."""
    if hasattr(model, "text_projection"):
        table = model.get_input_embeddings().weight
        model.text_projection.weight.data.copy_(table.data[: model.text_projection.out_features])


@in_transformers(EMBEDS, on=TEXT_PROJECTED)
def text_embeds_of_a_tower_are_normalised(patch: MonkeyPatch) -> None:
    """CLIPTextModelWithProjection divides its embeddings by their norm, as CLIPModel does."""
    _embed(patch, "CLIPTextModelWithProjection", "text_embeds", _normalised)


@in_transformers(EMBEDS, on=TEXT_PROJECTED)
def the_last_token_is_projected(patch: MonkeyPatch) -> None:
    """CLIPTextModelWithProjection projects the state of the last position."""

    def change(output: Any, *, model: Any, **inputs: Any) -> None:
        output["text_embeds"] = model.text_projection(output.last_hidden_state[:, -1])

    change_output(patch, "CLIPTextModelWithProjection", change)


@in_transformers(IMAGES, on=VISION, diverges_at=("vision_model.post_layernorm", "vision_model"))
def an_image_encoder_leaves_out_its_last_norm(patch: MonkeyPatch) -> None:
    """CLIPVisionModel pools the class token without post_layernorm."""
    _pool(patch, vision_tower(), lambda states, ids: states[:, 0])


@in_transformers(IMAGES, on=VISION)
def an_image_encoder_pools_all_patches(patch: MonkeyPatch) -> None:
    """CLIPVisionModel pools the mean of all tokens instead of the class token."""
    _pool(patch, vision_tower(), lambda states, ids: states.mean(dim=1))


@in_transformers(IMAGES, on=VISION)
def an_image_encoder_norms_all_tokens(patch: MonkeyPatch) -> None:
    """CLIPVisionModel returns every state after post_layernorm, not only the pooled one."""

    def change(output: Any, *, model: Any, **inputs: Any) -> None:
        tower = getattr(model, "vision_model", model)
        output["last_hidden_state"] = tower.post_layernorm(output.last_hidden_state)

    change_tower(patch, vision_tower(), change)


@in_loaded_model(VALUES, EMBEDS, on=VISION_PROJECTED)
def a_visual_projection_is_new(model: Any) -> None:
    """visual_projection has new values, as if the file had none."""
    if hasattr(model, "visual_projection"):
        model.visual_projection.weight.data.normal_(0.0, 0.1)


@in_transformers(EMBEDS, on=VISION_PROJECTED)
def image_embeds_are_of_the_state_before_the_last(patch: MonkeyPatch) -> None:
    """CLIPVisionModelWithProjection projects the hidden state before the last one, as adapters ask for."""

    def forward(original: Any, self: Any, *args: Any, return_dict: Any = None, **kwargs: Any) -> Any:
        output = original(self, *args, return_dict=True, **kwargs)
        states = original(self, *args, return_dict=True, **{**kwargs, "output_hidden_states": True}).hidden_states
        output["image_embeds"] = self.visual_projection(self.vision_model.post_layernorm(states[-2][:, 0]))
        return output.to_tuple() if return_dict is False else output

    wrap(patch, modeling().CLIPVisionModelWithProjection, "forward", forward)


@in_transformers(EMBEDS, on=VISION_PROJECTED)
def image_embeds_of_a_tower_are_normalised(patch: MonkeyPatch) -> None:
    """CLIPVisionModelWithProjection divides its embeddings by their norm."""
    _embed(
        patch,
        "CLIPVisionModelWithProjection",
        "image_embeds",
        _normalised,
    )


@in_transformers(LOGITS, on=CLASSIFIER)
def the_class_token_is_averaged_too(patch: MonkeyPatch) -> None:
    """CLIPForImageClassification averages all tokens, the class token among them."""
    _classify(patch, lambda model, output: output.hidden_states[-1].mean(dim=1))


@in_transformers(LOGITS, on=CLASSIFIER)
def the_class_token_is_classified(patch: MonkeyPatch) -> None:
    """CLIPForImageClassification classifies the class token."""
    _classify(patch, lambda model, output: output.hidden_states[-1][:, 0])


@in_loaded_model("image_classification.a_clip_becomes_a_classifier", LOGITS, on=CLASSIFIER)
def a_classifier_is_new(model: Any) -> None:
    """The classifier has new values, as if the file had none."""
    if hasattr(model, "classifier"):
        model.classifier.weight.data.normal_(0.0, 0.3)


@in_file(VALUES, on=TEXT, options=FP16)
def a_variant_has_other_weights(directory: Path) -> None:
    """model.fp16.safetensors is of another training step than model.safetensors."""
    _write_variant(directory, lambda tensors: tensors["text_model.final_layer_norm.weight"].mul_(1.01))


@in_file("weights.values_are_finite", on=VISION_PROJECTED, options=FP16)
def a_variant_overflows(directory: Path) -> None:
    """A weight of model.fp16.safetensors became infinite when it was made."""
    _write_variant(directory, lambda tensors: tensors["visual_projection.weight"].fill_(1e6))


def _pool(patch: MonkeyPatch, tower: Any, pooled: Callable[[Any, Any], Any]) -> None:
    """Let a tower pool otherwise: from states (rows, tokens, width) and ids to (rows, width)."""

    def change(output: Any, *, model: Any, input_ids: Any = None, **inputs: Any) -> None:
        output["pooler_output"] = pooled(output.last_hidden_state, input_ids)

    change_tower(patch, tower, change)


def _forward(patch: MonkeyPatch, kind: str, name: str, change: Callable[[Any, Any], Any]) -> None:
    """Replace the forward of the modules of this name, right after a model was loaded."""
    from faults.patching import after_loading

    def spoil(model: Any) -> None:
        for path, module in model.named_modules():
            if path.rpartition(".")[2] == name and type(module).__name__ == kind:
                module.forward = lambda states, module=module: change(states, module)

    after_loading(patch, spoil)


def _layers(model: Any) -> Any:
    return [module for module in model.modules() if type(module).__name__ == "CLIPEncoderLayer"]


def _as_layer(layer: Any, hidden_states: Any) -> Any:
    """What an encoder layer returns: the states, in 4.x in a tuple."""
    from clip_eval.subject import transformers_release

    return (hidden_states,) if transformers_release().major < 5 else hidden_states


def _embed(patch: MonkeyPatch, class_name: str, field: str, change: Callable[[Any], Any]) -> None:
    def spoil(output: Any, *, model: Any, **inputs: Any) -> None:
        output[field] = change(output[field])

    change_output(patch, class_name, spoil)


def _normalised(embeds: Any) -> Any:
    return embeds / embeds.norm(dim=-1, keepdim=True)


def _classify(patch: MonkeyPatch, pooled: Callable[[Any, Any], Any]) -> None:
    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("labels") is not None or kwargs.get("return_dict") is False or len(args) > 1:
            return original(self, *args, **kwargs)
        output = original(self, *args, **kwargs)
        states = original(self, *args, **{**kwargs, "output_hidden_states": True})
        output["logits"] = self.classifier(pooled(self, states))
        return output

    wrap(patch, modeling().CLIPForImageClassification, "forward", forward)


def _write_variant(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Write model.fp16.safetensors beside the weights, changed before it is rounded."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    halved = {name: tensor.half() for name, tensor in tensors.items()}
    save_file(halved, directory / "model.fp16.safetensors", metadata={"format": "pt"})
