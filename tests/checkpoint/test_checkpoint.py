"""Checkpoints on disk: what is read from them, what they are refused for, and what their fingerprints mean."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.raw_safetensors import edit_header, edit_json, split, store_as, write_raw
from support.refused import refusal
from support.small_clip import write_small_clip

from clip_eval.checkpoint import tensor_files
from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.checkpoint.dtypes import round_values
from clip_eval.errors import UsageError
from clip_eval.families.clip.tensors import expected_tensors

TOKEN_EMBEDDING = "text_model.embeddings.token_embedding.weight"


def test_saved_checkpoint_is_described(model: Path) -> None:
    """Path, dtype, config, tensors and processor files are those that were saved."""
    from transformers import CLIPModel

    observed = open_checkpoint(model)
    assert (observed.path, observed.source, observed.revision) == (model, str(model), None)
    assert observed.dtype == "float32"
    assert observed.has_tokenizer
    assert observed.has_image_processor
    assert observed.config.vision.num_hidden_layers == 3
    state = CLIPModel.from_pretrained(model).state_dict()
    shapes = {tuple(tensor.shape) for tensor in state.values()}
    assert {entry.shape for entry in observed.tensors.values()} == shapes
    assert len(observed.tensors) == len(state)
    assert set(expected_tensors(observed.config)) == set(observed.tensors)


@pytest.mark.parametrize("stored", ["float32", "bfloat16", "float16", "float64"])
def test_values_are_torchs(tmp_path: Path, stored: str) -> None:
    """Weights in every dtype equal what torch reads and rounds, to the last bit."""
    import torch
    from safetensors.torch import load_file

    directory = write_small_clip(tmp_path / "clip", dtype=stored, processor=False)
    observed = open_checkpoint(directory)
    assert observed.dtype == stored
    reference = load_file(directory / "model.safetensors")
    for dtype in ("float32", "bfloat16", "float16", "float64"):
        weights = observed.weights(dtype)
        assert len(weights) == len(reference)
        for name, tensor in reference.items():
            expected = tensor.to(getattr(torch, dtype)).double().numpy()  # the tensor's shape
            assert weights[name].dtype == np.float64
            np.testing.assert_array_equal(weights[name], expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_rounding_is_torchs(dtype: str) -> None:
    """Random bit patterns, ties, overflow, subnormal numbers, infinities and NaN round as in torch."""
    import torch

    random = np.random.Generator(np.random.PCG64(0)).integers(0, 2**32, 1 << 18, dtype=np.uint32)
    ties = np.arange(1 << 16, dtype=np.uint32) << np.uint32(16) | np.uint32(0x8000)  # (ties,)
    short = np.arange(0x33000000, 0x48000000, 0x800, dtype=np.uint32)  # (around float16's range,)
    values = np.concatenate([random, ties, short]).view(np.float32)  # (values,)
    expected = torch.from_numpy(values).to(getattr(torch, dtype)).float().numpy()  # (values,)
    np.testing.assert_array_equal(round_values(values, dtype), expected)


def test_weights_are_read_only_and_kept(model: Path) -> None:
    """Arrays that are shared between callers cannot be changed by one of them."""
    weights = open_checkpoint(model).weights("float32")
    assert weights[TOKEN_EMBEDDING] is weights[TOKEN_EMBEDDING]
    with pytest.raises(ValueError, match="read-only"):
        weights[TOKEN_EMBEDDING][0] = 0


def test_asking_for_a_tensor_does_not_read_it(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a tensor is there is known without its values, which may be gigabytes."""
    weights = open_checkpoint(model).weights("float32")
    monkeypatch.setattr(tensor_files, "read_values", lambda *_: pytest.fail("it was read"))
    assert TOKEN_EMBEDDING in weights
    assert "no.such.tensor" not in weights


def test_unknown_rounding_is_refused(model: Path) -> None:
    """A dtype that no model runs in is a usage error with the choices."""
    with pytest.raises(UsageError, match="bfloat16, float16, float32"):
        open_checkpoint(model).weights("int8")


@pytest.mark.parametrize(
    ("rest", "scale", "expected"),
    [("bfloat16", "float32", "float32"), ("bfloat16", "float16", "float32"), ("float16", "float16", "float16")],
)
def test_mixed_dtypes_give_the_widest(clip: Path, rest: str, scale: str, expected: str) -> None:
    """Where tensors differ in dtype, the checkpoint's is one that holds them all."""
    store_as(clip, lambda name: scale if name == "logit_scale" else rest)
    assert open_checkpoint(clip).dtype == expected


def test_shards_are_read_as_one(model: Path, tmp_path: Path) -> None:
    """A sharded checkpoint is the same checkpoint."""
    from transformers import CLIPModel

    CLIPModel.from_pretrained(model).save_pretrained(tmp_path / "sharded", max_shard_size="60KB")
    assert (tmp_path / "sharded" / "model.safetensors.index.json").is_file()
    observed, expected = open_checkpoint(tmp_path / "sharded"), open_checkpoint(model)
    assert observed.fingerprints().weights == expected.fingerprints().weights


def test_position_ids_of_old_files_are_ignored(clip: Path) -> None:
    """Buffers that releases before 4.31 saved are no weights and change no fingerprint."""
    expected = open_checkpoint(clip).fingerprints()
    ids = np.arange(16).astype("<i8").tobytes()
    size = len(split(clip / "model.safetensors")[1])
    field = {"dtype": "I64", "shape": [1, 16], "data_offsets": [size, size + len(ids)]}
    edit_header(clip, lambda header: header.update({"text_model.embeddings.position_ids": field}), more=ids)
    assert open_checkpoint(clip).fingerprints() == expected


def test_not_a_number_is_not_refused(clip: Path) -> None:
    """Non-finite weights open: a check reports them."""
    file = clip / "model.safetensors"
    header, data = split(file)
    begin = header["logit_scale"]["data_offsets"][0]
    write_raw(file, header, data[:begin] + np.float32("nan").tobytes() + data[begin + 4 :])
    observed = open_checkpoint(clip)
    assert np.isnan(observed.weights("bfloat16")["logit_scale"])
    assert observed.digests("bfloat16")["logit_scale"] == observed.digests("float32")["logit_scale"]


def test_checkpoints_import_no_torch() -> None:
    """Opening, downloading and converting load neither torch nor transformers into this process."""
    code = (
        "import sys, clip_eval.checkpoint.checkpoint, clip_eval.checkpoint.hub, clip_eval.checkpoint.convert\n"
        "import clip_eval.files.read_write\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class TestPlaces:
    """What can be wrong before any file is read."""

    def test_missing_path_names_the_nearest(self, model: Path) -> None:
        """A typing error is answered with the name that was meant."""
        message = refusal(model.parent / "cilp")
        assert "the checkpoint does not exist" in message
        assert f"The nearest name is {model}" in message

    def test_missing_path_without_neighbours(self, tmp_path: Path) -> None:
        """No name is near, or the parent is missing, too: the message says what can be named."""
        assert "hub id" in refusal(tmp_path / "clip")
        assert "hub id" in refusal(str(tmp_path / "no" / "clip"))

    def test_existing_parent_makes_it_a_path(self, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A text of the form org/name is no hub id where the directory `org` exists: nothing goes to the network."""
        monkeypatch.chdir(model.parent.parent)
        assert "The nearest name is" in refusal(f"{model.parent.name}/clpi")
        assert open_checkpoint(f"{model.parent.name}/clip").revision is None

    def test_path_with_a_revision_sign_wins(self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """An existing directory named like a hub id with a revision is opened."""
        shutil.copytree(model, tmp_path / "org" / "name@v1")
        monkeypatch.chdir(tmp_path)
        assert open_checkpoint("org/name@v1").path == tmp_path / "org" / "name@v1"

    def test_file_is_refused(self, model: Path) -> None:
        """A file is answered with its directory."""
        message = refusal(model / "config.json")
        assert "this is a file" in message
        assert f"Name its directory, {model}" in message

    def test_empty_directory_is_refused(self, tmp_path: Path) -> None:
        """An empty directory is called empty."""
        assert f"the directory is empty: {tmp_path}" in refusal(tmp_path)

    def test_directory_above_is_refused(self, model: Path) -> None:
        """A directory that merely has a checkpoint somewhere below is never answered with that one."""
        message = refusal(model.parent)
        assert "has no config.json" in message
        assert str(model) not in message

    def test_nearest_name_is_a_checkpoint(self, model: Path, tmp_path: Path) -> None:
        """A name beside it that is no checkpoint is not recommended."""
        (tmp_path / "clip").mkdir()
        assert "The nearest name" not in refusal(tmp_path / "clp")
        shutil.copy(model / "config.json", tmp_path / "clip")
        assert f"The nearest name is {tmp_path / 'clip'}" in refusal(tmp_path / "clp")

    def test_a_name_longer_than_any_files_is_missing(self, tmp_path: Path) -> None:
        """A path that no file system takes is a path where nothing lies."""
        assert "the checkpoint does not exist" in refusal(tmp_path / ("x" * 5000))


class TestConfig:
    """What can be wrong with config.json and its agreement with the tensors."""

    @pytest.mark.parametrize(
        ("content", "expected"), [("{", "the file is not JSON"), ("[]", "the config is not a JSON object")]
    )
    def test_damaged_config_is_refused(self, clip: Path, content: str, expected: str) -> None:
        """A config that cannot be read is named."""
        (clip / "config.json").write_text(content, encoding="utf-8")
        message = refusal(clip)
        assert expected in message
        assert str(clip / "config.json") in message

    def test_another_architecture_is_refused(self, tmp_path: Path) -> None:
        """A checkpoint of another model is named as what it is, before its weights are looked for."""
        (tmp_path / "config.json").write_text('{"model_type": "siglip"}', encoding="utf-8")
        assert "this is a siglip checkpoint, not a CLIP" in refusal(tmp_path)

    @pytest.mark.parametrize(
        ("field", "expected"),
        [
            ("text_config.vocab_size", "text_config.vocab_size is absent and defaults to 49408"),
            ("text_config.hidden_size", "text_config.hidden_size is absent and defaults to 512"),
            ("text_config.intermediate_size", "text_config.intermediate_size is absent and defaults to 2048"),
            ("text_config.max_position_embeddings", "max_position_embeddings is absent and defaults to 77"),
            ("text_config.num_hidden_layers", "2 layers on disk, but text_config.num_hidden_layers is absent"),
            ("vision_config.hidden_size", "vision_config.hidden_size is absent and defaults to 768"),
            ("vision_config.image_size", "vision_config.image_size is absent and defaults to 224"),
            ("vision_config.patch_size", "vision_config.patch_size is absent and defaults to 32"),
            ("projection_dim", "projection_dim is absent and defaults to 512"),
        ],
    )
    def test_missing_field_is_named(self, clip: Path, field: str, expected: str) -> None:
        """A field whose default does not fit the tensors is named as the cause."""

        def remove(raw: dict[str, Any]) -> None:
            *section, name = field.split(".")
            del (raw[section[0]] if section else raw)[name]
            # Heads stay divisors of the default width, so that the shape is what is wrong.
            raw["vision_config"]["num_attention_heads"] = 6

        edit_json(clip / "config.json", remove)
        assert expected in refusal(clip)

    def test_wrong_field_is_named(self, clip: Path) -> None:
        """A stated field that disagrees with a tensor is named, with both shapes."""
        edit_json(clip / "config.json", lambda raw: raw["text_config"].update(vocab_size=600))
        message = refusal(clip)
        assert f"the tensor {TOKEN_EMBEDDING} has shape (524, 32), but config.json implies (600, 32)" in message
        assert "text_config.vocab_size is 600" in message

    def test_wrong_number_of_layers_is_named(self, clip: Path) -> None:
        """Layers are counted, not listed tensor by tensor."""
        edit_json(clip / "config.json", lambda raw: raw["vision_config"].update(num_hidden_layers=2))
        assert "the vision tower has 3 layers on disk, but vision_config.num_hidden_layers is 2" in refusal(clip)
