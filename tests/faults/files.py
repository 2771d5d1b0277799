"""Edits of a checkpoint's files that leave it healthy: variants by themselves, and ground for faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["edit_json", "edit_tensors", "make_gelu", "make_legacy"]


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    """Let `change` alter the content of a JSON file in place."""
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def edit_tensors(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Let `change` alter the weights of a checkpoint, name to torch tensor, in place."""
    from safetensors.torch import load_file, save_file

    path = directory / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def make_gelu(directory: Path) -> None:
    """Let the config of both towers say gelu."""

    def change(config: dict[str, Any]) -> None:
        for tower in ("text_config", "vision_config"):
            config[tower]["hidden_act"] = "gelu"

    edit_json(directory / "config.json", change)


def make_legacy(directory: Path) -> None:
    """Give the config the legacy eos_token_id 2, and take out the added token: EOS is the largest id, as the rule
    needs.
    """

    def drop_the_added_token(tensors: dict[str, Any]) -> None:
        name = "text_model.embeddings.token_embedding.weight"
        tensors[name] = tensors[name][:-1].clone()

    edit_tensors(directory, drop_the_added_token)
    edit_json(directory / "config.json", _say_legacy)
    edit_json(directory / "tokenizer.json", lambda data: data["added_tokens"].pop())
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        edit_json(directory / name, _forget_added_token)


def _say_legacy(config: dict[str, Any]) -> None:
    config["text_config"]["vocab_size"] -= 1
    config["text_config"]["eos_token_id"] = 2


def _forget_added_token(data: dict[str, Any]) -> None:
    data.pop("additional_special_tokens", None)
    data.pop("extra_special_tokens", None)
    decoder = data.get("added_tokens_decoder", {})
    decoder.pop(max(decoder, key=int, default=""), None)
