"""What an embedding depends on beside its image or text: everything that may change one of its bits.

A release gate compares releases, so the releases of the libraries count, too: what another one computed is not what
this one computes. The thread count and the model of the processor move only the last bits and do not count.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from clip_eval.subject.runtime import Runtime

__all__ = ["described", "identity_of"]

_PIXEL_FILES = ("preprocessor_config.json", "processor_config.json")
_TOKEN_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json"),
    *("added_tokens.json", "processor_config.json"),
)
_PIXEL_LIBRARIES, _TOKEN_LIBRARIES = ("pillow", "torchvision"), ("tokenizers",)


def described(runtime: Runtime) -> dict[str, dict[str, object]]:
    """Return what embeddings of "images" and of "texts" depend on, by name, as JSON values; reads every weight once.

    Nothing is loaded, neither the model nor torch.
    """
    checkpoint = runtime.checkpoint
    prints = checkpoint.fingerprints()
    model: dict[str, object] = {
        "weights": prints.weights,
        "config": prints.config,
        "runtime": runtime.name,
        "torch": _release("torch"),
        "precision": asdict(runtime.precision),
        "device": runtime.device.partition(":")[0],
        "attention": getattr(runtime, "attention", None),
    }
    images = {"image_processor": prints.image_processor, "files": _digests(checkpoint.processor_path, _PIXEL_FILES)}
    texts = {"tokenizer": prints.tokenizer, "files": _digests(checkpoint.processor_path, _TOKEN_FILES)}
    return {
        "images": {**model, **images, **{name: _release(name) for name in _PIXEL_LIBRARIES}},
        "texts": {**model, **texts, **{name: _release(name) for name in _TOKEN_LIBRARIES}},
    }


def identity_of(description: Mapping[str, object]) -> str:
    """Return a short digest of a description, 24 hexadecimal digits."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:24]


def _digests(directory: Path, names: tuple[str, ...]) -> dict[str, str]:
    """sha256 of each of these files that exists. Their bytes count, as fields that no fingerprint knows may matter."""
    files = [directory / name for name in names if (directory / name).is_file()]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@functools.cache
def _release(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
