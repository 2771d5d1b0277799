"""Faults of the interface: every number is right, and users' code breaks. Only the comparison with a pack sees them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_file, in_loaded_model, in_transformers
from faults.files import edit_json
from faults.patching import image_processors, modeling, wrap

SURFACE = "baseline.surface_is_approved"
ACCEPTANCES = "baseline.acceptances_are_in_force"
_FILES = Path(__file__).with_name("accepted")


@in_transformers(SURFACE, baseline=True)
def a_layer_takes_other_arguments(patch: MonkeyPatch) -> None:
    """A layer's forward takes anything: its signature no longer says what."""
    original = modeling().CLIPEncoderLayer.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, *args, **kwargs)

    patch.setattr(modeling().CLIPEncoderLayer, "forward", forward)


@in_transformers(SURFACE, baseline=True)
def a_function_of_the_module_is_gone(patch: MonkeyPatch) -> None:
    """contrastive_loss can no longer be imported from CLIP's module; what the model computes is the same."""
    module = modeling()
    inner = module.contrastive_loss
    whole = next(name for name in ("clip_loss", "image_text_contrastive_loss") if hasattr(module, name))

    def loss(similarity: Any) -> Any:
        return (inner(similarity) + inner(similarity.t())) / 2.0

    loss.__name__, loss.__module__ = whole, module.__name__
    patch.setattr(module, whole, loss)
    patch.delattr(module, "contrastive_loss")


@in_transformers(SURFACE, baseline=True)
def a_default_of_the_config_changes(patch: MonkeyPatch) -> None:
    """CLIPTextConfig made without arguments has attention_dropout 0.1."""
    import transformers

    def init(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **{"attention_dropout": 0.1, **kwargs})

    wrap(patch, transformers.CLIPTextConfig, "__init__", init)


@in_transformers(SURFACE, baseline=True)
def the_main_input_has_another_name(patch: MonkeyPatch) -> None:
    """CLIPVisionModel says that its main input is called images: Trainer and pipelines go by that."""
    patch.setattr(modeling().CLIPVisionModel, "main_input_name", "images")


@in_transformers(SURFACE, baseline=True)
def input_embeddings_are_not_handed_out(patch: MonkeyPatch) -> None:
    """CLIPTextModel.get_input_embeddings raises: tools that resize or share embeddings stop."""

    def refuse(original: Any, self: Any) -> None:
        raise NotImplementedError

    wrap(patch, modeling().CLIPTextModel, "get_input_embeddings", refuse)


@in_loaded_model(SURFACE, baseline=True)
def a_module_is_added(model: Any) -> None:
    """Each model holds one more module without weights: hooks by path or by number hit others."""
    import torch

    model.add_module("after", torch.nn.Identity())


@in_loaded_model(SURFACE, baseline=True)
def an_attribute_is_gone(model: Any) -> None:
    """CLIPModel has no projection_dim any more."""
    vars(model).pop("projection_dim", None)


@in_loaded_model(SURFACE, baseline=True)
def parameters_come_in_another_order(model: Any) -> None:
    """Parameters come in another order: the state of an optimizer, kept by number, goes to others."""
    name = next(iter(model._modules))
    model._modules[name] = model._modules.pop(name)
    inner = model._modules[name]
    for child in list(inner._modules)[:1]:
        inner._modules[child] = inner._modules.pop(child)


@in_transformers(SURFACE, baseline=True)
def an_old_argument_is_refused(patch: MonkeyPatch) -> None:
    """from_pretrained no longer takes torch_dtype."""
    import transformers

    owner = transformers.PreTrainedModel
    original = owner.from_pretrained.__func__

    @functools.wraps(original)
    def from_pretrained(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if "torch_dtype" in kwargs:
            raise TypeError("torch_dtype")
        return original(cls, *args, **kwargs)

    patch.setattr(owner, "from_pretrained", classmethod(from_pretrained))


@in_transformers(SURFACE, baseline=True)
def a_file_of_the_processor_is_not_written(patch: MonkeyPatch) -> None:
    """save_pretrained of a processor leaves tokenizer_config.json out: other libraries read it."""
    from transformers.processing_utils import ProcessorMixin

    def save(original: Any, self: Any, save_directory: Any, *args: Any, **kwargs: Any) -> Any:
        written = original(self, save_directory, *args, **kwargs)
        (Path(save_directory) / "tokenizer_config.json").unlink()
        return written

    wrap(patch, ProcessorMixin, "save_pretrained", save)


@in_transformers(SURFACE, baseline=True)
def settings_have_another_type(patch: MonkeyPatch) -> None:
    """image_mean and image_std of the image processor are arrays: what writes them as JSON stops."""

    def as_arrays(processor: Any) -> None:
        import numpy as np

        processor.image_mean, processor.image_std = np.array(processor.image_mean), np.array(processor.image_std)

    image_processors(patch, as_arrays)


@in_file(SURFACE, ACCEPTANCES, baseline=True, options=("--clip-accepted", str(_FILES / "expired.toml")))
def an_acceptance_has_expired(directory: Path) -> None:
    """The change of logit_scale_init_value was accepted until a day that is past."""
    _rescale(directory)


@in_file(SURFACE, ACCEPTANCES, baseline=True, options=("--clip-accepted", str(_FILES / "another_value.toml")))
def another_value_was_accepted(directory: Path) -> None:
    """Somebody accepted another value of logit_scale_init_value than it has now."""
    _rescale(directory)


@in_file(ACCEPTANCES, baseline=True, options=("--clip-accepted", str(_FILES / "no_such_change.toml")))
def an_acceptance_matches_nothing(directory: Path) -> None:
    """The change of logit_scale_init_value is accepted, and so is one that did not happen."""
    _rescale(directory)


def _rescale(directory: Path) -> None:
    edit_json(directory / "config.json", lambda config: config.update(logit_scale_init_value=2.0))
