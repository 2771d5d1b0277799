"""The surface: the observable interface of a subject as a flat mapping, id to plain value.

A release may change any of it and still compute the same numbers; whether that is wanted is for a person to say. One
entry for each thing that can change by itself, so that changes can be accepted one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from tempfile import TemporaryDirectory
from typing import Any

from clip_eval.baseline.changes import ABSENT
from clip_eval.baseline.describe import IMAGES, PAIRS, TEXTS, as_tuple, described, sizes_of
from clip_eval.baseline.stand_in import STORED, write_stand_in
from clip_eval.config import TextConfig, VisionConfig
from clip_eval.measurement import Json
from clip_eval.observe import Clip
from clip_eval.subject import MODEL_CLASSES, dtype_on_load

__all__ = ["observe_surface"]

_CALLS: dict[str, Callable[..., Any]] = {
    "CLIPModel": lambda clip, **options: clip.forward(images=IMAGES, texts=TEXTS, **options),
    "CLIPTextModel": lambda clip, **options: clip.text_model(texts=TEXTS, **options),
    "CLIPVisionModel": lambda clip, **options: clip.vision_model(images=IMAGES, **options),
    "CLIPTextModelWithProjection": lambda clip, **options: clip.text_model_with_projection(texts=TEXTS, **options),
    "CLIPVisionModelWithProjection": lambda clip, **options: clip.vision_model_with_projection(
        images=IMAGES, **options
    ),
}
_OPTIONS = {"output_hidden_states": True, "output_attentions": True, "return_dict": False}
_TEXT_ROUTES = ("AutoTokenizer", "CLIPTokenizer", "CLIPTokenizerFast")
_IMAGE_ROUTES = ("AutoImageProcessor", "CLIPImageProcessor")
_FULL_ROUTES = ("AutoProcessor", "CLIPProcessor")
_LAYER = re.compile(r"(?<=\.layers\.)\d+(?=\.)")


def observe_surface(clip: Clip) -> dict[str, Json]:
    """Return the surface of a subject, sorted by id. The model is asked little that other checks do not ask too."""
    found: dict[str, Json] = {}
    for part in (_outputs, _loss, _features, _state_dicts, _processors, _default_dtypes):
        found.update(part(clip))
    return {identity: found[identity] for identity in sorted(found)}


def _outputs(clip: Clip) -> dict[str, Json]:
    """Types, fields, dtypes and shapes of every class's output. Under an option only what it changes is listed."""
    found: dict[str, Json] = {}
    for model_class, call in _CALLS.items():
        sizes, default = sizes_of(clip, model_class), call(clip)
        found.update(_placed(f"{model_class}()", described(default, clip, sizes)))
        for option, value in _OPTIONS.items():
            base = described(as_tuple(default) if option == "return_dict" else default, clip, sizes)
            observed = described(call(clip, **{option: value}), clip, sizes)
            found.update(_placed(f"{model_class}({option}={value})", _beyond(base, observed)))
    return found


def _loss(clip: Clip) -> dict[str, Json]:
    sizes = sizes_of(clip, "CLIPModel", pairs=True)
    base = described(clip.forward(images=PAIRS, texts=PAIRS), clip, sizes)
    observed = described(clip.forward(images=PAIRS, texts=PAIRS, return_loss=True), clip, sizes)
    return _placed("CLIPModel(return_loss=True)", _beyond(base, observed))


def _features(clip: Clip) -> dict[str, Json]:
    text, image = clip.text_features(texts=TEXTS), clip.image_features(images=IMAGES)
    return {
        **_placed("CLIPModel.get_text_features()", described(text, clip, sizes_of(clip, "text"))),
        **_placed("CLIPModel.get_image_features()", described(image, clip, sizes_of(clip, "image"))),
    }


def _placed(call: str, found: Mapping[str, str]) -> dict[str, Json]:
    return {call + path: text for path, text in found.items()}


def _beyond(base: Mapping[str, str], observed: Mapping[str, str]) -> dict[str, str]:
    """What differs from `base`, and always the value as a whole: no difference must not look like no observation."""
    gone = {path: ABSENT for path in base if path not in observed}
    return {path: text for path, text in observed.items() if path == "" or base.get(path) != text} | gone


def _state_dicts(clip: Clip) -> dict[str, Json]:
    """Names of the weights as a user sees them in memory."""
    return {
        f"{model_class}.state_dict()": _collapsed(clip, model_class, clip.subject.model(model_class).state_dict())
        for model_class in MODEL_CLASSES
    }


def _collapsed(clip: Clip, model_class: str, names: Iterable[str]) -> list[str]:
    """Sorted names; one that occurs in every layer takes one line, with * for the layer's number."""
    numbers: dict[str, list[str]] = {}
    for name in names:
        numbers.setdefault(_LAYER.sub("*", name, count=1), []).extend(_LAYER.findall(name)[:1])
    found = []
    for name, layers in numbers.items():
        complete = layers in ([], [str(layer) for layer in range(_tower(clip, model_class, name).num_hidden_layers)])
        found.append(name if complete else name.replace("*", f"{{{','.join(layers)}}}", 1))
    return sorted(found)


def _tower(clip: Clip, model_class: str, name: str) -> TextConfig | VisionConfig:
    """The tower that a weight belongs to: its prefix says so, and where releases leave that out, the class."""
    prefixed = name.startswith(("text_model.", "vision_model."))
    is_text = name.startswith("text_model.") if prefixed else "Text" in model_class
    return clip.config.text if is_text else clip.config.vision


def _processors(clip: Clip) -> dict[str, Json]:
    """Class names by the class that loads them, and what a full processor is made of."""
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
    return found


def _loaded(clip: Clip, route: str) -> str:
    try:
        loaded = clip.subject.processor(route)
    except Exception as error:  # whatever the library raises is what a user sees
        return f"raises {type(error).__name__}"
    kind = type(loaded).__name__
    if route not in _FULL_ROUTES:
        return kind
    parts = (f"{part} {type(getattr(loaded, part, None)).__name__}" for part in ("tokenizer", "image_processor"))
    return f"{kind}: {', '.join(parts)}"


def _default_dtypes(clip: Clip) -> dict[str, Json]:
    """The dtype that a model gets where a user asks for none, by the dtype that its weights are stored in."""
    found: dict[str, Json] = {}
    for stored in STORED:
        with TemporaryDirectory(prefix="clip-eval-") as directory:
            write_stand_in(directory, clip.subject.checkpoint, stored)
            found[f"CLIPModel.from_pretrained().dtype[{stored}]"] = dtype_on_load(directory)
    return found
