"""Ways to spoil transformers from outside, in 4.57 and in 5.x: everything goes through a MonkeyPatch, which puts
it back.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

__all__ = [
    "after_loading",
    "change_features",
    "change_input",
    "change_output",
    "change_pixels",
    "change_tokens",
    "change_tower",
    "every",
    "image_processors",
    "modeling",
    "module_at",
    "replace",
    "text_tower",
    "vision_tower",
    "wrap",
    "wrap_features",
]

Change = Callable[..., Any]


def modeling() -> Any:
    """The module that defines CLIP in transformers."""
    from transformers.models.clip import modeling_clip

    return modeling_clip


def text_tower() -> Any:
    """The class whose forward is the text tower, alone and inside CLIPModel."""
    return getattr(modeling(), "CLIPTextTransformer", None) or modeling().CLIPTextModel


def vision_tower() -> Any:
    """The class whose forward is the vision tower, alone and inside CLIPModel."""
    return getattr(modeling(), "CLIPVisionTransformer", None) or modeling().CLIPVisionModel


def wrap(patch: MonkeyPatch, owner: Any, name: str, wrapper: Change) -> None:
    """Replace method `name` of class `owner` by `wrapper(original, self, *args, **kwargs)`."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return wrapper(original, self, *args, **kwargs)

    patch.setattr(owner, name, method)


def wrap_classmethod(patch: MonkeyPatch, owner: Any, name: str, change: Callable[[Any], None]) -> None:
    """Let `change` see and spoil what class method `name` returns; with output_loading_info, the model of the pair."""
    original = getattr(owner, name).__func__

    @functools.wraps(original)
    def method(cls: Any, *args: Any, **kwargs: Any) -> Any:
        made = original(cls, *args, **kwargs)
        change(made[0] if isinstance(made, tuple) else made)
        return made

    patch.setattr(owner, name, classmethod(method))


def after_loading(patch: MonkeyPatch, change: Callable[[Any], None]) -> None:
    """Let `change` spoil each model that `from_pretrained` makes, before anyone sees it."""
    import transformers

    wrap_classmethod(patch, transformers.PreTrainedModel, "from_pretrained", change)


def image_processors(patch: MonkeyPatch, change: Callable[[Any], None]) -> None:
    """Let `change` spoil each image processor, whichever class loads it."""
    from transformers.image_processing_utils import BaseImageProcessor

    wrap_classmethod(patch, BaseImageProcessor, "from_dict", change)


def module_at(model: Any, path: str) -> Any:
    """The module at `path` in a checkpoint's names, None where the model has no such part.

    A tower alone has its modules under the tower's name in some releases, and at the root in others.
    """
    tower, _, rest = path.partition(".")
    modules = dict(model.named_modules())
    if path in modules:
        return modules[path]
    side = {"text_model": "CLIPText", "vision_model": "CLIPVision"}.get(tower, "no tower")
    return modules.get(rest) if type(model).__name__.startswith(side) else None


def every(model: Any, class_name: str) -> list[Any]:
    """All modules of a class, in order."""
    return [module for module in model.modules() if type(module).__name__ == class_name]


def replace(module: Any, forward: Change) -> None:
    """Replace a loaded module's forward by `forward(original, *args, **kwargs)`."""
    original = module.forward
    module.forward = lambda *args, **kwargs: forward(original, *args, **kwargs)


def change_input(layer: Any, change: Change) -> None:
    """Let `change` replace the hidden states that enter a layer."""
    replace(layer, lambda original, hidden_states, *args, **kwargs: original(change(hidden_states), *args, **kwargs))


def change_output(patch: MonkeyPatch, class_name: str, change: Change) -> None:
    """Let `change(output, **inputs)` spoil or replace the output object of a model class, before return_dict=False
    turns it into a tuple.
    """
    owner = getattr(modeling(), class_name)

    def forward(original: Change, self: Any, *args: Any, return_dict: Any = None, **kwargs: Any) -> Any:
        output = original(self, *args, return_dict=True, **kwargs)
        changed = change(output, model=self, **kwargs)
        output = output if changed is None else changed
        return output.to_tuple() if return_dict is False and hasattr(output, "to_tuple") else output

    wrap(patch, owner, "forward", forward)


def change_tower(patch: MonkeyPatch, tower: Any, change: Change) -> None:
    """Let `change(output, **inputs)` spoil the output object of a tower, alone and inside CLIPModel."""
    if tower.__name__.endswith("Model"):
        change_output(patch, tower.__name__, change)
        return

    def forward(original: Change, self: Any, *args: Any, **kwargs: Any) -> Any:
        output = original(self, *args, **kwargs)
        changed = change(output, model=self, **kwargs)
        return output if changed is None else changed

    wrap(patch, tower, "forward", forward)


def wrap_features(patch: MonkeyPatch, name: str, wrapper: Change) -> None:
    """Wrap get_text_features or get_image_features for those who call it; CLIPModel's own forward, which does from
    5.x on, is spared.
    """
    owner = modeling().CLIPModel
    original, forward = getattr(owner, name), owner.forward
    inside: list[bool] = []

    def features(self: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, *args, **kwargs) if inside else wrapper(original, self, *args, **kwargs)

    def whole(self: Any, *args: Any, **kwargs: Any) -> Any:
        inside.append(True)
        try:
            return forward(self, *args, **kwargs)
        finally:
            inside.pop()

    patch.setattr(owner, name, features)
    patch.setattr(owner, "forward", whole)


def change_features(patch: MonkeyPatch, name: str, change: Callable[[Any], Any]) -> None:
    """Let `change` replace the feature tensor that get_text_features or get_image_features gives, bare or in an
    output object.
    """

    def features(original: Change, self: Any, *args: Any, **kwargs: Any) -> Any:
        found = original(self, *args, **kwargs)
        if not hasattr(found, "pooler_output"):
            return change(found)
        found.pooler_output = change(found.pooler_output)
        return found

    wrap_features(patch, name, features)


def change_pixels(patch: MonkeyPatch, change: Callable[[Any], Any]) -> None:
    """Let `change` replace the pixel_values that every image processor gives."""
    from transformers.image_processing_utils import BaseImageProcessor

    def call(original: Change, self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        result["pixel_values"] = change(result["pixel_values"])
        return result

    wrap(patch, BaseImageProcessor, "__call__", call)


def change_tokens(patch: MonkeyPatch, change: Callable[[Any], None]) -> None:
    """Let `change` spoil what every tokenizer returns."""
    from transformers import PreTrainedTokenizerBase

    def call(original: Change, self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        change(result)
        return result

    wrap(patch, PreTrainedTokenizerBase, "__call__", call)
