"""What differs between releases of transformers, and what the installed one offers."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from packaging.version import Version

__all__ = [
    "CLASSIFIER",
    "MODEL_CLASSES",
    "belongs_to",
    "canonical_name",
    "dtype_on_load",
    "features_are_tensors",
    "has_torchvision",
    "projected_features",
    "provides",
    "quiet",
    "resizes_with_torchvision",
    "tower_of",
    "transformers_module",
    "transformers_release",
]

MODEL_CLASSES = (
    "CLIPModel",
    "CLIPTextModel",
    "CLIPVisionModel",
    "CLIPTextModelWithProjection",
    "CLIPVisionModelWithProjection",
)

CLASSIFIER = "CLIPForImageClassification"
"""A vision tower with a classifier, which no CLIP's file holds: it is shown on a tiny model alone."""

_PARTS = {
    "CLIPModel": ("text_model.", "vision_model.", "text_projection.", "visual_projection.", "logit_scale"),
    "CLIPTextModel": ("text_model.",),
    "CLIPVisionModel": ("vision_model.",),
    "CLIPTextModelWithProjection": ("text_model.", "text_projection."),
    "CLIPVisionModelWithProjection": ("vision_model.", "visual_projection."),
    CLASSIFIER: ("vision_model.", "classifier."),
}
_WHOLE = (*_PARTS["CLIPModel"], "classifier.")


@functools.cache
def transformers_release() -> Version:
    """Return the installed transformers release without importing it."""
    return Version(version("transformers"))


def features_are_tensors(release: Version) -> bool:
    """Say whether get_text_features and get_image_features return a bare tensor, as documented up to 4.x.

    From 5.0 they are documented to return `BaseModelOutputWithPooling` with the projected feature in `pooler_output`.
    """
    return release < Version("5.0.0.dev0")


def provides(class_name: str) -> bool:
    """Say whether the installed transformers has a class of that name that can be used here, with all that it needs."""
    import transformers

    found = getattr(transformers, class_name, None)
    return found is not None and not any(base.__name__ == "DummyObject" for base in type(found).__mro__)


def transformers_module(module: str = "") -> Any:
    """Return transformers itself, or a module of it by its dotted name below it, to describe what it offers.

    Raises:
        ImportError: there is no such module.
    """
    with quiet():
        return importlib.import_module(f"transformers.{module}".rstrip("."))


def has_torchvision() -> bool:
    """Say whether torchvision is installed; transformers then resizes pictures with it by default, from 5.0 on."""
    return importlib.util.find_spec("torchvision") is not None


def resizes_with_torchvision(image_processor: Any) -> bool:
    """Say whether an image processor resizes with torchvision, which may differ from Pillow by one uint8 level."""
    return any(
        "Torchvision" in base.__name__ or base.__name__.endswith("Fast") for base in type(image_processor).__mro__
    )


def projected_features(features: Any, release: Version) -> Any:
    """Return the projected, not normalised feature tensor (rows, projection) of a get_*_features result."""
    return features if features_are_tensors(release) else features.pooler_output


def canonical_name(name: str, model_class: str) -> str:
    """Return the name that tensor `name` of a `model_class` in memory has in a CLIPModel checkpoint on disk.

    From 5.6 the towers are flattened in memory (`encoder...`), before they carry the prefix of the file.
    """
    return name if name.startswith(_WHOLE) else _PARTS[model_class][0] + name


def belongs_to(name: str, model_class: str) -> bool:
    """Say whether the tensor of canonical name `name` is a part of a `model_class`."""
    return name.startswith(_PARTS[model_class])


def dtype_on_load(directory: str) -> str:
    """Return the dtype that CLIPModel has when `directory` is loaded and no dtype is asked for."""
    import transformers

    with quiet():
        model = transformers.CLIPModel.from_pretrained(directory, local_files_only=True, use_safetensors=True)
    return str(model.dtype).removeprefix("torch.")


def tower_of(model_class: str) -> str:
    """Return the name of the first tower of a `model_class` in a CLIPModel: "text_model" or "vision_model"."""
    return _PARTS[model_class][0].rstrip(".")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let the library print neither hints nor progress, and nothing warn: what matters of it is asserted by checks."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
