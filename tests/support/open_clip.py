"""An original in open_clip's layout, made back from a conversion: by hand, not by the package's own mapping."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

__all__ = ["original_config", "original_tensors", "write_original"]

_LAYER = (
    ("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"), ("attn.out_proj", "self_attn.out_proj"),
    ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2"),
)  # fmt: skip


def write_original(
    conversion: Path,
    directory: Path,
    *,
    text: str = "",
    tensors: Callable[[dict[str, Any]], object] = lambda tensors: None,
    config: Callable[[dict[str, Any]], object] = lambda config: None,
) -> Path:
    """Write open_clip_model.safetensors and open_clip_config.json, and return their directory.

    Args:
        conversion: a checkpoint of a CLIPModel in one file, in float32.
        directory: made if it is missing.
        text: the prefix of the text tower's names, "text." in open_clip's CustomTextCLIP.
        tensors: changes the tensors by open_clip's names.
        config: changes the config.
    """
    directory.mkdir(parents=True, exist_ok=True)
    found, stated = original_tensors(load_file(conversion / "model.safetensors"), text), original_config(conversion)
    tensors(found)
    config(stated)
    whole = {name: np.array(tensor, order="C") for name, tensor in found.items()}  # each of its tensor's shape
    save_file(whole, directory / "open_clip_model.safetensors")
    (directory / "open_clip_config.json").write_text(json.dumps(stated), encoding="utf-8")
    return directory


def original_tensors(tensors: dict[str, Any], text: str = "") -> dict[str, Any]:
    """The tensors by open_clip's names, queries, keys and values in one tensor, projections (width, projection)."""
    image = "vision_model.embeddings."
    return {
        f"{text}positional_embedding": tensors["text_model.embeddings.position_embedding.weight"],
        f"{text}token_embedding.weight": tensors["text_model.embeddings.token_embedding.weight"],
        f"{text}text_projection": tensors["text_projection.weight"].T,
        **_affine(tensors, f"{text}ln_final", "text_model.final_layer_norm"),
        **_layers(tensors, f"{text}transformer", "text_model"),
        "visual.class_embedding": tensors[f"{image}class_embedding"],
        "visual.positional_embedding": tensors[f"{image}position_embedding.weight"],
        "visual.conv1.weight": tensors[f"{image}patch_embedding.weight"],
        "visual.proj": tensors["visual_projection.weight"].T,
        **_affine(tensors, "visual.ln_pre", "vision_model.pre_layrnorm"),
        **_affine(tensors, "visual.ln_post", "vision_model.post_layernorm"),
        **_layers(tensors, "visual.transformer", "vision_model"),
        "logit_scale": tensors["logit_scale"],
    }


def _affine(tensors: dict[str, Any], there: str, here: str) -> dict[str, Any]:
    return {f"{there}.{kind}": tensors[f"{here}.{kind}"] for kind in ("weight", "bias")}


def _layers(tensors: dict[str, Any], there: str, here: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number in range(sum(name.startswith(here) and name.endswith("mlp.fc1.bias") for name in tensors)):
        block, layer = f"{there}.resblocks.{number}", f"{here}.encoder.layers.{number}"
        for one, other in _LAYER:
            found |= _affine(tensors, f"{block}.{one}", f"{layer}.{other}")
        for kind in ("weight", "bias"):
            parts = [tensors[f"{layer}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            found[f"{block}.attn.in_proj_{kind}"] = np.concatenate(parts)  # (3 width, ...)
    return found


def original_config(conversion: Path) -> dict[str, Any]:
    """The config that open_clip would have of the same network; it takes texts at `eos_id`."""
    config = json.loads((conversion / "config.json").read_text(encoding="utf-8"))
    text, vision = config["text_config"], config["vision_config"]
    return {
        "model_cfg": {
            "embed_dim": config["projection_dim"],
            "quick_gelu": text.get("hidden_act", "quick_gelu") == "quick_gelu",
            "text_cfg": {
                "context_length": text["max_position_embeddings"], "vocab_size": text["vocab_size"],
                "width": text["hidden_size"], "heads": text["num_attention_heads"],
                "layers": text["num_hidden_layers"], "mlp_ratio": text["intermediate_size"] / text["hidden_size"],
                "pool_type": "eos", "eos_id": text["eos_token_id"],
            },
            "vision_cfg": {
                "image_size": vision["image_size"], "patch_size": vision["patch_size"], "width": vision["hidden_size"],
                "layers": vision["num_hidden_layers"],
                "head_width": vision["hidden_size"] // vision["num_attention_heads"],
                "mlp_ratio": vision["intermediate_size"] / vision["hidden_size"],
            },
        },
        "preprocess_cfg": {
            "mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711],
            "interpolation": "bicubic", "resize_mode": "shortest",
        },
    }  # fmt: skip
