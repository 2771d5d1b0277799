"""The surface: the observable interface of a subject as a mapping, id to plain value.

A release may change any of it and still compute the same numbers; whether a change is intended is for a person to
decide. There is one entry for each thing that can change independently, so that changes can be accepted one by one. A
mapping under an id with an asterisk holds many entries, each with its key in place of the asterisk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from clip_eval.baseline.surface.calls import observe_calls
from clip_eval.baseline.surface.classifier import observe_classifier
from clip_eval.baseline.surface.configs import observe_configs
from clip_eval.baseline.surface.constructors import observe_constructed
from clip_eval.baseline.surface.diff import ABSENT
from clip_eval.baseline.surface.exports import observe_names
from clip_eval.baseline.surface.images import observe_pictures
from clip_eval.baseline.surface.loading import observe_loading
from clip_eval.baseline.surface.models import observe_models
from clip_eval.baseline.surface.output_types import IMAGES, PAIRS, TEXTS, described, sizes_of
from clip_eval.baseline.surface.processors import observe_processors
from clip_eval.baseline.surface.saving import observe_saved
from clip_eval.baseline.surface.tokenizer_texts import observe_texts
from clip_eval.families import roles
from clip_eval.subject import quiet
from clip_eval.subject.observations import Clip
from clip_eval.subject.output_tree import as_tuple
from clip_eval.verdict.plain_values import Json

__all__ = ["observe_surface"]

_CALLS: dict[str, Callable[..., Any]] = {
    roles.WHOLE: lambda clip, **options: clip.forward(images=IMAGES, texts=TEXTS, **options),
    roles.TEXT: lambda clip, **options: clip.text_model(texts=TEXTS, **options),
    roles.VISION: lambda clip, **options: clip.vision_model(images=IMAGES, **options),
    roles.TEXT_PROJECTED: lambda clip, **options: clip.text_model_with_projection(texts=TEXTS, **options),
    roles.VISION_PROJECTED: lambda clip, **options: clip.vision_model_with_projection(images=IMAGES, **options),
}
_OPTIONS = {"output_hidden_states": True, "output_attentions": True, "return_dict": False}


def observe_surface(clip: Clip) -> dict[str, Json]:
    """Return the surface of a subject, sorted by id. Most calls of the model are shared with other checks."""
    found: dict[str, Json] = {}
    parts = (
        _outputs,
        _loss,
        _features,
        observe_names,
        observe_calls,
        observe_models,
        observe_classifier,
        observe_configs,
        observe_loading,
        observe_processors,
        observe_saved,
        observe_constructed,
        observe_texts,
        observe_pictures,
    )
    with quiet():
        for part in parts:
            found.update(part(clip))
    return {identity: found[identity] for identity in sorted(found)}


def _outputs(clip: Clip) -> dict[str, Json]:
    """Types, fields, dtypes and shapes of every class's output. For an option only what it changes is listed."""
    found: dict[str, Json] = {}
    for model_class, call in _CALLS.items():
        if not clip.holds.has(model_class):
            continue
        sizes, default = sizes_of(clip, model_class), call(clip)
        found.update(_placed(f"{model_class}()", described(default, clip, sizes)))
        for option, value in _OPTIONS.items():
            base = described(as_tuple(default) if option == "return_dict" else default, clip, sizes)
            observed = described(call(clip, **{option: value}), clip, sizes)
            found.update(_placed(f"{model_class}({option}={value})", _beyond(base, observed)))
    return found


def _loss(clip: Clip) -> dict[str, Json]:
    if not clip.holds.whole:
        return {}
    sizes = sizes_of(clip, roles.WHOLE, pairs=True)
    base = described(clip.forward(images=PAIRS, texts=PAIRS), clip, sizes)
    observed = described(clip.forward(images=PAIRS, texts=PAIRS, return_loss=True), clip, sizes)
    return _placed(f"{roles.WHOLE}(return_loss=True)", _beyond(base, observed))


def _features(clip: Clip) -> dict[str, Json]:
    if not clip.holds.whole:
        return {}
    text, image = clip.text_features(texts=TEXTS), clip.image_features(images=IMAGES)
    return {
        **_placed(f"{roles.WHOLE}.{roles.TEXT_FEATURES}()", described(text, clip, sizes_of(clip, "text"))),
        **_placed(f"{roles.WHOLE}.{roles.IMAGE_FEATURES}()", described(image, clip, sizes_of(clip, "image"))),
    }


def _placed(call: str, found: Mapping[str, str]) -> dict[str, Json]:
    return {call + path: text for path, text in found.items()}


def _beyond(base: Mapping[str, str], observed: Mapping[str, str]) -> dict[str, str]:
    """What differs from `base`, and always the description of the value itself, so that the entry is never empty."""
    gone = {path: ABSENT for path in base if path not in observed}
    return {path: text for path, text in observed.items() if path == "" or base.get(path) != text} | gone
