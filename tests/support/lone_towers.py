"""Checkpoints of a part of the shipped CLIP, written without transformers: a tower, its projection, a classifier."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from clip_eval.families.registry import DEFAULT
from clip_eval.families.roles import CLASSIFIER, TEXT, TEXT_PROJECTED, VISION, VISION_PROJECTED

__all__ = [
    "CLASSIFIER",
    "LABELS",
    "PARTS",
    "SHIPPED",
    "TEXT",
    "TEXT_PROJECTED",
    "VISION",
    "VISION_PROJECTED",
    "save_part",
    "write_part",
]

SHIPPED = Path(__file__).parents[2] / "fixtures" / "shapes-clip"
PARTS = (TEXT, TEXT_PROJECTED, VISION, VISION_PROJECTED, CLASSIFIER)
LABELS = 4

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
              "merges.txt")  # fmt: skip


def write_part(directory: Path, role: str, *, processor: bool = True, dtype: Any = np.float32, **fields: Any) -> Path:
    """Write what `save_pretrained` of a class writes of the shipped checkpoint, and return the directory.

    Args:
        directory: made for it.
        role: one of `PARTS`.
        processor: whether the tokenizer or the image processor lies beside the weights.
        dtype: of the weights.
        fields: of config.json that differ.
    """
    directory.mkdir(parents=True)
    stored = load_file(SHIPPED / "model.safetensors")
    tensors = {name: values.astype(dtype) for name, values in stored.items() if DEFAULT.belongs_to(name, role)}
    if role == CLASSIFIER:
        tensors |= {name: values.astype(dtype) for name, values in _classifier(stored).items()}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((SHIPPED / "config.json").read_text(encoding="utf-8"))
    (directory / "config.json").write_text(json.dumps({**_config(config, role), **fields}), encoding="utf-8")
    names = _TOKENIZER if role in (TEXT, TEXT_PROJECTED) else ("preprocessor_config.json",)
    for name in names if processor else ():
        if (SHIPPED / name).is_file():
            shutil.copyfile(SHIPPED / name, directory / name)
    return directory


def save_part(directory: Path, role: str) -> Path:
    """Let the installed release save a class that it loads from the shipped checkpoint, and its processor beside it."""
    import torch
    import transformers

    labels = {"num_labels": LABELS} if role == CLASSIFIER else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, role).from_pretrained(SHIPPED, **labels)
    if role == CLASSIFIER:
        drawn = _classifier(load_file(SHIPPED / "model.safetensors"))
        model.classifier.load_state_dict(
            {name.removeprefix("classifier."): torch.tensor(values) for name, values in drawn.items()}
        )
    model.save_pretrained(directory)
    loader = transformers.AutoTokenizer if role in (TEXT, TEXT_PROJECTED) else transformers.AutoImageProcessor
    loader.from_pretrained(SHIPPED).save_pretrained(directory)
    return directory


def _config(whole: Mapping[str, Any], role: str) -> dict[str, Any]:
    if role == CLASSIFIER:
        labels = {str(label): f"LABEL_{label}" for label in range(LABELS)}
        return {
            **whole,
            "architectures": [role],
            "id2label": labels,
            "label2id": {v: int(k) for k, v in labels.items()},
        }
    section, kind = ("text_config", "clip_text_model") if "Text" in role else ("vision_config", "clip_vision_model")
    return {**whole[section], "model_type": kind, "architectures": [role]}


def _classifier(stored: Mapping[str, Any]) -> dict[str, Any]:
    width = len(stored["vision_model.post_layernorm.bias"])
    generator = np.random.Generator(np.random.PCG64(0))
    return {
        "classifier.weight": generator.normal(0.0, 0.3, (LABELS, width)),
        "classifier.bias": generator.normal(0.0, 0.3, LABELS),
    }
