"""Ways to spoil what image processors are given, and the steps they take, in 4.57 and in 5.x."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.patching import image_processors, wrap

__all__ = [
    "change_arrays",
    "change_mode",
    "change_pictures",
    "change_size",
    "change_step",
    "channels_axis",
    "is_array",
    "is_picture",
    "on_call",
    "sides",
]


def is_picture(value: Any) -> bool:
    """Say whether a value is a Pillow picture."""
    from PIL import Image

    return isinstance(value, Image.Image)


def is_array(value: Any) -> bool:
    """Say whether a value is a NumPy array or a tensor."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def on_call(patch: MonkeyPatch, process: Callable[..., Any]) -> None:
    """Replace the call of every image processor by `process(original, processor, images, **options)`."""
    from transformers.image_processing_utils import BaseImageProcessor

    wrap(patch, BaseImageProcessor, "__call__", process)


def change_pictures(patch: MonkeyPatch, change: Callable[[Any], Any]) -> None:
    """Let `change(picture)` replace each Pillow picture that an image processor is given, alone or in lists."""
    _change_each(patch, is_picture, change)


def change_arrays(patch: MonkeyPatch, change: Callable[[Any], Any]) -> None:
    """Let `change(array)` replace each array or tensor that an image processor is given, alone or in lists."""
    _change_each(patch, is_array, change)


def change_mode(patch: MonkeyPatch, mode: str, change: Callable[[Any], Any]) -> None:
    """Let `change(picture)` replace each picture of a Pillow mode."""
    change_pictures(patch, lambda picture: change(picture) if picture.mode == mode else picture)


def change_step(patch: MonkeyPatch, step: str, change: Callable[..., Any]) -> None:
    """Replace a step of every image processor that is loaded, such as center_crop, by `change(step, image, ...)`.

    It is replaced in the class: what is set on a processor itself would have to be written to JSON with it.
    """
    classes: list[type] = []

    def method(original: Any, self: Any, image: Any, *args: Any, **kwargs: Any) -> Any:
        return change(partial(original, self), image, *args, **kwargs)

    def spoil(processor: Any) -> None:
        if type(processor) not in classes:
            classes.append(type(processor))
            wrap(patch, type(processor), step, method)

    image_processors(patch, spoil)


def change_size(patch: MonkeyPatch, change: Callable[[int, int, int], tuple[int, int]]) -> None:
    """Let `change(height, width, edge)` say to which (height, width) an image is resized, edge being the shortest."""

    def resize(original: Any, image: Any, size: Any, **kwargs: Any) -> Any:
        edge = dict(size).get("shortest_edge")
        if not edge:
            return original(image=image, size=size, **kwargs)
        height, width = change(*sides(image), edge)
        return original(image=image, size=type(size)(height=height, width=width), **kwargs)

    change_step(patch, "resize", resize)


def sides(image: Any) -> tuple[int, int]:
    """(height, width) of an array with channels first or last."""
    shape = image.shape
    return (shape[1], shape[2]) if shape[0] == 3 else (shape[0], shape[1])


def channels_axis(image: Any) -> int:
    """The axis of the channels of one image, or of a batch."""
    return -3 if image.shape[-3] == 3 else -1


def _change_each(patch: MonkeyPatch, chosen: Callable[[Any], bool], change: Callable[[Any], Any]) -> None:
    def walk(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(walk(item) for item in value)
        return change(value) if chosen(value) else value

    def process(original: Any, self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, walk(images), *args, **kwargs)

    on_call(patch, process)
