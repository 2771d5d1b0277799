"""Processors as users load and read them: classes by route, public attributes with values, signatures."""

from __future__ import annotations

import contextlib
from typing import Any

from clip_eval.baseline.surface.formatting import attempt, kept_apart, members, signature, spelled
from clip_eval.checkpoint.fingerprints import image_processor_fields
from clip_eval.subject import transformers_module
from clip_eval.subject.observations import Clip
from clip_eval.verdict.plain_values import Json

__all__ = ["observe_processors"]

_TEXT_ROUTES = ("AutoTokenizer", "CLIPTokenizer", "CLIPTokenizerFast")
_IMAGE_ROUTES = (
    "AutoImageProcessor",
    "AutoFeatureExtractor",
    "CLIPFeatureExtractor",
    "CLIPImageProcessor",
    "CLIPImageProcessorFast",
    "CLIPImageProcessorPil",
)
_FULL_ROUTES = ("AutoProcessor", "CLIPProcessor")
_PARTS = {"tokenizer": "AutoTokenizer", "image_processor": "AutoImageProcessor"}
_SPEEDS = (True, False)
# these contain the checkpoint's path
_PLACES = ("name_or_path", "init_kwargs", "vocab_file", "merges_file")
# this contains the warnings given in this process
_STATE = ("deprecation_warnings",)


def observe_processors(clip: Clip) -> dict[str, Json]:
    """Return the classes that load a processor and its parts, and the attributes of the loaded ones."""
    checkpoint = clip.subject.checkpoint
    full = checkpoint.has_tokenizer and checkpoint.has_image_processor
    found: dict[str, Json] = {}
    for routes, present in (
        (_TEXT_ROUTES, checkpoint.has_tokenizer),
        (_IMAGE_ROUTES, checkpoint.has_image_processor),
        (_FULL_ROUTES, full),
    ):
        for route in routes:
            found[f"{route}.from_pretrained()"] = _loaded(clip, route) if present else "no files to load"
    for route, present in (("AutoTokenizer", checkpoint.has_tokenizer), ("AutoProcessor", full)):
        for fast in _SPEEDS if present else ():
            found[f"{route}.from_pretrained(use_fast={fast})"] = _loaded(clip, route, use_fast=fast)
    if checkpoint.has_tokenizer:
        found |= _tokenizer(clip)
    if checkpoint.has_image_processor:
        found |= _image_processor(clip)
    return {**found, **(_processor(clip) if full else {})}


def _loaded(clip: Clip, route: str, **options: Any) -> str:
    if route.startswith("CLIP") and not hasattr(transformers_module(), route):
        return "no such class"
    return attempt(lambda: _described(clip, clip.processors.load(route, **options)))


def _described(clip: Clip, loaded: Any) -> str:
    """The class, and the classes of its parts that differ from what their own Auto class loads."""
    alone = {part: attempt(_loaded_kind, clip, route) for part, route in _PARTS.items()}
    parts = [f"{part} {_kind(getattr(loaded, part))}" for part in _PARTS if hasattr(loaded, part)]
    others = [text for text in parts if text not in (f"{part} {kind}" for part, kind in alone.items())]
    return f"{_kind(loaded)}{' with ' if others else ''}{', '.join(others)}"


def _loaded_kind(clip: Clip, route: str) -> str:
    return _kind(clip.processors.load(route))


def _kind(value: Any) -> str:
    return type(value).__name__


def _untouched(clip: Clip, *routes: str) -> Any:
    """A processor that no check has called, since some keep state, by the first route that loads one.

    None if no route does; the exceptions are recorded with the routes.
    """
    for route in routes:
        with contextlib.suppress(Exception):  # libraries raise anything, an ImportError too
            return clip.processors.load(route, source=clip.subject.checkpoint.processor_path)
    return None


def _tokenizer(clip: Clip) -> dict[str, Json]:
    tokenizer = _untouched(clip, "AutoTokenizer")
    if tokenizer is None:
        return {}
    hub = members(transformers_module("utils.hub").PushToHubMixin)
    attributes = {name: value for name, value in members(tokenizer).items() if name not in (*_PLACES, *_STATE)}
    added = {
        "__call__": signature(type(tokenizer).__call__),
        "bases": ", ".join(base.__name__ for base in type(tokenizer).__mro__[1:-1]),
        "len()": attempt(lambda: spelled(len(tokenizer))),
        "init_kwargs": ", ".join(sorted(getattr(tokenizer, "init_kwargs", {}))),
    }
    return {"tokenizer.*": {**kept_apart(attributes, hub), **added}}


def _image_processor(clip: Clip) -> dict[str, Json]:
    processor = _untouched(clip, "AutoImageProcessor", "CLIPImageProcessor")  # the class can exist by itself
    if processor is None:
        return {}
    hub = members(transformers_module("utils.hub").PushToHubMixin)
    added = {
        "__call__": signature(type(processor).__call__),
        "bases": ", ".join(base.__name__ for base in type(processor).__mro__[1:-1]),
    }
    return {
        "image_processor.*": {**_as_in_the_file(clip, processor, kept_apart(members(processor), hub)), **added},
        "image_processor.to_dict()": sorted(processor.to_dict()),
    }


def _as_in_the_file(clip: Clip, processor: Any, found: dict[str, Json]) -> dict[str, Json]:
    """Settings equal to the file's are recorded there; here only their type."""
    stated = image_processor_fields(clip.subject.checkpoint.processor_path)
    same = [name for name in found if name in stated and _equal(getattr(processor, name), stated[name])]
    return {**found, **{name: f"{_kind(getattr(processor, name))} as in the file" for name in same}}


def _equal(value: Any, stated: object) -> bool:
    if isinstance(stated, dict):
        held = value if isinstance(value, dict) else vars(value)
        return {name: item for name, item in held.items() if item is not None} == stated
    return type(value) in (list, tuple, type(stated)) and bool(_as_list(value) == _as_list(stated))


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _processor(clip: Clip) -> dict[str, Json]:
    processor = _untouched(clip, "AutoProcessor")
    if processor is None:
        return {}
    inherited = members(transformers_module("processing_utils").ProcessorMixin)
    hub = members(transformers_module("utils.hub").PushToHubMixin)
    attributes = {
        name: value for name, value in kept_apart(members(processor), inherited, hub).items() if name not in _PARTS
    }
    return {"processor.*": {**attributes, "__call__": signature(type(processor).__call__)}}
