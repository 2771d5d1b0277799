"""Names that users import, and the callables in them: CLIP's own modules, and the classes that models inherit from.

Each entry is a mapping of names to signatures. Names that come or go are one change together; each changed signature is
a change of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import ModuleType

from clip_eval.baseline.surface.formatting import kept_apart, members, signature, spelled
from clip_eval.families.roles import CLASSIFIER, IMAGE_FEATURES, MODEL_CLASSES, TEXT_FEATURES
from clip_eval.subject import transformers_module
from clip_eval.subject.observations import Clip
from clip_eval.verdict.plain_values import Json

__all__ = ["observe_names"]

_MODULES = (
    "configuration_clip",
    "feature_extraction_clip",
    "image_processing_clip",
    "image_processing_clip_fast",
    "image_processing_pil_clip",
    "modeling_clip",
    "processing_clip",
    "tokenization_clip",
    "tokenization_clip_fast",
)
# names of any release; an alias can be imported without being listed
_KNOWN = (
    "CLIPFeatureExtractor",
    "CLIPImageProcessorFast",
    "CLIPImageProcessorPil",
    "CLIPOnnxConfig",
    "CLIPTokenizerFast",
)
_NO_MODULE = "no module of its own"
_AUTO = ("AutoConfig", "AutoImageProcessor", "AutoModel", "AutoProcessor", "AutoTokenizer")
# signatures and results of these are recorded with the calls
_CALLED = ("forward", TEXT_FEATURES, IMAGE_FEATURES)


def observe_names(clip: Clip) -> dict[str, Json]:
    """Return what transformers offers of CLIP by name."""
    base = transformers_module("modeling_utils").PreTrainedModel
    module = base.__mro__[1]  # torch.nn.Module: torch's names are not transformers'
    hub = members(transformers_module("utils.hub").PushToHubMixin)
    return {
        "transformers.*": _exported(),
        **{f"transformers.models.clip.{name}.*": _module(name) for name in _MODULES},
        "PushToHubMixin.*": hub,
        "PreTrainedModel.*": kept_apart(members(base), hub, members(module)),
        "ProcessorMixin.*": kept_apart(members(transformers_module("processing_utils").ProcessorMixin), hub),
        **{f"{name}.*": members(getattr(transformers_module(), name)) for name in _AUTO},
        "bases.*": {
            base.__name__: _ancestors(base),
            **{name: _own_bases(name, base) for name in (*MODEL_CLASSES, CLASSIFIER)},
        },
    }


def _exported() -> dict[str, Json]:
    """The names of CLIP that can be imported, and the class that each stands for."""
    package = transformers_module()
    listed = {name for name in dir(package) if name.startswith("CLIP") and not name.startswith("CLIPSeg")}
    exported = ((name, getattr(package, name, None)) for name in sorted({*listed, *_KNOWN}))
    return {name: spelled(value) for name, value in exported if value is not None}


def _module(name: str) -> dict[str, Json] | str:
    try:
        module = transformers_module(f"models.clip.{name}")
    except ImportError:
        return _NO_MODULE
    # a lazy module may have this name only after it was used
    return dict(sorted(_defined(module))) if module.__name__.endswith(f".{name}") else _NO_MODULE


def _defined(module: ModuleType) -> Iterator[tuple[str, str]]:
    """Functions and classes that the module defines itself, and their public methods."""
    for name, value in vars(module).items():
        # importing another module may add a second name of a class
        if getattr(value, "__module__", None) != module.__name__ or getattr(value, "__name__", name) != name:
            continue
        yield name, "class" if inspect.isclass(value) else signature(value) if callable(value) else spelled(value)
        if inspect.isclass(value):
            yield from ((f"{name}.{inner}", text) for inner, text in _methods(value) if _is_told_here(name, inner))


def _methods(owner: type) -> Iterator[tuple[str, str]]:
    for name, value in vars(owner).items():
        function = getattr(value, "__func__", value)
        if inspect.isfunction(function) and (name in ("__init__", "__call__") or not name.startswith("__")):
            yield name, signature(function)


def _is_told_here(owner: str, name: str) -> bool:
    return not (owner in MODEL_CLASSES and name in _CALLED)


def _ancestors(owner: type) -> str:
    return ", ".join(base.__name__ for base in owner.__mro__[1:] if base is not object)


def _own_bases(name: str, base: type) -> str:
    """The bases of a model class that are CLIP's own; those of all models are recorded once."""
    owner = getattr(transformers_module(), name)
    return ", ".join(known.__name__ for known in owner.__mro__[1:] if known not in base.__mro__[1:])
