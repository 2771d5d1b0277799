"""Parts of a CLIP on disk: towers with and without projection, image classifiers, variants, processors elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.lone_towers import (
    CLASSIFIER,
    LABELS,
    PARTS,
    SHIPPED,
    TEXT,
    TEXT_PROJECTED,
    VISION,
    VISION_PROJECTED,
    write_part,
)

from clip_eval.checkpoint.changes import watch
from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.errors import ClipEvalError, NotApplicable, UsageError
from clip_eval.families.roles import WHOLE


def message(path: Path, **options: object) -> str:
    """What a user reads of a checkpoint that is refused."""
    with pytest.raises(ClipEvalError) as caught:
        open_checkpoint(path, **options)  # type: ignore[arg-type]
    return str(caught.value)


def edit(directory: Path, change: Callable[[dict[str, np.ndarray]], object], file: str = "model.safetensors") -> None:
    """Let `change` alter the weights of a checkpoint, or write them to another file."""
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / file, metadata={"format": "pt"})


@pytest.mark.parametrize("role", PARTS)
def test_a_part_is_what_its_tensors_are(tmp_path: Path, role: str) -> None:
    """Each class's checkpoint opens as what it is, with the config of its tower and no other class's tensors."""
    opened, whole = open_checkpoint(write_part(tmp_path / "part", role)), open_checkpoint(SHIPPED)
    assert opened.holds.role == role
    assert role in opened.holds.classes
    assert not opened.holds.has(WHOLE)
    assert "holds a" in opened.notes[0]
    tower = "text" if opened.holds.texts else "vision"
    assert getattr(opened.config, tower) == getattr(whole.config, tower)
    assert set(opened.tensors) - {"classifier.weight", "classifier.bias"} < set(whole.tensors)
    assert opened.labels == (LABELS if role == CLASSIFIER else None)
    assert (opened.has_tokenizer, opened.has_image_processor) == (opened.holds.texts, opened.holds.images)
    watch(opened)


def test_sections_are_read_by_the_rule_of_a_tower(tmp_path: Path) -> None:
    """A tower alone reads text_config of a whole CLIP's config.json, whatever is laid over it there."""
    part = write_part(tmp_path / "part", TEXT)
    config = json.loads((SHIPPED / "config.json").read_text(encoding="utf-8"))
    config |= {"architectures": ["CLIPTextModel"], "text_config_dict": {**config["text_config"], "hidden_act": "gelu"}}
    (part / "config.json").write_text(json.dumps(config), encoding="utf-8")
    opened = open_checkpoint(part)
    assert opened.holds.role == TEXT
    assert opened.config.text.hidden_act == "quick_gelu"
    assert opened.standalone_config == opened.config


@pytest.mark.parametrize("role", [TEXT, VISION])
def test_names_without_the_towers_prefix(tmp_path: Path, role: str) -> None:
    """A tower that was made from a config is written without prefix by transformers 5: the names mean the same."""
    part = write_part(tmp_path / "part", role)
    expected = open_checkpoint(part)
    digests = expected.digests()

    def flatten(tensors: dict[str, np.ndarray]) -> None:
        for name in list(tensors):
            tensors[name.partition(".")[2]] = tensors.pop(name)

    edit(part, flatten)
    opened = open_checkpoint(part)
    assert opened.holds == expected.holds
    assert opened.digests() == digests


def test_what_a_part_lacks_does_not_apply(tmp_path: Path) -> None:
    """Asking a part for another one says what it holds, in one sentence."""
    holds = open_checkpoint(write_part(tmp_path / "part", VISION_PROJECTED)).holds
    assert holds.classes == (VISION, VISION_PROJECTED)
    for ask in (lambda: holds.require(WHOLE), lambda: holds.require_tower("text"), lambda: holds.tower_class("text")):
        with pytest.raises(NotApplicable, match=r"^the checkpoint holds a vision tower and its projection only\.$"):
            ask()


@pytest.mark.parametrize(
    ("role", "change", "expected"),
    [
        (
            TEXT_PROJECTED,
            lambda t: t.pop("text_projection.weight"),
            "a CLIPTextModelWithProjection, and the file holds a",
        ),
        (
            TEXT_PROJECTED,
            lambda t: t.update({"text_projection.weight": t["text_projection.weight"].T.copy()}),
            "has shape (80, 56), but config.json implies (56, 80): projection_dim is 56 and hidden_size is 80",
        ),
        (
            VISION,
            lambda t: t.pop("vision_model.post_layernorm.bias"),
            "lacks 1 tensor (vision_model.post_layernorm.bias)",
        ),
        (CLASSIFIER, lambda t: t.update({"classifier.bias": np.zeros(9, np.float32)}), "but config.json implies (4,)"),
        (
            TEXT,
            lambda t: t.update({"text_model.head.weight": np.zeros(3, np.float32)}),
            "do not belong to a CLIPTextModel",
        ),
    ],
    ids=["projection lost", "projection transposed", "norm lost", "labels", "more than a tower"],
)
def test_tensors_that_do_not_fit_are_named(
    tmp_path: Path, role: str, change: Callable[[dict[str, np.ndarray]], object], expected: str
) -> None:
    """What the class of config.json needs and the file lacks is refused with names and fields of that file."""
    part = write_part(tmp_path / "part", role)
    edit(part, change)
    assert expected in message(part)


def test_another_towers_config_is_refused(tmp_path: Path) -> None:
    """A vision tower beside the config of a text tower is neither."""
    part, other = write_part(tmp_path / "part", VISION), write_part(tmp_path / "other", TEXT)
    shutil.copyfile(other / "config.json", part / "config.json")
    assert "config.json is that of a CLIPTextModel, and the file holds a vision tower only" in message(part)


def test_variants(tmp_path: Path) -> None:
    """--variant chooses the file; others beside it are said; one that is not there is refused with those that are."""
    part = write_part(tmp_path / "part", TEXT)
    name = "text_model.final_layer_norm.bias"
    edit(
        part, lambda t: t.update({key: value.astype(np.float16) for key, value in t.items()}), "model.fp16.safetensors"
    )
    opened = open_checkpoint(part, variant="fp16")
    assert (opened.dtype, opened.tensors[name].file.name) == ("float16", "model.fp16.safetensors")
    original = opened.original()
    assert original is not None
    assert original.digests("float16") == opened.digests("float16")
    assert any("model.fp16.safetensors, which was not judged" in note for note in open_checkpoint(part).notes)
    assert "has no model.bf16.safetensors: " in message(part, variant="bf16")
    assert "The variants are fp16." in message(part, variant="bf16")
    (part / "model.safetensors").unlink()
    assert "has no model.safetensors, only model.fp16.safetensors" in message(part)
    assert open_checkpoint(part, variant="fp16").original() is None


def test_a_pipelines_tokenizer_lies_beside_its_encoder(tmp_path: Path) -> None:
    """tokenizer_2 belongs to text_encoder_2; it is found, said, and watched for changes."""
    encoder = write_part(tmp_path / "text_encoder_2", TEXT_PROJECTED, processor=False)
    assert open_checkpoint(encoder).tokenizer_absence is not None
    tokenizer = tmp_path / "tokenizer_2"
    tokenizer.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(SHIPPED / file, tokenizer / file)
    opened = open_checkpoint(encoder)
    assert opened.processor_path == tokenizer
    assert any(f"is read from {tokenizer}" in note for note in opened.notes)
    watched = watch(opened)
    (tokenizer / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    assert watched.changed() == (str(tokenizer / "tokenizer_config.json"),)


def test_a_processor_may_be_named(tmp_path: Path) -> None:
    """--processor names the directory; one that has nothing for the tower is refused."""
    bare = write_part(tmp_path / "bare", VISION_PROJECTED, processor=False)
    absence = open_checkpoint(bare).image_processor_absence
    assert absence is not None
    assert not absence.missed, "an image encoder alone needs no image processor"
    assert open_checkpoint(bare, processor=SHIPPED).has_image_processor
    other = write_part(tmp_path / "other", TEXT)
    with pytest.raises(UsageError, match="names a directory without image processor"):
        open_checkpoint(bare, processor=other)


def test_a_pipeline_in_the_hubs_cache(tmp_path: Path) -> None:
    """The commit's directory has model_index.json and no config.json: the encoder in it is read."""
    commit = "a" * 40
    snapshot = tmp_path / "models--org--name" / "snapshots" / commit
    encoder = write_part(snapshot / "text_encoder", TEXT)
    (snapshot / "model_index.json").write_text(json.dumps({"text_encoder": ["transformers", "CLIPTextModel"]}))
    (tmp_path / "models--org--name" / "refs").mkdir()
    (tmp_path / "models--org--name" / "refs" / "main").write_text(commit)
    opened = open_checkpoint(tmp_path / "models--org--name")
    assert (opened.path, opened.revision) == (encoder, commit)
    assert "model_index.json names" in opened.notes[0]
