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

from clip_eval.families import roles
from clip_eval.families.family import Family

__all__ = [
    "dtype_on_load",
    "features_are_tensors",
    "has_torchvision",
    "load_class",
    "projected_features",
    "provides",
    "quiet",
    "resizes_with_torchvision",
    "transformers_module",
    "transformers_release",
]


@functools.cache
def transformers_release() -> Version:
    """Return the installed transformers release without importing it."""
    return Version(version("transformers"))


def features_are_tensors(release: Version) -> bool:
    """Return whether get_text_features and get_image_features return a bare tensor, as documented up to 4.x.

    From 5.0 they are documented to return `BaseModelOutputWithPooling` with the projected feature in `pooler_output`.
    """
    return release < Version("5.0.0.dev0")


def provides(class_name: str) -> bool:
    """Return whether the installed transformers has a class of that name and all that it needs is installed."""
    import transformers

    value = getattr(transformers, class_name, None)
    return value is not None and not any(base.__name__ == "DummyObject" for base in type(value).__mro__)


def transformers_module(module: str = "") -> Any:
    """Return transformers, or one of its modules by dotted name.

    Raises:
        ImportError: the module does not exist.
    """
    with quiet():
        return importlib.import_module(f"transformers.{module}".rstrip("."))


def has_torchvision() -> bool:
    """Return whether torchvision is installed; from 5.0 on, transformers then resizes images with it by default."""
    return importlib.util.find_spec("torchvision") is not None


def resizes_with_torchvision(image_processor: Any) -> bool:
    """Return whether an image processor resizes with torchvision, which may differ from Pillow by one uint8 level."""
    return any(
        "Torchvision" in base.__name__ or base.__name__.endswith("Fast") for base in type(image_processor).__mro__
    )


def projected_features(features: Any, release: Version) -> Any:
    """Return the projected, not normalised feature tensor (rows, projection) of a get_*_features result."""
    return features if features_are_tensors(release) else getattr(features, roles.POOLED)


def load_class(family: Family, role: str) -> Any:
    """Return the class that fills a role in a family, imported.

    Raises:
        ImportError: a package that it needs is not installed.
    """
    kind = family.classes[role]
    return getattr(importlib.import_module(kind.module), kind.name)


def dtype_on_load(family: Family, directory: str, role: str = roles.WHOLE) -> str:
    """Return the dtype that a model has when `directory` is loaded by a class and no dtype is asked for."""
    with quiet():
        model = load_class(family, role).from_pretrained(directory, local_files_only=True, use_safetensors=True)
    return str(model.dtype).removeprefix("torch.")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' hints and progress bars, and all warnings: checks assert what matters."""
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
