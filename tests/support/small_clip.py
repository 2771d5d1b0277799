"""A small random CLIP checkpoint, written by the installed transformers, for tests that need files on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["MERGES", "small_config", "tokenizer_vocabulary", "write_model", "write_small_clip"]

MERGES = ("a t</w>", "c at</w>", "d o", "do g</w>", "r e", "re d</w>", "b l", "bl u", "blu e</w>")


def tokenizer_vocabulary() -> dict[str, int]:
    """Tokens and ids in CLIP's order: byte characters, the same at a word's end, merges, start and end of text."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    shifted = [chr(256 + index) for index in range(256 - len(printable))]
    characters = [*map(chr, printable), *shifted]
    merged = [merge.replace(" ", "") for merge in MERGES]
    tokens = [*characters, *(f"{character}</w>" for character in characters), *merged]
    return {token: index for index, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}


def small_config(**overrides: Any) -> dict[str, Any]:
    """Arguments of CLIPConfig: widths, heads and projection all differ, and so do the towers' depths.

    Args:
        overrides: fields of CLIPConfig; `text_config` and `vision_config` are updated field by field.
    """
    vocabulary = tokenizer_vocabulary()
    text = {
        "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 16, "vocab_size": len(vocabulary) + 1, "projection_dim": 24,
        "bos_token_id": vocabulary["<|startoftext|>"], "eos_token_id": vocabulary["<|endoftext|>"],
        "pad_token_id": vocabulary["<|endoftext|>"],
    }  # fmt: skip
    vision = {
        "hidden_size": 48, "intermediate_size": 112, "num_hidden_layers": 3, "num_attention_heads": 6,
        "image_size": 32, "patch_size": 8, "projection_dim": 24,
    }  # fmt: skip
    text.update(overrides.pop("text_config", {}))
    vision.update(overrides.pop("vision_config", {}))
    return {"projection_dim": 24, **overrides, "text_config": text, "vision_config": vision}


def write_small_clip(directory: Path, *, seed: int = 0, processor: bool = True, **overrides: Any) -> Path:
    """Save a small CLIPModel with spread weights, and its processor, as the installed transformers does.

    Args:
        directory: made if it is missing.
        seed: of the weights.
        processor: also save tokenizer and image processor. The largest id is an added token, not the end of text.
        overrides: of the config, as for `small_config`; `dtype` (default float32) is the dtype to store.

    Returns:
        The directory.
    """
    dtype = overrides.pop("dtype", "float32")
    config = write_model(directory, small_config(**overrides), seed=seed, dtype=dtype)
    if processor:
        _write_processor(Path(directory), config)
    return Path(directory)


def write_model(directory: Path, config: Mapping[str, Any], *, seed: int = 0, dtype: str = "float32") -> Any:
    """Save a CLIPModel with spread weights, without a processor, and return its CLIPConfig.

    Matrices have a spread of 1.5 / sqrt(inputs), so that embeddings of different inputs differ; the default
    initialisation is nearly degenerate.

    Args:
        directory: made if it is missing.
        config: arguments of CLIPConfig.
        seed: of the weights.
        dtype: to store.
    """
    import torch
    from transformers import CLIPConfig, CLIPModel

    model = CLIPModel(CLIPConfig(**config))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(_spread(name, parameter.shape, generator))
    model.to(getattr(torch, dtype)).save_pretrained(directory)
    return model.config


def _spread(name: str, shape: Any, generator: Any) -> Any:
    import torch

    if not shape:
        return torch.tensor(3.0)
    noise = torch.randn(shape, generator=generator)
    if "norm" in name and name.endswith("weight"):
        return 1 + 0.2 * noise
    if len(shape) == 1:
        return 0.2 * noise
    if "embedding.weight" in name and len(shape) == 2:
        return 0.5 * noise
    return noise * 1.5 / shape[1:].numel() ** 0.5


def _write_processor(directory: Path, config: Any) -> None:
    from transformers import CLIPProcessor, CLIPTokenizerFast

    raw = directory / "raw"
    raw.mkdir()
    _write(raw / "vocab.json", tokenizer_vocabulary())
    (raw / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]), encoding="utf-8")
    _write(raw / "tokenizer_config.json", {"model_max_length": config.text_config.max_position_embeddings})
    tokenizer = CLIPTokenizerFast.from_pretrained(raw)
    tokenizer.add_tokens(["<drawing>"])
    side = config.vision_config.image_size
    image_processor = _image_processor_class()(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    CLIPProcessor(image_processor=image_processor, tokenizer=tokenizer).save_pretrained(directory)
    for file in raw.iterdir():
        file.unlink()
    raw.rmdir()


def _image_processor_class() -> Any:
    """The class built on Pillow: in transformers 5 the plain name needs torchvision."""
    import transformers

    return getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
