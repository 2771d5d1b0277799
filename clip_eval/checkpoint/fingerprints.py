"""Digests of a checkpoint's meaning, independent of how its files are written.

The same model saved again, by another transformers release or in a wider dtype, has the same fingerprints. Baseline
packs store them: any change of their input needs a new schema version there. All digests are sha256, hexadecimal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_eval.checkpoint.dtypes import round_values
from clip_eval.checkpoint.tensor_files import TensorEntry, value_chunks
from clip_eval.errors import CheckpointError
from clip_eval.families.config import ClipConfig
from clip_eval.files.read_write import read_json, read_text
from clip_eval.processes import usable_cores

__all__ = [
    "Fingerprints",
    "config_fingerprint",
    "has_image_processor",
    "has_tokenizer",
    "image_processor_fields",
    "image_processor_fingerprint",
    "output_options",
    "tensor_digest",
    "tensor_digests",
    "tokenizer_fields",
    "tokenizer_fingerprint",
    "weights_fingerprint",
]

_SPECIAL_TOKENS = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
}
_OUTPUT_OPTIONS = {"output_attentions": False, "output_hidden_states": False, "return_dict": True}
_PIXEL_DEFAULTS: Mapping[str, object] = {
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "do_convert_rgb": True,
}
_CLIP_PROCESSORS = ("CLIPFeatureExtractor", "CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil")
_MOST_READERS = 8
# transformers writes int(1e30) for "no limit", which is inexact in binary
_NO_LIMIT = 10**29


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Digests of the four parts of a checkpoint; None for a missing part."""

    weights: str
    config: str
    tokenizer: str | None
    image_processor: str | None


def tensor_digest(entry: TensorEntry, dtype: str) -> str:
    """Digest of the values rounded to `dtype`, as little-endian float32; all NaNs are equal.

    A checkpoint stored in `dtype` and a wider one that rounds to it therefore have equal digests for `dtype`.

    Args:
        entry: a tensor of floating dtype.
        dtype: bfloat16, float16 or float32.
    """
    digest = hashlib.sha256()
    for chunk in value_chunks(entry):
        rounded = _with_one_nan(round_values(chunk, dtype))  # (chunk,)
        digest.update(rounded.astype("<f4", copy=False).data)
    return digest.hexdigest()


def tensor_digests(entries: Mapping[str, TensorEntry], dtype: str) -> dict[str, str]:
    """Digest of each tensor by name; files are read in several threads, a megabyte at a time.

    Args:
        entries: tensors of floating dtype by name.
        dtype: bfloat16, float16 or float32.
    """
    largest_first = sorted(entries, key=lambda name: -entries[name].size_bytes)
    with ThreadPoolExecutor(min(usable_cores(), _MOST_READERS)) as readers:
        found = readers.map(lambda name: tensor_digest(entries[name], dtype), largest_first)
        by_name = dict(zip(largest_first, found, strict=True))
    return {name: by_name[name] for name in entries}


def _with_one_nan(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The values with every NaN made the same one."""
    with np.errstate(invalid="ignore"):
        has_nan = len(values) > 0 and bool(np.isnan(values.min()))  # a quarter of the time of looking at each
    return np.where(np.isnan(values), np.float32("nan"), values) if has_nan else values


def weights_fingerprint(entries: Mapping[str, TensorEntry], digests: Mapping[str, str]) -> str:
    """Digest over canonical names, shapes and value digests of all tensors.

    Args:
        entries: canonical name to place on disk.
        digests: canonical name to value digest.
    """
    return _digest([[name, list(entries[name].shape), digests[name]] for name in sorted(entries)])


def config_fingerprint(config: ClipConfig, raw: Mapping[str, object]) -> str:
    """Digest of the model described by the config, and of the output options that it sets.

    Library versions, stored dtype, class names, training settings and the form of the file do not count.

    Args:
        config: the parsed config.
        raw: the parsed config.json.
    """
    return _digest({"config": asdict(config), "options": output_options(raw)})


def output_options(raw: Mapping[str, object]) -> dict[str, object]:
    """Return the output options in config.json that differ from their defaults, by dotted name.

    Args:
        raw: the parsed config.json.
    """
    sections = {"": raw, "text_config.": raw.get("text_config"), "vision_config.": raw.get("vision_config")}
    return {
        prefix + name: section[name]
        for prefix, section in sections.items()
        for name, default in _OUTPUT_OPTIONS.items()
        if isinstance(section, Mapping) and section.get(name, default) != default
    }


def has_tokenizer(directory: Path) -> bool:
    """Whether there are tokenizer files: tokenizer.json, or vocab.json with merges.txt."""
    return _is_file(directory, "tokenizer.json") or _is_file(directory, "vocab.json", "merges.txt")


def has_image_processor(directory: Path) -> bool:
    """Whether there are image processor settings, in preprocessor_config.json or processor_config.json.

    Raises:
        CheckpointError: processor_config.json is not JSON.
    """
    return bool(_pixel_settings(directory))


def tokenizer_fingerprint(directory: Path) -> str | None:
    """Digest of tokens with ids, merges in order, ids of the special tokens, and the length limit.

    If both forms of the tokenizer exist and disagree, both count: which one is read depends on the release.

    Raises:
        CheckpointError: a file of the tokenizer is damaged.
    """
    meaning = _tokenizer_meaning(directory)
    return None if meaning is None else _digest(meaning)


def tokenizer_fields(directory: Path) -> dict[str, object]:
    """Return the input of the tokenizer's fingerprint, by name: long parts as their number and digest.

    If two forms disagree, the names of the second have its number. Empty without a tokenizer.

    Raises:
        CheckpointError: a file of the tokenizer is damaged.
    """
    meaning = _tokenizer_meaning(directory)
    if meaning is None:
        return {}
    forms, limit = meaning
    found: dict[str, object] = {"model_max_length": limit}
    for number, form in enumerate(forms):
        place = f"form_{number + 1}." if number else ""
        found |= {f"{place}{part}": f"{len(form[part])}, digest {_digest(form[part])}" for part in ("tokens", "merges")}
        found |= {f"{place}{role}": form["special"][role] for role in form["special"]}
    return found


def _tokenizer_meaning(directory: Path) -> list[Any] | None:
    """The distinct forms of the tokenizer, and its length limit."""
    config_file = directory / "tokenizer_config.json"
    config = _object(config_file) if config_file.is_file() else {}
    forms = []
    if _is_file(directory, "tokenizer.json"):
        forms.append(_backend_form(directory / "tokenizer.json"))
    if _is_file(directory, "vocab.json", "merges.txt"):
        forms.append(_vocabulary_form(directory, config))
    if not forms:
        return None
    named = _special_tokens(directory, config)
    for form in forms:
        form["special"] = {role: form["tokens"].get(token) for role, token in named.items()}
    limit = config.get("model_max_length")
    return [_distinct(forms), limit if isinstance(limit, int) and limit < _NO_LIMIT else None]


def image_processor_fingerprint(directory: Path) -> str | None:
    """Digest of the image processor's settings, with CLIP's defaults for absent ones.

    If both files have settings and disagree, both count: which one is read depends on the release. The class counts
    only if it is not one of CLIP's own, which differ in speed and rounding.

    Raises:
        CheckpointError: a file is damaged.
    """
    settings = _pixel_settings(directory)
    return _digest(settings) if settings else None


def image_processor_fields(directory: Path) -> dict[str, object]:
    """Return the image processor's settings by name, with CLIP's defaults for absent ones. Empty without settings.

    If two files disagree, the names of the second have its number.

    Raises:
        CheckpointError: a file is damaged.
    """
    return {
        f"form_{number + 1}.{name}" if number else name: value
        for number, settings in enumerate(_pixel_settings(directory))
        for name, value in settings.items()
    }


def _digest(value: object) -> str:
    """Digest of canonical JSON: sorted keys, no spaces, shortest floats."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_file(directory: Path, *names: str) -> bool:
    return all((directory / name).is_file() for name in names)


def _object(file: Path) -> dict[str, object]:
    value = read_json(file, error=CheckpointError)
    if not isinstance(value, dict):
        raise CheckpointError("the file is not a JSON object", where=file, fix="Copy it again from its source")
    return value


def _distinct(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [value for index, value in enumerate(values) if value not in values[:index]]


def _backend_form(file: Path) -> dict[str, Any]:
    """Tokens and merges of tokenizer.json; older files write a merge as one string."""
    raw = _object(file)
    try:
        model: Any = raw["model"]
        added: Any = raw.get("added_tokens", [])
        tokens = {**model["vocab"], **{str(token["content"]): token["id"] for token in added}}
        merges = [merge.split(" ") if isinstance(merge, str) else list(merge) for merge in model["merges"]]
    except (KeyError, TypeError, AttributeError):
        return _unreadable(raw)
    return {"tokens": tokens, "merges": merges}


def _unreadable(*content: object) -> dict[str, Any]:
    """The form of files that cannot be followed, which a check reports."""
    return {"tokens": {"unreadable": _digest(content)}, "merges": []}


def _vocabulary_form(directory: Path, config: Mapping[str, object]) -> dict[str, Any]:
    """Tokens and merges of vocab.json and merges.txt, with the added tokens of other files."""
    tokens = _object(directory / "vocab.json")
    added = config.get("added_tokens_decoder")
    if isinstance(added, Mapping):
        tokens.update({_token_text(token): int(number) for number, token in added.items() if _is_id(number)})
    elif _is_file(directory, "added_tokens.json"):
        tokens.update(_object(directory / "added_tokens.json"))
    lines = read_text(directory / "merges.txt", error=CheckpointError).split("\n")
    merges = [line.split() for line in lines if line.strip() and not line.startswith("#version")]
    return {"tokens": tokens, "merges": merges}


def _is_id(number: str) -> bool:
    """Whether a key of added_tokens_decoder is a readable number; Python refuses thousands of digits."""
    return number.isdecimal() and len(number) < 20


def _special_tokens(directory: Path, config: Mapping[str, object]) -> dict[str, str]:
    """The text of each special token. special_tokens_map.json counts only if the config has the older form."""
    stated = dict(config)
    if "added_tokens_decoder" not in config and _is_file(directory, "special_tokens_map.json"):
        stated.update(_object(directory / "special_tokens_map.json"))
    return {role: _token_text(stated.get(role) or default) for role, default in _SPECIAL_TOKENS.items()}


def _token_text(token: object) -> str:
    return str(token.get("content")) if isinstance(token, Mapping) else str(token)


def _pixel_settings(directory: Path) -> list[dict[str, Any]]:
    meanings = []
    for name in ("preprocessor_config.json", "processor_config.json"):
        if _is_file(directory, name):
            raw = _object(directory / name)
            section = raw.get("image_processor", raw if name == "preprocessor_config.json" else None)
            if isinstance(section, Mapping):
                meanings.append(_pixel_meaning(section))
    return _distinct(meanings)


def _pixel_meaning(section: Mapping[str, object]) -> dict[str, Any]:
    stated = {name: section[name] for name in _PIXEL_DEFAULTS if section.get(name) is not None}
    meaning: dict[str, Any] = {**_PIXEL_DEFAULTS, **stated}
    meaning["size"] = {"shortest_edge": meaning["size"]} if isinstance(meaning["size"], int) else meaning["size"]
    meaning["crop_size"] = _square(meaning["crop_size"])
    kind = section.get("image_processor_type", section.get("feature_extractor_type", _CLIP_PROCESSORS[0]))
    meaning["kind"] = "CLIP" if kind in _CLIP_PROCESSORS else kind
    return meaning


def _square(size: object) -> object:
    return {"height": size, "width": size} if isinstance(size, int) else size
