"""Faults of the weights: what loading makes of the file, and what is wrong in the file itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_file, in_loaded_model, in_module, in_transformers
from faults.files import edit_json, edit_tensors

VALUES = "weights.values_are_those_of_the_file"
LOADED = "weights.every_weight_is_loaded"
FINITE = "weights.values_are_finite"
PLACED = "weights.dtype_and_device_are_those_asked_for"
EVALUATION = "weights.model_is_in_evaluation_mode"
BASELINE = "baseline.weights_are_those_of_the_pack"


@in_module("text_model.encoder.layers.1.self_attn.v_proj", VALUES)
def a_bias_is_zeroed(projection: Any) -> None:
    """Loading leaves one bias at zero."""
    projection.bias.data.zero_()


@in_module("vision_model.encoder.layers.3.self_attn.q_proj", VALUES)
def a_square_matrix_is_transposed(projection: Any) -> None:
    """Loading transposes one square matrix, as a conversion from another framework would."""
    projection.weight.data = projection.weight.data.T.contiguous()


@in_module("text_model.embeddings.token_embedding", VALUES, diverges_at=("text_model.embeddings.token_embedding",))
def two_token_embeddings_change_places(embedding: Any) -> None:
    """Loading exchanges the embeddings of two tokens that no probe need contain."""
    embedding.weight.data[[3, 5]] = embedding.weight.data[[5, 3]]


@in_loaded_model(VALUES)
def weights_pass_through_bfloat16(model: Any) -> None:
    """Loading casts the weights to bfloat16 and back to float32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16().float()


@in_loaded_model(VALUES)
def layers_share_their_weights(model: Any) -> None:
    """Loading ties the MLP of the second layer to that of the first."""
    for module in model.modules():
        if type(module).__name__ == "CLIPEncoder" and len(module.layers) > 1:
            module.layers[1].mlp = module.layers[0].mlp


@in_transformers(LOADED)
def a_weight_is_not_found(patch: MonkeyPatch) -> None:
    """Loading looks for the image projection under another name, and leaves it at its random initial value."""
    import transformers

    original = transformers.PreTrainedModel.from_pretrained.__func__  # type: ignore[attr-defined]

    def load(cls: Any, *args: Any, **kwargs: Any) -> Any:
        return original(cls, *args, **{**kwargs, "key_mapping": {"^visual_projection": "image_projection"}})

    patch.setattr(transformers.PreTrainedModel, "from_pretrained", classmethod(load))


@in_transformers(LOADED)
def a_class_cannot_be_loaded(patch: MonkeyPatch) -> None:
    """Loading a text tower with its projection raises."""
    import transformers

    def load(cls: Any, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("something is amiss")

    patch.setattr(transformers.CLIPTextModelWithProjection, "from_pretrained", classmethod(load))


@in_file(LOADED)
def a_tower_states_another_projection(directory: Path) -> None:
    """The text section of the config states another projection_dim than the whole model, which alone is heeded by
    CLIPModel.
    """
    edit_json(directory / "config.json", lambda config: config["text_config"].update(projection_dim=512))


@in_loaded_model(PLACED, "output_shapes.outputs_have_the_dtype_of_the_model")
def dtype_is_ignored(model: Any) -> None:
    """Loading in float32 gives a model in float64."""
    model.double()


@in_loaded_model(PLACED, options=("--clip-dtype", "bfloat16"))
def scale_stays_in_float32(model: Any) -> None:
    """Loading in bfloat16 leaves logit_scale in float32."""
    if hasattr(model, "logit_scale"):
        model.logit_scale.data = model.logit_scale.data.float()


@in_loaded_model(EVALUATION)
def model_is_left_in_training_mode(model: Any) -> None:
    """Loading leaves the model in training mode."""
    model.train()


@in_module("vision_model.encoder.layers.0.mlp", EVALUATION, diverges_at=())
def a_module_is_left_in_training_mode(mlp: Any) -> None:
    """Loading leaves one MLP in training mode."""
    mlp.train()


@in_file(FINITE, diverges_at=("text_model.encoder.layers.0.mlp.fc1",))
def a_weight_is_not_a_number(directory: Path) -> None:
    """The file holds one NaN."""
    _edit(directory, "text_model.encoder.layers.0.mlp.fc1.weight", lambda weight: _set(weight, float("nan")))


@in_file(FINITE, diverges_at=("vision_model.encoder.layers.2.mlp.fc2",), options=("--clip-dtype", "float16"))
def a_weight_overflows(directory: Path) -> None:
    """The file holds a float32 value that float16 cannot hold."""
    _edit(directory, "vision_model.encoder.layers.2.mlp.fc2.bias", lambda weight: _set(weight, 1e6))


@in_file(BASELINE, baseline=True)
def one_value_of_the_file_changes(directory: Path) -> None:
    """One element of one tensor of the file differs in its last bits from the approved release."""
    _edit(directory, "text_projection.weight", lambda weight: _set(weight, float(weight.flatten()[0]) * (1 + 1e-6)))


@in_file(BASELINE, baseline=True)
def two_layers_of_the_file_change_places(directory: Path) -> None:
    """The file has the second and third text layer exchanged: a sound CLIP, but another one."""

    def exchange(tensors: dict[str, Any]) -> None:
        one, other = "text_model.encoder.layers.1.", "text_model.encoder.layers.2."
        for name in [name for name in tensors if name.startswith(one)]:
            twin = other + name.removeprefix(one)
            tensors[name], tensors[twin] = tensors[twin], tensors[name]

    edit_tensors(directory, exchange)


@in_transformers("baseline.surface_is_approved", baseline=True)
def names_in_memory_change(patch: MonkeyPatch) -> None:
    """state_dict gives one more name than the approved release: every value is right, and strict loading elsewhere
    is not.
    """
    import torch

    original = torch.nn.Module.state_dict

    def state_dict(self: Any, *args: Any, **kwargs: Any) -> Any:
        state = original(self, *args, **kwargs)
        loaded = not self.training  # loading itself goes by the names of the file
        if type(self).__name__ == "CLIPTextModel" and loaded and not args and not kwargs:
            name = next(name for name in state if name.endswith("position_embedding.weight"))
            state[name.replace("position_embedding.weight", "position_ids")] = torch.arange(77)[None]
        return state

    patch.setattr(torch.nn.Module, "state_dict", state_dict)


@in_transformers("baseline.surface_is_approved", baseline=True)
def default_dtype_changes(patch: MonkeyPatch) -> None:
    """A model that is loaded without a dtype comes in bfloat16."""
    import torch
    import transformers

    original = transformers.PreTrainedModel.from_pretrained.__func__  # type: ignore[attr-defined]

    def load(cls: Any, *args: Any, **kwargs: Any) -> Any:
        model = original(cls, *args, **kwargs)
        return model if "dtype" in kwargs else model.to(torch.bfloat16)

    patch.setattr(transformers.PreTrainedModel, "from_pretrained", classmethod(load))


def _edit(directory: Path, name: str, change: Any) -> None:
    edit_tensors(directory, lambda tensors: tensors.update({name: change(tensors[name])}))


def _set(tensor: Any, value: float) -> Any:
    changed = tensor.clone()
    changed.view(-1)[0] = value
    return changed
