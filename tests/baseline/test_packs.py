"""Packs on disk: round trip, text for review, and every reason to refuse one."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save
from support.packs import RECORD, SOME_SURFACE, TENSOR, edit_manifest, record_small, reseal, session_on, surface_file
from support.small_clip import write_small_clip

from clip_eval.baseline import Environment, Pack, PackedTask, open_pack
from clip_eval.baseline.pack import Approved
from clip_eval.baseline.write_pack import record_arrays, task_text, write_pack
from clip_eval.errors import PackError
from clip_eval.run.hermetic_pytest import run_gate
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings


def refusal(directory: Path) -> str:
    """Return the paragraph with which a pack is refused."""
    with pytest.raises(PackError) as refused:
        open_pack(directory)
    text = str(refused.value)
    assert "\n" not in text
    assert str(directory) in text
    return text


def test_a_pack_reads_back_as_it_was_written(model: Path, tmp_path: Path) -> None:
    """Every part of a pack survives: checkpoint, tensors, environments, inputs, outputs and errors, bit for bit."""
    written = record_small(model, tmp_path / "pack", SOME_SURFACE)
    found = open_pack(tmp_path / "pack")
    for field in dataclasses.fields(Pack):
        if field.name not in ("inputs", "outputs", "digest"):
            assert getattr(found, field.name) == getattr(written, field.name), field.name
    before, after = record_arrays(written), record_arrays(found)
    assert list(before) == list(after)
    for name, values in before.items():
        assert (after[name].shape, after[name].dtype) == (values.shape, values.dtype)
        np.testing.assert_array_equal(after[name], values)
    assert len(found.digest) == 64


def test_a_pack_names_no_place_of_the_machine(pack_path: Path, model: Path) -> None:
    """A pack is shared: the checkpoint appears by name, not by path."""
    text = (pack_path / "pack.json").read_text(encoding="utf-8")
    assert json.loads(text)["checkpoint"]["source"] == model.name
    assert str(model.parent) not in text


def test_the_same_pack_gives_the_same_bytes(pack_path: Path, tmp_path: Path) -> None:
    """Writing what was read changes nothing, so that an added environment is all that a review shows."""
    write_pack(tmp_path / "pack", open_pack(pack_path))
    assert {file.name: file.read_bytes() for file in (tmp_path / "pack").iterdir()} == {
        file.name: file.read_bytes() for file in pack_path.iterdir()
    }


def test_the_manifest_is_read_by_lines(pack_path: Path) -> None:
    """pack.json is sorted and has one line a tensor."""
    text = (pack_path / "pack.json").read_text(encoding="utf-8")
    names = [line.split('"')[1] for line in text.splitlines() if '"float32": "' in line]
    assert names == sorted(json.loads(text)["tensors"])
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_no_pack_is_refused(tmp_path: Path, pack_path: Path, model: Path) -> None:
    """What is no pack is refused with what it is, and the nearest name."""
    assert f"The nearest name is {pack_path}" in refusal(pack_path.with_name("clop"))
    assert "this is a file" in refusal(pack_path / "pack.json")
    assert "it has no pack.json" in refusal(tmp_path)
    assert "This is a checkpoint: clip-eval record" in refusal(model)


def test_a_newer_pack_is_refused(damaged: Path) -> None:
    """A pack of a later form is refused with both versions, whatever else it holds."""
    (damaged / "pack.json").write_text('{"schema_version": 2, "unknown": true}', encoding="utf-8")
    assert "schema_version 2 and this clip-eval reads up to 1" in refusal(damaged)


def test_unreadable_json_is_refused(damaged: Path) -> None:
    """A cut pack.json is refused with the place."""
    text = (damaged / "pack.json").read_text(encoding="utf-8")
    (damaged / "pack.json").write_text(text[: len(text) // 2], encoding="utf-8")
    assert "the file is not JSON" in refusal(damaged)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda data: data.pop("tensors"), "'tensors' is a required property"),
        (lambda data: data.pop("schema_version"), "'schema_version' is a required property"),
        (lambda data: data["checkpoint"]["fingerprints"].pop("tokenizer"), "checkpoint.fingerprints: 'tokenizer'"),
        (lambda data: data.update(environments=[]), "environments"),
        (lambda data: data["tensors"][TENSOR].update(float16="short"), "'short' does not match"),
        (lambda data: data["tensors"].pop(TENSOR), "the pack's tensors are not those of its config"),
        (lambda data: data["checkpoint"]["config"]["text"].pop("hidden_size"), "tensors are not those of its config"),
        (lambda data: data["checkpoint"]["config"]["text"].update(depth=3), "the pack's config has another form"),
        (lambda data: data["checkpoint"]["config"]["text"].update(num_hidden_layers=10**9), "more layers than the"),
        (lambda data: data["checkpoint"]["config"]["text"].update(hidden_size=-32), "text.hidden_size is -32"),
        (lambda data: data["checkpoint"]["config"]["vision"].update(patch_size=0), "vision.patch_size is 0"),
        (lambda data: data["checkpoint"]["config"].update(projection_dim=24.0), "projection_dim is 24.0"),
        (lambda data: data["record"].update(attention="sdpa"), "with sdpa attention, which it does not approve"),
        (lambda data: data["files"].pop(RECORD), f"states no sha256 of {RECORD}"),
        (lambda data: data["environments"].append(data["environments"][0]), "approves an environment twice"),
        (lambda data: data["environments"][0].update(transformers="5.x?"), "transformers release '5.x?'"),
        (lambda data: data["environments"][0].update(surface="../pack.json"), "'../pack.json' does not match"),
    ],
)
def test_an_incomplete_manifest_is_refused(damaged: Path, edit: Callable[[dict[str, Any]], Any], expected: str) -> None:
    """A part that is missing, or does not belong to the others, is named."""
    edit_manifest(damaged, edit)
    assert expected in refusal(damaged)


def test_missing_and_changed_files_are_refused(damaged: Path) -> None:
    """A file that is gone, cut or edited by hand is named; the digest tells."""
    content = (damaged / RECORD).read_bytes()
    (damaged / RECORD).unlink()
    assert f"incomplete, it has no {RECORD}" in refusal(damaged)
    (damaged / RECORD).write_bytes(content[:-100])
    assert f"has {len(content) - 100} bytes instead of {len(content)}" in refusal(damaged)
    (damaged / RECORD).write_bytes(content)
    text = (damaged / surface_file()).read_text(encoding="utf-8")
    (damaged / surface_file()).write_text(text.replace("CLIPOutput", "CLIPoutput"), encoding="utf-8")
    assert "its sha256 is not the one" in refusal(damaged)
    assert surface_file() in refusal(damaged)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda arrays: arrays.pop("outputs.loss"), "lacks outputs.loss"),
        (lambda arrays: arrays.pop("inputs.interior_mask"), "lacks inputs.interior_mask"),
        (
            lambda arrays: arrays.update({"errors.loss": np.zeros(2, np.float32)}),
            "errors.loss has the shape (2,), and the model's has ()",
        ),
        (lambda arrays: arrays["inputs.input_ids"].__setitem__((0, 1), -1), "inputs.input_ids holds the token id -1"),
        (lambda arrays: arrays["inputs.input_ids"].__setitem__((0, 1), 10**6), "holds the token id 1000000"),
        (lambda arrays: arrays["inputs.interior_mask"].fill(2), "inputs.interior_mask is not a mask of 0 and 1"),
        (lambda arrays: arrays.update({"inputs.pixel_values": np.zeros((), np.float32)}), "which are no 5 images"),
        (lambda arrays: arrays["inputs.pixel_values"].fill(np.inf), "inputs.pixel_values holds a NaN or an infinity"),
        (
            lambda arrays: arrays.update({"inputs.input_ids": arrays["inputs.input_ids"].astype(np.int32)}),
            "inputs.input_ids is int32, not int64",
        ),
        (lambda arrays: arrays["outputs.text_embeds"].fill(np.nan), "outputs.text_embeds holds a NaN or an infinity"),
        (
            lambda arrays: arrays.update({"inputs.pixel_values": np.zeros((5, 3, 8, 8), np.float32)}),
            "holds images of 3 x 8 x 8",
        ),
    ],
)
def test_a_record_that_cannot_be_compared_is_refused(
    damaged: Path, edit: Callable[[dict[str, Any]], Any], expected: str
) -> None:
    """A numeric record is looked at beyond its digest: every array, finite, in shape."""
    arrays = {name: values.copy() for name, values in load((damaged / RECORD).read_bytes()).items()}
    edit(arrays)
    reseal(damaged, RECORD, save(arrays))
    assert expected in refusal(damaged)


@pytest.mark.parametrize("name", ["pack.json", RECORD])
def test_a_pipe_in_place_of_a_file_is_refused(damaged: Path, name: str) -> None:
    """To open a named pipe would be to wait for ever."""
    (damaged / name).unlink()
    os.mkfifo(damaged / name)
    assert "it is a named pipe, not a regular file" in refusal(damaged)


@pytest.mark.parametrize("content", [b"[]", b"{}"])
def test_an_empty_surface_is_refused(damaged: Path, content: bytes) -> None:
    """A surface without entries would approve nothing and hide everything."""
    reseal(damaged, surface_file(), content)
    assert "not a JSON object of ids and values" in refusal(damaged)


def test_a_file_that_is_no_safetensors_is_refused(damaged: Path) -> None:
    """A record in another format is named as such."""
    reseal(damaged, RECORD, b"not a record")
    assert "it is not a safetensors file" in refusal(damaged)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"vision_config": {"image_size": 16}}, "images of 3 x 32 x 32, and the config says 3 x 16 x 16"),
        ({"text_config": {"max_position_embeddings": 8}}, "texts of 16 tokens, and the config says 8"),
        ({"text_config": {"vocab_size": 100, "bos_token_id": 1, "eos_token_id": 98}}, "the config says 100 tokens"),
    ],
)
def test_a_pack_of_another_architecture_is_refused(
    pack_path: Path, tmp_path: Path, overrides: dict[str, Any], expected: str
) -> None:
    """A candidate that cannot be given the pack's inputs is refused, unless it is to replace the approved model."""
    other = write_small_clip(tmp_path / "other", processor=False, **overrides)
    with pytest.raises(PackError, match=expected):
        session_on(other, pack=pack_path).open_inputs()
    session_on(other, pack=pack_path, new_weights=True).open_inputs()


def test_a_bad_pack_stops_the_gate_before_anything_runs(model: Path, tmp_path: Path) -> None:
    """`gate --baseline` opens the pack first: no child is started, no report is written."""
    with pytest.raises(PackError, match="the pack does not exist"):
        run_gate(Settings(model=str(model), baseline=str(tmp_path / "none"), out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_nearest_environment_is_the_own_or_the_newest(session: Session) -> None:
    """An approved environment is compared with itself, another with the newest release, if it can in its attention."""
    some = Approved({"a": "b"}, {})
    known = [("4.57.6", "eager"), ("5.9.0", "eager"), ("5.23.0", "eager"), ("5.23.0", "sdpa"), ("4.57.6", "flash")]
    environments = {Environment(*entry): some for entry in known}
    pack = dataclasses.replace(session.baseline.pack, environments=environments)
    for asked, nearest in {
        ("5.9.0", "eager"): ("5.9.0", "eager"),
        ("5.9.0", "sdpa"): ("5.23.0", "sdpa"),
        ("4.57.7", "eager"): ("5.23.0", "eager"),
        ("6.0.0.dev0", "sdpa"): ("5.23.0", "sdpa"),
    }.items():
        assert pack.nearest(Environment(*asked)) == Environment(*nearest)
    assert pack.nearest(Environment("4.57.7", "flash")).transformers == "5.23.0"


def test_attention_kernels_of_the_hub_have_a_file_of_their_own() -> None:
    """Names with slashes become one file name, each its own."""
    assert Environment("5.23.0", "org/kernel").file == "surface-5.23.0-org%2Fkernel.json"


TASKS = {
    "zero_shot": PackedTask(dataset="digest", samples=("a", "b"), values={"top1": (1.0, 0.0)}),
    "text_to_image": PackedTask(
        dataset="digest",
        samples=("b", "b", "a"),  # two captions and one, in another order
        values={"recall_at_1": (1.0, 0.0, 1.0), "rank": (1.0, 4_000.0, 1.0), "distance": (-0.5, 1e-17, 0.1 + 0.2)},
    ),
}


def test_values_of_tasks_are_kept(session: Session, tmp_path: Path) -> None:
    """The values of each sample travel in a file of their own, bit for bit, also through a second writing."""
    write_pack(tmp_path / "pack", dataclasses.replace(session.baseline.pack, tasks=TASKS))
    found = open_pack(tmp_path / "pack")
    assert found.tasks == TASKS
    assert list(found.tasks["text_to_image"].values) == ["distance", "rank", "recall_at_1"]
    write_pack(tmp_path / "again", found)
    assert (tmp_path / "again/tasks.json").read_bytes() == (tmp_path / "pack/tasks.json").read_bytes()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", "does not hold the values of any task"),
        ('{"zero_shot_top1": {"dataset": "d", "hits": {"a": true}}}', "in another form, that of another clip-eval"),
        ('{"zero_shot": {"dataset": "d", "scores": ["top1"], "samples": {}}}', "does not hold the values"),
        ('{"zero_shot": {"dataset": "d", "scores": ["top1"], "samples": {"a": [true]}}}', "does not hold the values"),
        ('{"zero_shot": {"dataset": "d", "scores": ["top1"], "samples": {"a": []}}}', "does not hold the values"),
        ('{"zero_shot": {"dataset": "d", "scores": ["a", "b"], "samples": {"a": [1]}}}', "does not hold the values"),
        ('{"zero_shot": {"dataset": "d", "scores": ["a", "a"], "samples": {"a": [1, 1]}}}', "does not hold the values"),
        ('{"zero_shot": {"dataset": "d", "scores": [], "samples": {"a": [1]}}}', "does not hold the values"),
        ('{"zero_shot": {"dataset": 1, "scores": ["top1"], "samples": {"a": [1]}}}', "does not hold the values"),
        ('{"zero_shot": {"dataset": "d", "scores": 3, "samples": [1]}}', "does not hold the values"),
    ],
)
def test_other_task_files_are_refused(session: Session, tmp_path: Path, text: str, expected: str) -> None:
    """A file without values, of the form that held hits only, or with rows that do not fit is refused."""
    write_pack(tmp_path / "pack", dataclasses.replace(session.baseline.pack, tasks=TASKS))
    reseal(tmp_path / "pack", "tasks.json", text.encode())
    assert expected in refusal(tmp_path / "pack")


def test_five_thousand_images_take_less_than_a_megabyte() -> None:
    """One score takes 100 kB; four of images and four of five captions each, with ranks, stay below 1 MB."""
    ids = [f"{80_000_000 + index}_p0" for index in range(5_000)]
    captions = tuple(name for name in ids for _ in range(5))
    hits = PackedTask(dataset="d" * 64, samples=tuple(ids), values={"top1": (1.0,) * 5_000})
    ranked = {f"recall_at_{k}": (1.0,) * 25_000 for k in (1, 5, 10)} | {"rank": (4_321.0,) * 25_000}
    both = {"zero_shot": hits, "text_to_image": PackedTask(dataset="d" * 64, samples=captions, values=ranked)}
    assert len(task_text({"zero_shot": hits})) < 120_000
    assert len(task_text(both)) < 800_000


def test_all_tasks_of_five_thousand_images_take_less_than_a_megabyte(session: Session, tmp_path: Path) -> None:
    """Six tasks, some with values that are no whole numbers, which scores give in six digits."""
    generator = np.random.default_rng(0)
    ids = tuple(f"{80_000_000 + index}_p0" for index in range(5_000))

    def packed(samples: tuple[str, ...], *names: str) -> PackedTask:
        found = {name: tuple(generator.integers(0, 2, len(samples)).astype(float).tolist()) for name in names}
        kinds = {
            "rank": generator.integers(1, 2_000, len(samples)).astype(float),
            "score": generator.random(len(samples)).round(6),
        }
        found |= {name: tuple(kinds[name].tolist()) for name in names if name in kinds}
        return PackedTask(dataset="d" * 64, samples=samples, values=found)

    tasks = {
        "zero_shot": packed(ids, "top1", "top5", "recall", "score"),
        "image_to_text": packed(ids, "recall_at_1", "recall_at_5", "recall_at_10", "rank"),
        "text_to_image": packed(
            tuple(name for name in ids for _ in range(5)), "recall_at_1", "recall_at_5", "recall_at_10", "rank"
        ),
        "linear_probe": packed(ids, "top1"),
        "caption_choice": packed(ids, "top1"),
        "multi_label": packed(tuple(name for name in ids for _ in range(20)), "rank"),
    }
    write_pack(tmp_path / "pack", dataclasses.replace(session.baseline.pack, tasks=tasks))
    assert sum(file.stat().st_size for file in (tmp_path / "pack").iterdir()) < 1_000_000
    assert not (tmp_path / "pack/tasks.json").exists()
    assert open_pack(tmp_path / "pack").tasks == tasks
    packed_text = (tmp_path / "pack/tasks.json.gz").read_bytes()
    for damage in (packed_text[:-9], packed_text + b"more", packed_text[10:], gzip.compress(b" " * (2**26 + 1))):
        reseal(tmp_path / "pack", "tasks.json.gz", damage)
        assert "a file of the pack is damaged" in refusal(tmp_path / "pack")
