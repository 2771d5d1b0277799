"""Known-good variants of a checkpoint: other files, other shapes, other numbers, and nothing wrong with any of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from support.lone_towers import CLASSIFIER, TEXT, TEXT_PROJECTED, VISION, VISION_PROJECTED, write_part
from support.small_clip import write_small_clip

from faults.files import edit_json, edit_tensors, make_legacy
from faults.watch import CHECKPOINT

__all__ = ["VARIANTS", "Variant", "few_heads"]

FLOAT32, BFLOAT16, FLOAT16 = (("--clip-dtype", dtype) for dtype in ("float32", "bfloat16", "float16"))

OUTLIERS = {
    "text_model.embeddings.position_embedding.weight": (slice(None), 7),
    "text_model.encoder.layers.1.mlp.fc2.weight": (11,),
    "vision_model.pre_layrnorm.weight": (3,),
    "vision_model.encoder.layers.2.mlp.fc2.weight": (19,),
}
"""Where the outlier channels are planted: whole channels of the residual stream become 50 times as large, as a few
of real CLIPs' are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A healthy checkpoint.

    Attributes:
        id: its name.
        make: writes it into a directory that does not exist yet.
        options: pytest options of the run.
        ordinary: the major release of transformers under which ordinary runs have it, "4" or "5"; None where only
            `tox run -e faults` and `-e faults457` do, which have every variant.
        whole: it has a tokenizer and an image processor, so that the verdict must be pass; else it may be inconclusive.
    """

    id: str
    make: Callable[[Path], None]
    options: tuple[str, ...] = ()
    ordinary: str | None = None
    whole: bool = True


def stored_in_bfloat16(directory: Path) -> None:
    """Weights stored, and by default run, in bfloat16."""
    _save(directory, dtype="bfloat16")


def saved_again(directory: Path) -> None:
    """Every file written anew by the installed release, weights in one file."""
    _save(directory)


def in_shards(directory: Path) -> None:
    """The same, weights in several files with an index."""
    _save(directory, max_shard_size="400KB")


def with_position_ids(directory: Path) -> None:
    """Buffers that releases before 4.31 wrote into the file."""
    _copy(directory, _add_position_ids)


def outlier_channels(directory: Path) -> None:
    """A few channels of the residual stream, 50 times as large."""
    _copy(directory, _plant_outliers)


def scale_of_a_hundred(directory: Path) -> None:
    """The largest logit_scale that CLIP is trained with, ln 100."""
    _copy(directory, _scale)


def old_and_extreme(directory: Path) -> None:
    """All at once: old buffers and the legacy end token, outlier channels and the largest logit_scale."""
    _copy(directory, _add_position_ids, _plant_outliers, _scale)
    make_legacy(directory)


def legacy_end_token(directory: Path) -> None:
    """eos_token_id 2 as in OpenAI's checkpoints: pooling takes the largest id, which is EOS as no token was added."""
    shutil.copytree(CHECKPOINT, directory)
    make_legacy(directory)


def two_end_tokens(directory: Path) -> None:
    """eos_token_id 2 in text_config and the true one in text_config_dict: the tower alone pools by another rule."""
    shutil.copytree(CHECKPOINT, directory)
    make_legacy(directory)

    def say_both(config: dict[str, Any]) -> None:
        text = config["text_config"]
        config["text_config_dict"] = {**text, "eos_token_id": text["pad_token_id"]}

    edit_json(directory / "config.json", say_both)


def towers_that_compute_otherwise(directory: Path) -> None:
    """Activation, heads and epsilon of the sections differ from those that are laid over them for CLIPModel."""
    shutil.copytree(CHECKPOINT, directory)

    def say_others(config: dict[str, Any]) -> None:
        for section in ("text_config", "vision_config"):
            config[f"{section}_dict"] = dict(config[section])
            config[section] |= {"hidden_act": "gelu", "num_attention_heads": 2, "layer_norm_eps": 1e-3}

    edit_json(directory / "config.json", say_others)


def image_between_patches(directory: Path) -> None:
    """Images of 35 pixels in patches of 8, whose last three rows and columns no patch sees."""
    shutil.copytree(CHECKPOINT, directory)

    def enlarge(config: dict[str, Any]) -> None:
        config["vision_config"]["image_size"] = 35

    edit_json(directory / "config.json", enlarge)
    sizes = {"size": {"shortest_edge": 35}, "crop_size": {"height": 35, "width": 35}}
    edit_json(directory / "preprocessor_config.json", lambda settings: settings.update(sizes))


def gelu(directory: Path) -> None:
    """Towers with the exact GELU."""
    write_small_clip(directory, seed=1, text_config={"hidden_act": "gelu"}, vision_config={"hidden_act": "gelu"})


def many_heads(directory: Path) -> None:
    """Wider towers with many small heads and small patches."""
    write_small_clip(
        directory,
        seed=2,
        projection_dim=40,
        text_config={"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 16, "projection_dim": 40},
        vision_config={
            "hidden_size": 192, "intermediate_size": 256, "num_attention_heads": 12, "image_size": 28, "patch_size": 4,
            "num_hidden_layers": 2, "projection_dim": 40,
        },
    )  # fmt: skip


def part(role: str, **options: Any) -> Callable[[Path], None]:
    """A tower, with or without its projection, or an image classifier, saved alone."""

    def make(directory: Path) -> None:
        write_part(directory, role, **options)

    return make


def text_encoder_of_old(directory: Path) -> None:
    """A text encoder with the buffer that releases before 4.31 wrote, and a config that leaves fields out."""
    write_part(directory, TEXT_PROJECTED)
    edit_tensors(directory, lambda tensors: tensors.update(_positions("text_model", 77)))
    edit_json(directory / "config.json", lambda config: [config.pop(name) for name in ("layer_norm_eps", "hidden_act")])


def text_encoder_with_sections(directory: Path) -> None:
    """A text encoder whose config.json is the whole CLIP's, of which it reads text_config."""
    write_part(directory, TEXT)
    shutil.copyfile(CHECKPOINT / "config.json", directory / "config.json")
    edit_json(directory / "config.json", lambda config: config.update(architectures=["CLIPTextModel"]))


def few_heads(directory: Path) -> None:
    """Narrow towers with a single head, exact GELU, odd sizes and a single patch; the projection is as wide as the text
    tower.
    """
    one = {"num_attention_heads": 1, "num_hidden_layers": 1, "hidden_act": "gelu"}
    write_small_clip(
        directory,
        seed=3,
        text_config={"hidden_size": 24, "max_position_embeddings": 9, **one},
        vision_config={"hidden_size": 20, "image_size": 15, "patch_size": 15, **one},
    )


def without_processor(directory: Path) -> None:
    """A model alone, in the library's own nearly degenerate initialisation."""
    from transformers import CLIPConfig, CLIPModel

    CLIPModel(CLIPConfig.from_pretrained(CHECKPOINT)).save_pretrained(directory)


VARIANTS = (
    Variant(id="saved_again", make=saved_again),
    Variant(id="stored_in_bfloat16", make=stored_in_bfloat16, ordinary="4"),
    Variant(id="stored_in_bfloat16_run_in_float32", make=stored_in_bfloat16, options=FLOAT32),
    Variant(id="in_shards", make=in_shards, ordinary="5"),
    Variant(id="with_position_ids", make=with_position_ids),
    Variant(id="outlier_channels", make=outlier_channels),
    Variant(id="outlier_channels_in_bfloat16", make=outlier_channels, options=BFLOAT16),
    Variant(id="outlier_channels_in_float16", make=outlier_channels, options=(*FLOAT16, "--clip-attn", "eager")),
    Variant(id="scale_of_a_hundred", make=scale_of_a_hundred),
    Variant(id="scale_of_a_hundred_in_bfloat16", make=scale_of_a_hundred, options=BFLOAT16),
    Variant(id="old_and_extreme", make=old_and_extreme, options=("--clip-attn", "eager"), ordinary="4"),
    Variant(id="legacy_end_token", make=legacy_end_token),
    Variant(id="two_end_tokens", make=two_end_tokens),
    Variant(id="towers_that_compute_otherwise", make=towers_that_compute_otherwise),
    Variant(id="image_between_patches", make=image_between_patches),
    Variant(id="gelu", make=gelu),
    Variant(id="gelu_in_float16", make=gelu, options=FLOAT16, ordinary="4"),
    Variant(id="many_heads", make=many_heads, ordinary="4"),
    Variant(id="many_heads_in_bfloat16", make=many_heads, options=BFLOAT16),
    Variant(id="few_heads", make=few_heads),  # in ordinary runs gated from the command line: run/test_whole_gates.py
    Variant(id="without_processor", make=without_processor, whole=False),
    Variant(id="text_encoder", make=part(TEXT)),
    Variant(id="text_encoder_in_bfloat16", make=part(TEXT), options=BFLOAT16),
    Variant(id="text_encoder_in_eager_float16", make=part(TEXT), options=(*FLOAT16, "--clip-attn", "eager")),
    Variant(id="text_encoder_of_old", make=text_encoder_of_old),
    Variant(id="text_encoder_with_sections", make=text_encoder_with_sections),
    Variant(id="text_encoder_without_tokenizer", make=part(TEXT, processor=False), whole=False),
    Variant(id="text_encoder_projected", make=part(TEXT_PROJECTED), ordinary="5"),
    Variant(id="image_encoder", make=part(VISION)),
    Variant(id="image_encoder_stored_in_float16", make=part(VISION, dtype=np.float16), ordinary="4"),
    Variant(id="image_encoder_projected_and_nothing_else", make=part(VISION_PROJECTED, processor=False)),
    Variant(id="image_classifier", make=part(CLASSIFIER)),
    Variant(
        id="image_classifier_in_eager_bfloat16",
        make=part(CLASSIFIER),
        options=(*BFLOAT16, "--clip-attn", "eager"),
    ),
)


def _save(directory: Path, *, dtype: str = "float32", **options: Any) -> None:
    import torch
    from transformers import AutoProcessor, CLIPModel

    model = CLIPModel.from_pretrained(CHECKPOINT, dtype=getattr(torch, dtype))
    model.save_pretrained(directory, **options)
    AutoProcessor.from_pretrained(CHECKPOINT).save_pretrained(directory)


def _copy(directory: Path, *changes: Callable[[dict[str, Any]], None]) -> None:
    shutil.copytree(CHECKPOINT, directory)
    for change in changes:
        edit_tensors(directory, change)


def _add_position_ids(tensors: dict[str, Any]) -> None:
    tensors.update({**_positions("text_model", 77), **_positions("vision_model", 17)})


def _positions(tower: str, count: int) -> dict[str, Any]:
    import torch

    return {f"{tower}.embeddings.position_ids": torch.arange(count)[None]}


def _plant_outliers(tensors: dict[str, Any]) -> None:
    for name, place in OUTLIERS.items():
        tensors[name][place] *= 50


def _scale(tensors: dict[str, Any]) -> None:
    tensors["logit_scale"].fill_(4.6052)
