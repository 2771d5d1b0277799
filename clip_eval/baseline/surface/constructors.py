"""Constructors with arguments outside any contract, and processors with unusual requests.

Nothing here depends on the checkpoint: objects are made in Python, with a tokenizer of a tiny vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from clip_eval.baseline.surface.configs import flat
from clip_eval.baseline.surface.formatting import agreed, attempt, spelled
from clip_eval.baseline.surface.tiny_tokenizer import tiny_tokenizer
from clip_eval.subject import provides, transformers_module
from clip_eval.subject.observations import Clip
from clip_eval.subject.processors import Processors
from clip_eval.verdict.plain_values import Json

__all__ = ["observe_constructed"]

_TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")
_PICTURES = ("CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil")
_OF_PICTURES: Mapping[str, Mapping[str, Any]] = {
    "use_square_size=True": {"use_square_size": True},
    "use_square_size=False": {"use_square_size": False},
    "use_square_size=True with a size": {"use_square_size": True, "size": {"shortest_edge": 20}},
    "size=20": {"size": 20},
    "size=(20, 30)": {"size": (20, 30)},
    "size, both edges": {"size": {"shortest_edge": 20, "longest_edge": 30}},
    "size with default_to_square": {"size": 20, "default_to_square": True},
    "crop_size=20": {"crop_size": 20},
    "crop_size=None": {"crop_size": None},
    "resample=None": {"resample": None},
    "image_mean=None": {"image_mean": None},
    "image_mean=0.5": {"image_mean": 0.5},
    "do_pad=True": {"do_pad": True},
    "pad_size": {"pad_size": {"height": 40, "width": 40}},
    "data_format": {"data_format": "channels_last"},
    "input_data_format": {"input_data_format": "channels_last"},
    "device=cpu": {"device": "cpu"},
    "return_tensors=np": {"return_tensors": "np"},
    "no_such_argument=1": {"no_such_argument": 1},
}
_WHOLE_CONFIG: Mapping[str, Mapping[str, Any]] = {
    "initializer_factor=2.0": {"initializer_factor": 2.0},
    "projection_dim=None": {"projection_dim": None},
    "logit_scale_init_value=None": {"logit_scale_init_value": None},
    "logit_scale_init_value=1": {"logit_scale_init_value": 1},
    "text_config={}": {"text_config": {}},
    "text_config='a'": {"text_config": "a"},
    "text_config=[]": {"text_config": []},
    "vision_config={} with vision_config_dict={}": {"vision_config": {}, "vision_config_dict": {}},
    "text_config_dict alone": {"text_config_dict": {"vocab_size": 99}},
    "vocab_size=99": {"vocab_size": 99},
}
_AS_OBJECTS: Mapping[str, Mapping[str, bool]] = {
    "AddedToken": {},
    **{f"AddedToken({name}=True)": {name: True} for name in ("lstrip", "rstrip", "normalized", "single_word")},
}
_SPECIAL = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
_TEXT = "a <|startoftext|> b<|endoftext|>c <|ENDOFTEXT|> d"
_KINDS: Mapping[str | None, str] = {None: "list", "pt": "Tensor", "np": "ndarray"}
_REQUESTS = (
    "return_attention_mask", "return_length", "return_mm_token_type_ids", "return_offsets_mapping",
    "return_overflowing_tokens", "return_special_tokens_mask", "return_token_type_ids",
)  # fmt: skip


def observe_constructed(clip: Clip) -> dict[str, Json]:
    """Return what constructors make of odd arguments, and what is given on request."""
    processors = clip.processors
    entries: dict[str, Json] = {
        f"{name}(arguments)[*]": _arguments(processors, name, _OF_PICTURES) for name in _usable()
    }
    entries["CLIPConfig(arguments)[*]"] = _arguments(processors, "CLIPConfig", _WHOLE_CONFIG) | _sections(processors)
    for name in _TOKENIZERS:
        entries[f"{name}(special tokens)[*]"] = {
            what: attempt(_special, processors, name, options) for what, options in _AS_OBJECTS.items()
        }
        entries[f"CLIPProcessor of {name}(request)[*]"] = {
            request: agreed({str(kind): attempt(_requested, processors, name, request, kind) for kind in _KINDS})
            for request in _REQUESTS
        }
    return entries


def _usable() -> list[str]:
    return [name for name in _PICTURES if provides(name)]


def _arguments(processors: Processors, name: str, cases: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    plain = _written(processors.construct(name))
    return {what: attempt(_beyond, plain, partial(processors.construct, name, **case)) for what, case in cases.items()}


def _beyond(plain: Mapping[str, str], make: Any) -> str:
    """The settings that differ from those without arguments, or "as by default"."""
    made = _written(make())
    other = [f"{key} {made.get(key, 'gone')}" for key in sorted({*plain, *made}) if made.get(key) != plain.get(key)]
    return "; ".join(other) or "as by default"


def _written(made: Any) -> dict[str, str]:
    return {key: spelled(value) for key, value in flat(made.to_dict()).items()}


def _sections(processors: Processors) -> dict[str, str]:
    """Sections given as configs, of the right kind and of the other."""

    def made(section: str, kind: str) -> str:
        config = processors.construct("CLIPConfig", **{section: processors.construct(kind, projection_dim=20)})
        held = getattr(config, section)
        return f"{type(held).__name__}, projection_dim {held.projection_dim}"

    cases = [
        (section, kind)
        for section in ("text_config", "vision_config")
        for kind in ("CLIPTextConfig", "CLIPVisionConfig", "CLIPConfig")
    ]
    return {f"{section}={kind}()": attempt(made, section, kind) for section, kind in cases}


def _special(processors: Processors, name: str, options: Mapping[str, bool]) -> str:
    """Ids of a text with special tokens in it, where these are objects, not text."""
    by_field = {
        field: transformers_module().AddedToken(token, special=True, **options) for field, token in _SPECIAL.items()
    }
    tokenizer = tiny_tokenizer(processors, name, **by_field)
    return " ".join(map(str, processors.process(tokenizer, text=_TEXT)["input_ids"]))


def _requested(processors: Processors, name: str, request: str, kind: str | None) -> str:
    """The keys that come beside those without the request; with its type, what is not of the kind asked for."""
    pictures = processors.construct("CLIPImageProcessor")
    processor = processors.construct(
        "CLIPProcessor", image_processor=pictures, tokenizer=tiny_tokenizer(processors, name)
    )
    options = {"text": ["ab cab", "q"], "padding": True, "return_tensors": kind, "truncation": True, "max_length": 4}
    plain = processors.process(processor, **options)
    batch = processors.process(processor, **options, **{request: True})
    types = {key: type(value).__name__ for key, value in batch.items() if key not in plain}
    more = [key if held == _KINDS[kind] else f"{key} {held}" for key, held in types.items()]
    return ", ".join(more) or "nothing more"
