"""Opening the original of a conversion: what is there is read, and anything else is refused with what to do."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.open_clip import write_original
from support.raw_safetensors import edit_json, write_raw

from clip_eval.checkpoint.checkpoint import Checkpoint, open_checkpoint
from clip_eval.checkpoint.conversion import config_differences, tensor_differences
from clip_eval.checkpoint.original import Original, open_original
from clip_eval.errors import CheckpointError
from clip_eval.families.family import Stated

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def conversion(bare_model: Path) -> Checkpoint:
    """The conversion."""
    return open_checkpoint(bare_model)


@pytest.fixture
def original(bare_model: Path, tmp_path: Path) -> Path:
    """A directory in open_clip's layout."""
    return write_original(bare_model, tmp_path / "original")


def refusal(named: object, conversion: Checkpoint) -> str:
    """The paragraph with which an original is refused."""
    with pytest.raises(CheckpointError) as caught:
        open_original(str(named), conversion)
    return str(caught.value)


def stated(opened: Original) -> dict[str, object]:
    """Field to value of the original's config."""
    assert opened.settings is not None
    return {field: found.value for field, found in opened.settings.config.items()}


def test_every_tensor_has_its_place(original: Path, conversion: Checkpoint) -> None:
    """Nothing is missing or left over, and a part of a fused tensor is a third of it."""
    opened = open_original(str(original), conversion)
    assert (opened.missing, opened.left_over) == ((), ())
    part = opened.entry("vision_model.encoder.layers.1.self_attn.k_proj.weight")
    assert part is not None
    assert (part.stored_name, part.shape) == ("visual.transformer.resblocks.1.attn.in_proj_weight", (48, 48))
    assert part.offset_bytes == opened.tensors[part.stored_name].offset_bytes + part.size_bytes


@pytest.mark.parametrize(
    "parts", [("text_model.",), ("text_model.", "text_projection."), ("vision_model.", "visual_projection.")]
)
def test_a_tower_alone_is_held_to_its_own_tensors(
    original: Path, conversion: Checkpoint, parts: tuple[str, ...]
) -> None:
    """Of the original only that tower counts, and all of its layers do."""
    tensors = {name: entry for name, entry in conversion.tensors.items() if name.startswith(parts)}
    tower = replace(conversion, tensors=tensors)
    opened = open_original(str(original), tower)
    assert list(tensor_differences(tower, opened)) == []
    for section in ("text", "vision"):
        wrong = {field: Stated(-1, "") for field in stated(opened) if field.startswith(f"{section}_config")}
        assert bool(config_differences(tower, wrong)) == (f"{section}_model." in parts)
    assert config_differences(tower, {"projection_dim": Stated(7, "")}) == ()
    shorter = replace(tower, tensors={name: entry for name, entry in tensors.items() if ".layers.1." not in name})
    assert {found.kind for found in tensor_differences(shorter, open_original(str(original), shorter))} == {"left over"}


def test_open_clips_defaults_are_in_effect(original: Path, conversion: Checkpoint) -> None:
    """A config that says the least is that of ViT-B/16: gelu, pooled at the largest id, heads of 64."""
    least = {"embed_dim": 512, "text_cfg": {}, "vision_cfg": {}}
    edit_json(original / "open_clip_config.json", lambda config: config.update(model_cfg=least, preprocess_cfg={}))
    opened = open_original(str(original), conversion)
    assert stated(opened) == {
        "projection_dim": 512,
        "text_config.hidden_size": 512, "text_config.intermediate_size": 2048, "text_config.num_hidden_layers": 12,
        "text_config.hidden_act": "gelu", "text_config.layer_norm_eps": 1e-5, "text_config.num_attention_heads": 8,
        "text_config.max_position_embeddings": 77, "text_config.vocab_size": 49408, "text_config.eos_token_id": None,
        "vision_config.hidden_size": 768, "vision_config.intermediate_size": 3072,
        "vision_config.num_hidden_layers": 12, "vision_config.hidden_act": "gelu",
        "vision_config.layer_norm_eps": 1e-5, "vision_config.num_attention_heads": 12, "vision_config.patch_size": 16,
        "vision_config.image_size": 224,
    }  # fmt: skip
    assert opened.settings is not None
    pixels = {name: found.value for name, found in opened.settings.pixels.items()}
    assert pixels["resample"] == 3
    assert (pixels["size"], pixels["crop_size"]) == (224, (224, 224))


def test_sizes_that_are_computed(original: Path, conversion: Checkpoint) -> None:
    """ViT-bigG/14: 104 channels a head, and an inner width that is cut to an integer."""
    vision = {"width": 1664, "head_width": 104, "mlp_ratio": 4.9231, "image_size": [224, 224], "act_kwargs": None}
    edit_json(original / "open_clip_config.json", lambda config: config["model_cfg"].update(vision_cfg=vision))
    found = stated(open_original(str(original), conversion))
    assert found["vision_config.intermediate_size"] == 8192
    assert (found["vision_config.num_attention_heads"], found["vision_config.image_size"]) == (16, 224)


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("vision_cfg", {"layers": [3, 4, 6, 3]}),
        ("vision_cfg", {"image_size": [224, 336]}),
        ("vision_cfg", {"timm_model_name": "vit_base_patch16_224"}),
        ("text_cfg", {"pool_type": "last"}),
        ("text_cfg", {"pool_type": "eos", "eos_id": 2}),
        ("text_cfg", {"norm_kwargs": {"elementwise_affine": False}}),
        ("text_cfg", {"act_kwargs": {"approximate": ["tanh"]}}),
        ("text_cfg", {"no_causal_mask": True}),
    ],
)
def test_what_a_clip_cannot_compute(
    original: Path, conversion: Checkpoint, section: str, values: dict[str, object]
) -> None:
    """Each setting without a counterpart is named, and nothing is said in its place."""
    edit_json(original / "open_clip_config.json", lambda config: config["model_cfg"].update(quick_gelu=False))
    edit_json(original / "open_clip_config.json", lambda config: config["model_cfg"][section].update(values))
    opened = open_original(str(original), conversion)
    assert opened.settings is not None
    assert [f"model_cfg.{section}.{next(iter(values))}" in clause for clause in opened.settings.foreign] == [True]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda config: config.update(model_cfg=None), "model_cfg is missing"),
        (lambda config: config["model_cfg"].pop("text_cfg"), "model_cfg.text_cfg is missing"),
        (lambda config: config["model_cfg"].pop("embed_dim"), "model_cfg.embed_dim is missing"),
        (lambda config: config["model_cfg"].update(quick_gelu="yes"), "quick_gelu is 'yes', not true or false"),
        (lambda config: config["model_cfg"]["text_cfg"].update(width=-1), "width is -1, not a positive integer"),
        (lambda config: config["model_cfg"]["text_cfg"].update(act_kwargs=3), "act_kwargs is 3, not an object"),
        (lambda config: config["model_cfg"]["vision_cfg"].update(mlp_ratio=1e300), "mlp_ratio is 1e+300"),
        (lambda config: config["model_cfg"]["vision_cfg"].update(head_width=64), "no head fits"),
        (lambda config: config["preprocess_cfg"].update(mean=[0.5]), "mean is [0.5], not three numbers"),
        (lambda config: config["preprocess_cfg"].update(interpolation="lanczos"), "not one of bicubic, bilinear"),
    ],
)
def test_a_config_without_sense_is_refused(original: Path, conversion: Checkpoint, change: Change, says: str) -> None:
    """The field and the file are named."""
    edit_json(original / "open_clip_config.json", change)
    message = refusal(original, conversion)
    assert says in message
    assert str(original / "open_clip_config.json") in message


def test_paths_that_lead_nowhere(original: Path, conversion: Checkpoint, tmp_path: Path) -> None:
    """The nearest name is given, or what would be there."""
    assert f"The nearest name is {original}." in refusal(tmp_path / "orignal", conversion)
    assert "hf download org/name --revision v1 --local-dir DIR" in refusal("org/name@v1", conversion)
    assert "Name a directory with the files of open_clip" in refusal("x" * 5000, conversion)
    assert "the directory has no open_clip_model.safetensors" in refusal(conversion.path, conversion)
    (tmp_path / "empty").mkdir()
    assert "the directory has no open_clip_model.safetensors" in refusal(tmp_path / "empty", conversion)
    os.mkfifo(tmp_path / "pipe")
    assert "it is a named pipe" in refusal(tmp_path / "pipe", conversion)


def test_other_files_are_refused(conversion: Checkpoint, tmp_path: Path) -> None:
    """A conversion, a file of another model, a header without end."""
    assert "its names are those of a conversion" in refusal(conversion.path / "model.safetensors", conversion)
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    other = write_raw(tmp_path / "other.safetensors", {"layer.weight": entry}, b"1234")
    assert "it holds 1 tensor (layer.weight)" in refusal(other, conversion)
    huge = write_raw(tmp_path / "huge.safetensors", b"{}", b"", header_bytes=1 << 40)
    assert "its header would take" in refusal(huge, conversion)


def test_a_pickle_is_refused_with_the_command_that_converts_it(
    original: Path, conversion: Checkpoint, tmp_path: Path
) -> None:
    """The command makes a file that is read."""
    import torch
    from safetensors.torch import load_file

    weights = original / "open_clip_model.safetensors"
    torch.save({"epoch": 3, "state_dict": load_file(weights)}, original / "epoch_3.pt")
    weights.unlink()
    for named in (original, original / "epoch_3.pt"):
        message = refusal(named, conversion)
        assert "a pickle, a format that can run code" in message
    code = shlex.split(message.partition("python -c ")[2])[0]
    subprocess.run([sys.executable, "-c", code], cwd=original, check=True)
    assert open_original(str(original / "epoch_3.safetensors"), conversion).missing == ()
