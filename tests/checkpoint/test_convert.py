"""Conversion of pickled weights: values stay, code never runs, and failures leave nothing."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.forked import run_program
from support.raw_safetensors import edit_json

from clip_eval.checkpoint import convert as conversion
from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.checkpoint.convert import convert
from clip_eval.errors import CheckpointError, ClipEvalError, OutputError


class Hostile:
    """An object whose pickle makes a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.mark),))


def forked(command: list[str], weights: Path, **_: int) -> subprocess.CompletedProcess[bytes]:
    """The child that reads pickles, without its start-up."""
    return run_program(command[1:], directory=weights.parent)


STARTED = conversion._followed


@pytest.fixture
def pickled(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same checkpoint with its weights only in pytorch_model.bin."""
    monkeypatch.setattr(conversion, "_followed", forked)
    directory = Path(shutil.copytree(model, tmp_path / "pickled"))
    save_state(state_of(directory), directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()
    return directory


@pytest.fixture
def started(pickled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same checkpoint, and a child that is started as for users."""
    monkeypatch.setattr(conversion, "_followed", STARTED)
    return pickled


def state_of(directory: Path) -> dict[str, Any]:
    """The state dict of a checkpoint in safetensors."""
    from safetensors.torch import load_file

    return dict(load_file(directory / "model.safetensors"))


def save_state(state: Any, file: Path, **options: Any) -> None:
    """Pickle as torch does."""
    import torch

    torch.save(state, file, **options)


def refusal(source: Path, out: Path, kind: type[ClipEvalError] = CheckpointError) -> str:
    """The paragraph with which a conversion is refused; nothing was written beside the source."""
    before = sorted(out.parent.rglob("*"))
    with pytest.raises(kind) as caught:
        convert(source, out)
    assert sorted(out.parent.rglob("*")) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_values_and_files_stay(model: Path, started: Path, tmp_path: Path) -> None:
    """Weights are bit-equal, every text file is the same, and all fingerprints agree."""
    observed, expected = convert(started, tmp_path / "new" / "out"), open_checkpoint(model)
    assert observed.path == tmp_path / "new" / "out"
    assert observed.fingerprints() == expected.fingerprints()
    for name, values in expected.weights("float64").items():
        np.testing.assert_array_equal(observed.weights("float64")[name], values)
    texts = {path.name for path in model.iterdir()} - {"model.safetensors"}
    assert {path.name for path in observed.path.iterdir()} == {*texts, "model.safetensors"}
    assert all((observed.path / name).read_bytes() == (model / name).read_bytes() for name in texts)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["out"]


def test_dtype_stays(model: Path, pickled: Path, tmp_path: Path) -> None:
    """Weights in half precision stay in half precision; an empty directory made beforehand is used."""
    import torch

    (tmp_path / "out").mkdir()
    halved = {name: tensor.to(torch.bfloat16) for name, tensor in state_of(model).items()}
    save_state(halved, pickled / "pytorch_model.bin")
    observed = convert(pickled, tmp_path / "out")
    assert observed.dtype == "bfloat16"
    assert observed.digests("bfloat16") == open_checkpoint(model).digests("bfloat16")


def test_shared_and_strided_tensors_are_written_whole(model: Path, pickled: Path, tmp_path: Path) -> None:
    """Tensors that share memory, or lie in it transposed or as parts, arrive with their own values."""
    state = state_of(model)
    for name in ("text_model.final_layer_norm.weight", "text_model.final_layer_norm.bias"):
        state[name] = state["text_model.encoder.layers.0.layer_norm1.weight"]
    fused = state["text_projection.weight"].repeat(2, 1)
    state["text_projection.weight"] = fused[24:]
    state["visual_projection.weight"] = state["visual_projection.weight"].t().contiguous().t()
    save_state(state, pickled / "pytorch_model.bin")
    observed = convert(pickled, tmp_path / "out").weights("float64")
    for name, tensor in state.items():
        np.testing.assert_array_equal(observed[name], tensor.double().numpy())


def test_old_format_is_read(model: Path, pickled: Path, tmp_path: Path) -> None:
    """Files from before torch 1.6 are no zip archives."""
    save_state(state_of(model), pickled / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert convert(pickled, tmp_path / "out").fingerprints() == open_checkpoint(model).fingerprints()


def test_shards_become_one_file(model: Path, pickled: Path, tmp_path: Path) -> None:
    """A sharded pickle with its index is converted whole."""
    state = state_of(model)
    (pickled / "pytorch_model.bin").unlink()
    places = {name: f"pytorch_model-0000{1 + index % 2}-of-00002.bin" for index, name in enumerate(state)}
    for shard in set(places.values()):
        save_state({name: state[name] for name in state if places[name] == shard}, pickled / shard)
    index_file = pickled / "pytorch_model.bin.index.json"
    index_file.write_text(json.dumps({"metadata": {}, "weight_map": places}), encoding="utf-8")
    assert convert(pickled, tmp_path / "out").fingerprints() == open_checkpoint(model).fingerprints()
    (pickled / "pytorch_model-00001-of-00002.bin").unlink()
    assert "the shard pytorch_model-00001-of-00002.bin is missing" in refusal(pickled, tmp_path / "again")


def test_hostile_pickle_does_not_run(started: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickle that would make a directory is refused with what it would do, and makes none.

    Not even where the environment tells torch to trust pickles.
    """
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    mark = tmp_path / "mark"
    save_state({"logit_scale": Hostile(mark)}, started / "pytorch_model.bin")
    message = refusal(started, tmp_path / "out")
    assert "would run posix.mkdir when it is read" in message or "would run nt.mkdir when it is read" in message
    assert str(started / "pytorch_model.bin") in message
    (started / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile(mark)))
    refusal(started, tmp_path / "out")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Hostile(mark)))
    assert mark.exists(), "the pickle is as hostile as this test needs"


def test_working_directory_is_not_imported_from(started: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch.py or safetensors.py where the user stands is not taken for the library."""
    monkeypatch.chdir(tmp_path)
    for name in ("torch.py", "safetensors.py", "json.py"):
        (tmp_path / name).write_text("raise SystemExit(7)", encoding="utf-8")
    assert convert(Path("pickled"), Path("out")).source == "out"


def test_this_process_imports_no_torch(pickled: Path, tmp_path: Path) -> None:
    """Even after a conversion torch is not loaded here."""
    code = (
        "import sys; from pathlib import Path; from clip_eval.checkpoint.convert import convert\n"
        "convert(Path(sys.argv[1]), Path(sys.argv[2])); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(pickled), str(tmp_path / "out")], check=True)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "cannot be read by torch"),
        (b"PK\x03\x04 but no archive", "cannot be read by torch"),
        (b"no pickle at all", "is not a pickle of tensors"),
    ],
)
def test_damaged_pickle_is_refused(pickled: Path, tmp_path: Path, content: bytes, expected: str) -> None:
    """A file that torch cannot read is named."""
    (pickled / "pytorch_model.bin").write_bytes(content)
    message = refusal(pickled, tmp_path / "out")
    assert expected in message
    assert str(pickled / "pytorch_model.bin") in message


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ([1, 2], "is not a state dict but a list"),
        ({"state_dict": {}}, "is not a state dict, 'state_dict' is a dict"),
        ({}, "holds no tensor of a CLIP"),
    ],
)
def test_other_content_is_refused(pickled: Path, tmp_path: Path, state: Any, expected: str) -> None:
    """A pickle that holds something else than CLIP's tensors is refused before anything appears."""
    save_state(state, pickled / "pytorch_model.bin")
    assert expected in refusal(pickled, tmp_path / "out")


def test_weights_that_disagree_are_refused(pickled: Path, tmp_path: Path) -> None:
    """Weights of other sizes than the config's name the file that the user has, not a temporary one."""
    edit_json(pickled / "config.json", lambda raw: raw["text_config"].update(vocab_size=600))
    message = refusal(pickled, tmp_path / "out")
    assert "text_config.vocab_size is 600" in message
    assert str(pickled / "pytorch_model.bin") in message


def test_source_without_pickles_is_refused(model: Path, pickled: Path, tmp_path: Path) -> None:
    """Nothing to convert, no such directory, no config: each is said."""
    assert "in safetensors already" in refusal(model, tmp_path / "out")
    assert f"The nearest name is {pickled}" in refusal(tmp_path / "pikled", tmp_path / "out")
    (pickled / "pytorch_model.bin").unlink()
    assert "has no pytorch_model.bin" in refusal(pickled, tmp_path / "out")
    (pickled / "config.json").unlink()
    assert "has no config.json" in refusal(pickled, tmp_path / "out")


def test_filled_target_is_refused(pickled: Path, tmp_path: Path) -> None:
    """An existing directory with files in it, or a file, is left alone."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").write_bytes(b"")
    assert "not empty" in refusal(pickled, tmp_path / "out", OutputError)
    assert "cannot be written" in refusal(pickled, tmp_path / "out" / "kept", OutputError)
    assert "not empty" in refusal(pickled, pickled, OutputError)


class Copies:
    """An object whose pickle makes a text of a terabyte."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (bytearray, (1 << 40,))


def packed_again(file: Path, *, zeros: int) -> None:
    """Pack an archive of torch with compression, and add so many zeros to one of its tensors."""
    with zipfile.ZipFile(file) as archive:
        content = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    grown = next(name for name in content if name.endswith("data/0"))
    content[grown] += bytes(zeros)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def test_an_archive_that_grows_when_it_is_unpacked_is_refused(pickled: Path, tmp_path: Path) -> None:
    """Sizes are looked at before anything is unpacked; an archive that was only packed again is still read."""
    packed_again(pickled / "pytorch_model.bin", zeros=0)
    convert(pickled, tmp_path / "out")
    packed_again(pickled / "pytorch_model.bin", zeros=1 << 28)
    assert "would unpack to" in refusal(pickled, tmp_path / "again")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_tensor_that_repeats_few_values_is_refused(pickled: Path, tmp_path: Path, legacy: bool) -> None:
    """One stored value can be a tensor of any size, which would be written in full."""
    import torch

    state: dict[str, Any] = {"logit_scale": torch.ones(1).expand(1 << 40)}
    save_state(state, pickled / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    assert "logit_scale has more values than are stored" in refusal(pickled, tmp_path / "out")


@pytest.mark.skipif(sys.platform != "linux", reason="memory can be limited on Linux only")
def test_a_pickle_that_asks_for_all_memory_is_refused(started: Path, tmp_path: Path) -> None:
    """What is no tensor but is allowed in a pickle, such as a bytearray, can state any size, too."""
    save_state({"logit_scale": Copies()}, started / "pytorch_model.bin")
    assert "cannot be read by torch" in refusal(started, tmp_path / "out")
