"""Shared by the checks of configs and processors made in Python: non-default values, saving and loading.

They depend on transformers alone, not on the checkpoint's files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from clip_eval.subject import quiet, transformers_module

__all__ = ["IMAGE_ARGUMENTS", "TEXT_ARGUMENTS", "as_plain", "saved_and_loaded"]

IMAGE_ARGUMENTS: Mapping[str, Any] = {
    "do_resize": False,
    "size": {"shortest_edge": 20},
    "resample": 2,
    "do_center_crop": False,
    "crop_size": {"height": 20, "width": 30},
    "do_rescale": False,
    "rescale_factor": 0.5,
    "do_normalize": False,
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.4, 0.5, 0.6],
    "do_convert_rgb": False,
}
"""Documented arguments of CLIPImageProcessor, all different from the defaults."""

TEXT_ARGUMENTS: Mapping[str, Any] = {
    "bos_token": "a</w>",
    "eos_token": "b</w>",
    "unk_token": "c</w>",
    "pad_token": "d</w>",
    "sep_token": "e</w>",
    "cls_token": "f</w>",
    "mask_token": "g</w>",
    "model_max_length": 33,
    "padding_side": "left",
    "truncation_side": "left",
    "clean_up_tokenization_spaces": True,
    "split_special_tokens": True,
    "chat_template": "{{ messages }}",
    "model_input_names": ["input_ids"],
}
"""Documented arguments of a tokenizer, all different from the defaults."""


def saved_and_loaded(made: Any, directory: Path, class_name: str | None = None) -> Any:
    """Return what a class, by default its own, loads from the files that an object writes of itself."""
    loader: Callable[..., Any] = (
        type(made) if class_name is None else getattr(transformers_module(), class_name)
    ).from_pretrained
    with quiet():
        made.save_pretrained(str(directory))
        return loader(str(directory), local_files_only=True)


def as_plain(value: Any) -> Any:
    """Return a setting as plain data: a size as a dict, a tuple as a list."""
    if hasattr(value, "__dataclass_fields__"):
        held = {name: getattr(value, name) for name in value.__dataclass_fields__}
        return {name: item for name, item in held.items() if item is not None}
    if isinstance(value, (tuple, list)):
        return [as_plain(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    return value.value if isinstance(value, Enum) else value
