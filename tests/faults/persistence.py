"""Faults of saving, loading, state dicts, and of torch.compile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_loaded_model, in_transformers

SAVED = "persistence.saved_and_loaded_again"
NAMES = "persistence.towers_are_saved_under_the_names_of_clip"
EXACT = "persistence.state_dict_holds_exactly_the_weights"
MOVES = "persistence.a_state_dict_moves_to_another_model"
REFUSED = "persistence.a_state_dict_that_does_not_fit_is_refused"
FILE_NAMES = "persistence.a_state_dict_with_the_names_of_the_file_loads"
OLDER = "persistence.files_of_older_releases_load"
COMPILED = "compiled.outputs_are_those_of_the_reference"


@in_transformers(SAVED)
def scale_is_not_saved(patch: MonkeyPatch) -> None:
    """save_pretrained leaves logit_scale out, so that the next load draws it anew."""
    _saving(patch, lambda state: {name: value for name, value in state.items() if name != "logit_scale"})


@in_transformers(SAVED)
def a_projection_is_saved_transposed(patch: MonkeyPatch) -> None:
    """save_pretrained writes one square matrix transposed."""

    def transpose(state: dict[str, Any]) -> dict[str, Any]:
        return {
            name: value.T.contiguous() if name.endswith("layers.0.self_attn.out_proj.weight") else value
            for name, value in state.items()
        }

    _saving(patch, transpose)


@in_transformers(SAVED)
def weights_are_saved_in_float16(patch: MonkeyPatch) -> None:
    """save_pretrained writes float16 to save space."""
    _saving(patch, lambda state: {name: value.half() for name, value in state.items()})


@in_transformers(SAVED)
def config_is_saved_with_another_end(patch: MonkeyPatch) -> None:
    """save_pretrained writes the library's default eos_token_id into the config, not the model's."""
    import transformers

    original = transformers.CLIPConfig.to_dict

    def to_dict(self: Any) -> dict[str, Any]:
        plain: dict[str, Any] = original(self)
        plain["text_config"]["eos_token_id"] = 49407 if plain["text_config"]["vocab_size"] > 49407 else 2
        return plain

    patch.setattr(transformers.CLIPConfig, "to_dict", to_dict)


@in_transformers(NAMES)
def projections_are_saved_under_another_name(patch: MonkeyPatch) -> None:
    """save_pretrained of a tower with projection calls it `projection`; loading looks for that name, too."""

    def rename(state: dict[str, Any]) -> dict[str, Any]:
        return {name.replace("text_projection", "text_model.projection"): value for name, value in state.items()}

    _saving(patch, rename, only="CLIPTextModelWithProjection")


@in_transformers(NAMES)
def a_bias_of_a_tower_is_not_saved(patch: MonkeyPatch) -> None:
    """save_pretrained of CLIPVisionModel leaves out the bias of its last norm."""

    def drop(state: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in state.items() if not name.endswith("post_layernorm.bias")}

    _saving(patch, drop, only="CLIPVisionModel")


@in_loaded_model(EXACT)
def scale_is_no_parameter(model: Any) -> None:
    """logit_scale is a buffer: it is saved and loaded, and no optimiser ever sees it."""
    if hasattr(model, "logit_scale"):
        value = model.logit_scale.data
        del model.logit_scale
        model.register_buffer("logit_scale", value)


@in_transformers("weights.every_weight_is_loaded")
def state_dict_has_names_of_a_wrapper(patch: MonkeyPatch) -> None:
    """state_dict of CLIPModel puts `module.` before each name, as a wrapper for several devices does."""
    import transformers

    original = transformers.CLIPModel.state_dict

    def state_dict(self: Any, *args: Any, **kwargs: Any) -> Any:
        return {f"module.{name}": value for name, value in original(self, *args, **kwargs).items()}

    patch.setattr(transformers.CLIPModel, "state_dict", state_dict)


@in_transformers(MOVES)
def norms_are_not_loaded(patch: MonkeyPatch) -> None:
    """load_state_dict skips the layer norms, and says nothing."""

    def load(original: Any, self: Any, state: Any, **kwargs: Any) -> Any:
        own = self.state_dict()
        kept = {name: own[name].clone() if "layer_norm" in name and name in own else state[name] for name in state}
        return original(self, kept, **kwargs)

    _loading(patch, load)


@in_transformers(REFUSED)
def loading_is_never_strict(patch: MonkeyPatch) -> None:
    """load_state_dict takes what fits and leaves the rest, strict or not."""
    _loading(patch, lambda original, self, state, **kwargs: original(self, state, strict=False))


@in_transformers(REFUSED)
def loading_reports_nothing(patch: MonkeyPatch) -> None:
    """load_state_dict with strict=False reports no missing and no unexpected keys."""

    def load(original: Any, self: Any, state: Any, strict: bool = True, **kwargs: Any) -> Any:
        report = original(self, state, strict=strict, **kwargs)
        return report if strict else type(report)([], [])

    _loading(patch, load)


@in_transformers(FILE_NAMES)
def loading_what_fits_spoils_the_rest(patch: MonkeyPatch) -> None:
    """load_state_dict with strict=False sets what it finds no value for, or another, to zero in one norm."""

    def load(original: Any, self: Any, state: Any, strict: bool = True, **kwargs: Any) -> Any:
        report = original(self, state, strict=strict, **kwargs)
        if not strict:
            next(value for name, value in self.state_dict().items() if name.endswith("norm1.bias")).zero_()
        return report

    _loading(patch, load)


@in_transformers(OLDER)
def position_ids_of_a_file_are_taken_by_their_order(patch: MonkeyPatch) -> None:
    """A file that holds position_ids gets every token to the first position, as a buffer that was never filled."""
    import transformers
    from safetensors import safe_open

    original = transformers.PreTrainedModel.from_pretrained.__func__  # type: ignore[attr-defined]

    def load(cls: Any, source: Any, *args: Any, **kwargs: Any) -> Any:
        made = original(cls, source, *args, **kwargs)
        file = Path(source) / "model.safetensors"
        if file.exists() and any(name.endswith("position_ids") for name in safe_open(file, "pt").keys()):  # noqa: SIM118
            for name, buffer in (made[0] if isinstance(made, tuple) else made).named_buffers():
                if name.endswith("position_ids"):
                    buffer.data = buffer.data * 0
        return made

    patch.setattr(transformers.PreTrainedModel, "from_pretrained", classmethod(load))


@in_transformers(COMPILED, options=("--clip-compile",))
def compiled_code_is_wrong(patch: MonkeyPatch) -> None:
    """torch.compile makes code that is off by a thousandth in the embeddings of texts."""
    import shutil

    import torch

    def compile_wrongly(model: Any, *_: Any, **__: Any) -> Any:
        def call(**keywords: Any) -> Any:
            output = model(**keywords)
            output.text_embeds = output.text_embeds * 1.001
            return output

        return call

    patch.setattr(torch, "compile", compile_wrongly)
    patch.setattr(shutil, "which", lambda name, *_, **__: name)


def _saving(patch: MonkeyPatch, change: Any, only: str = "") -> None:
    """Let `change` spoil what save_pretrained writes, of one class or of all."""
    from safetensors.torch import load_file, save_file
    from transformers import PreTrainedModel

    original = PreTrainedModel.save_pretrained

    def save(self: Any, directory: Any, *args: Any, **kwargs: Any) -> None:
        original(self, directory, *args, **kwargs)
        path = Path(directory) / "model.safetensors"
        if not only or type(self).__name__ == only:
            save_file(change(load_file(path)), path, metadata={"format": "pt"})

    patch.setattr(PreTrainedModel, "save_pretrained", save)


def _loading(patch: MonkeyPatch, load: Any) -> None:
    """Replace load_state_dict of whole models by `load(original, model, state, **options)`."""
    import torch
    from transformers import PreTrainedModel

    original = torch.nn.Module.load_state_dict
    patch.setattr(
        PreTrainedModel,
        "load_state_dict",
        lambda self, state, **kwargs: load(original, self, state, **kwargs),
        raising=False,
    )
