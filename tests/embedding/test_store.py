"""The store: what is computed once, what is computed again, and what is never used again."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from support.datasets import samples, write_dataset
from support.small_clip import write_small_clip
from support.stores import Computed, shards, stored

from clip_eval.dataset import open_dataset
from clip_eval.embedding import identity, pipeline
from clip_eval.embedding.embedded import embed_dataset
from clip_eval.embedding.engines import fill
from clip_eval.embedding.fill import EmbedOptions
from clip_eval.embedding.store import Collection
from clip_eval.errors import DatasetError, OutputError
from clip_eval.files import read_write
from clip_eval.processes import child_environment
from clip_eval.subject.candidate import Candidate

PROMPTS, CAPTIONS = 6, 3  # distinct ones in `write_dataset`, of three classes


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random checkpoint with its processor."""
    return write_small_clip(tmp_path_factory.mktemp("small"))


@pytest.fixture
def options(original: Path, tmp_path: Path) -> EmbedOptions:
    """A copy of the checkpoint that a test may change, six images that differ, and a store that is not there yet."""
    checkpoint = Path(shutil.copytree(original, tmp_path / "checkpoint"))
    dataset = write_dataset(tmp_path / "dataset", samples(6))
    for number, sample in enumerate(open_dataset(dataset).samples()):
        noise(dataset / sample.path, number)
    return EmbedOptions(model=str(checkpoint), dataset=dataset, out=tmp_path / "store", batch_size=4)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Computed:
    """Counts what goes through the model."""
    return Computed(monkeypatch)


def noise(file: Path, seed: int) -> None:
    """Write a picture of its own."""
    values = np.random.default_rng(seed).integers(0, 256, (33, 41, 3), dtype=np.uint8)
    Image.fromarray(values).save(file)


def images_of(options: EmbedOptions) -> list[Path]:
    """The files of the dataset."""
    dataset = open_dataset(options.dataset)
    return [dataset.root / sample.path for sample in dataset.samples()]


def add(options: EmbedOptions, count: int) -> None:
    """Add samples with images of their own to the dataset."""
    manifest = options.dataset / "manifest.jsonl"
    lines = manifest.read_text(encoding="utf-8").splitlines()
    for number in range(count):
        lines.append(json.dumps({**samples(1)[0], "id": f"9{number}"}))
        manifest.write_text("\n".join([*lines, ""]), encoding="utf-8")
        noise(images_of(options)[-1], 900 + number)


def test_a_second_run_computes_nothing(options: EmbedOptions, computed: Computed) -> None:
    """Neither the model nor a library of it is asked, and ten images that are added are ten."""
    first = fill(options, quiet=True)
    assert (first.images, first.new_images, first.new_texts, first.left_out) == (6, 6, PROMPTS + CAPTIONS, 0)
    assert computed.since() == (6, PROMPTS + CAPTIONS)
    before = stored(options.out)
    again = fill(options, quiet=True)
    assert (again.images, again.texts, again.new_images, again.new_texts) == (6, first.texts, 0, 0)
    assert computed.since() == (0, 0)
    add(options, 10)
    assert fill(options, quiet=True).new_images == 10
    assert computed.since() == (10, 0)
    assert stored(options.out).items() >= before.items()
    assert len(stored(options.out)) == 16


def test_a_second_run_loads_no_model(options: EmbedOptions) -> None:
    """In a process of its own it is done before torch would be imported."""
    fill(options, quiet=True)
    program = f"""
import sys
from pathlib import Path
from clip_eval.embedding.engines import fill
from clip_eval.embedding.fill import EmbedOptions
options = EmbedOptions(model={options.model!r}, dataset=Path({str(options.dataset)!r}), out=Path({str(options.out)!r}))
print(fill(options, quiet=True).new_images)
print(*sorted({{"torch", "transformers", "tokenizers", "scipy", "pandas"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=child_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n") == ["0", "", ""]


def test_tasks_read_what_embed_wrote(options: EmbedOptions, computed: Computed) -> None:
    """`embed_dataset` computes nothing that the store has, and gives what it gives without one."""
    runtime, dataset = Candidate(options.model).runtime, open_dataset(options.dataset)
    apart = embed_dataset(runtime, dataset, batch_size=4)
    wanted = ["a photo of a red", "something blue", "a new text", "a photo of a red"]
    expected = apart.texts(wanted)
    fill(options, quiet=True)
    computed.since()
    found = embed_dataset(runtime, dataset, store=options.out)
    assert np.array_equal(found.images, apart.images)
    assert found.samples == apart.samples
    np.testing.assert_allclose(found.texts(wanted), expected, atol=1e-5)
    assert computed.since() == (0, 1)
    assert np.array_equal(embed_dataset(runtime, dataset, store=options.out).texts(wanted), found.texts(wanted))
    assert computed.since() == (0, 0)


def one_weight(options: EmbedOptions) -> EmbedOptions:
    """Change the last bit of one value."""
    file = Path(options.model) / "model.safetensors"
    weights = load_file(file)
    name = "visual_projection.weight"
    weights[name] = weights[name].copy()
    weights[name][0, 0] = np.nextafter(weights[name][0, 0], np.float32(9))
    save_file(weights, file, metadata={"format": "pt"})
    return options


def settings_of_pixels(options: EmbedOptions, **changed: object) -> EmbedOptions:
    """Change the image processor's files."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        file = Path(options.model) / name
        if file.is_file():
            content = json.loads(file.read_text(encoding="utf-8"))
            content.get("image_processor", content).update(changed)
            file.write_text(json.dumps(content), encoding="utf-8")
    return options


def activation(options: EmbedOptions) -> EmbedOptions:
    """Change what the vision tower computes without changing a weight."""
    file = Path(options.model) / "config.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["vision_config"]["hidden_act"] = "gelu"
    file.write_text(json.dumps(content), encoding="utf-8")
    return options


def re_encoded(options: EmbedOptions) -> EmbedOptions:
    """Save one image again, with the same pixels in another file."""
    file = next(file for file in images_of(options) if file.suffix == ".png")
    with Image.open(file) as image:
        image.save(file, compress_level=1)
    return options


def processor_elsewhere(options: EmbedOptions) -> EmbedOptions:
    """Other settings of the image processor, in a directory of their own."""
    elsewhere = Path(shutil.copytree(options.model, options.out.with_name("processor")))
    settings_of_pixels(replace(options, model=str(elsewhere)), size={"shortest_edge": 40})
    return replace(options, processor=str(elsewhere))


def variant(options: EmbedOptions) -> EmbedOptions:
    """The same weights under the name of a variant."""
    weights = Path(options.model) / "model.safetensors"
    weights.rename(weights.with_name("model.fp16.safetensors"))
    return replace(options, variant="fp16")


CHANGES: dict[str, tuple[Callable[[EmbedOptions], EmbedOptions], int]] = {
    "one weight": (one_weight, 6),
    "crop size": (lambda options: settings_of_pixels(options, size={"shortest_edge": 40}), 6),
    "resampling": (lambda options: settings_of_pixels(options, resample=2), 6),
    "activation": (activation, 6),
    "dtype": (lambda options: replace(options, dtype="bfloat16"), 6),
    "attention": (lambda options: replace(options, attention="eager"), 6),
    "one image": (re_encoded, 1),
    "image processor elsewhere": (processor_elsewhere, 6),
    "name of the weights": (variant, 0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_stale_is_used(options: EmbedOptions, computed: Computed, change: str) -> None:
    """What may change a bit of an embedding makes a miss, and only that."""
    fill(options, quiet=True)
    before = stored(options.out)
    computed.since()
    make, count = CHANGES[change]
    assert fill(make(options), quiet=True).new_images == count
    assert computed.since()[0] == count
    assert stored(options.out).items() >= before.items()


@pytest.mark.parametrize("package", ["pillow", "torch", "torchvision"])
def test_another_release_computes_again(
    options: EmbedOptions, computed: Computed, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    """A gate compares releases: what another one computed says nothing of this one."""
    fill(options, quiet=True)
    computed.since()
    release = identity._release
    monkeypatch.setattr(identity, "_release", lambda name: "99.0" if name == package else release(name))
    assert fill(options, quiet=True).new_images == 6


def test_two_files_of_the_same_bytes_are_one(options: EmbedOptions, computed: Computed) -> None:
    """In one batch, in two batches, and beside a damaged one: the key is the content."""
    files = images_of(options)
    for other in (files[2], files[4]):
        shutil.copy(files[0], other)
    shutil.copy(files[1], files[5])
    assert fill(options, quiet=True).images == 6
    assert computed.since()[0] == 3


@pytest.mark.parametrize("damage", ["cut", "a bit of an embedding", "empty", "another table"])
def test_a_damaged_shard_is_set_aside(
    options: EmbedOptions, computed: Computed, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    """It is told and renamed, and what it held is computed again, with the same bits."""
    fill(options, quiet=True)
    before, [shard] = stored(options.out), shards(options.out)
    computed.since()
    data = bytearray(shard.read_bytes())
    if damage == "a bit of an embedding":
        metadata = pq.read_metadata(shard).row_group(0)
        column = metadata.column(metadata.num_columns - 1)
        data[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    elif damage == "another table":
        pq.write_table(pq.read_table(shard, columns=["id"]), shard)
        data = bytearray(shard.read_bytes())
    shard.write_bytes(data[: {"cut": len(data) // 2, "empty": 0}.get(damage)])
    assert fill(options, quiet=True).new_images == 6
    assert "is damaged" in capsys.readouterr().err
    assert shard.with_name(f"_{shard.name}.damaged").exists()
    assert stored(options.out) == before


def test_runs_share_a_store(tmp_path: Path) -> None:
    """Two runs add the same rows at once: neither loses anything, and every reader takes the same of two rows."""
    one, other = (Collection(tmp_path, {}) for _ in range(2))
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)  # (4, 2)
    keys = [bytes([number]) * 16 for number in range(4)]
    one.add(keys[:3], {"id": ["a", "b", "c"]}, rows[:3])
    other.add(keys[1:], {"id": ["b", "c", "d"]}, rows[1:] + 100)
    one.flush()
    other.flush()
    for reader in (one, other, Collection(tmp_path, {})):
        assert reader.read(keys)[:, 0].tolist() == [0, 2, 4, 106]
        assert len(Collection(tmp_path, {})) == 4


def test_a_full_disk_is_one_paragraph(options: EmbedOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """No half shard stays, and the next run computes what is not there."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(read_write.os, "fsync", full)
        with pytest.raises(OutputError, match="Make room there"):
            fill(options, quiet=True)
    assert [file.name for file in options.out.rglob("*") if file.suffix in (".parquet", ".tmp")] == []
    assert fill(options, quiet=True).new_images == 6


def test_what_a_killed_writer_left_goes(tmp_path: Path) -> None:
    """Once it is old: a young one may belong to a run that writes."""
    Collection(tmp_path, {})
    old, young = tmp_path / ".a.tmp", tmp_path / ".b.tmp"
    for file in (old, young):
        file.touch()
    os.utime(old, (time.time() - 7200,) * 2)
    Collection(tmp_path, {})
    assert (old.exists(), young.exists()) == (False, True)


def test_bad_samples_are_counted_and_named(options: EmbedOptions) -> None:
    """A damaged image, a missing file and a text that is too long have no embedding; the rest has one."""
    files = images_of(options)
    files[1].write_bytes(files[1].read_bytes()[:200])
    files[3].unlink()
    manifest = options.dataset / "manifest.jsonl"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace("something red", "cat " * 300), encoding="utf-8")
    tally = fill(options, quiet=True)
    assert (tally.images, tally.new_images, tally.left_out) == (4, 4, 3)
    assert [place.split(": ")[0] for place in tally.places[:2]] == [
        str(files[place].relative_to(options.dataset)) for place in (1, 3)
    ]
    assert "has more tokens than the model takes" in tally.places[2]
    assert "3 left out:" in tally.lines


def test_nothing_to_embed_is_an_error(options: EmbedOptions) -> None:
    """Not one image can be read, or there is none."""
    for file in images_of(options):
        file.unlink()
    with pytest.raises(DatasetError, match="not one of 6 images can be read, first"):
        fill(options, quiet=True)
    (options.dataset / "manifest.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(DatasetError, match="the dataset holds no sample"):
        fill(options, quiet=True)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_threads_changes_no_bit(
    options: EmbedOptions, computed: Computed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Nor do blocks that are left early: batches follow the dataset."""
    monkeypatch.setattr(pipeline, "BLOCK", 5)
    add(options, 6)
    images_of(options)[2].unlink()
    fill(replace(options, workers=2), quiet=True)
    expected, shapes = stored(options.out), computed.shapes
    computed.shapes = []
    fill(replace(options, out=tmp_path / "other", workers=workers), quiet=True)
    assert stored(tmp_path / "other") == expected
    assert computed.shapes == shapes
    assert [shape[0] for shape in shapes if len(shape) == 4] == [4, 4, 1, 2]


def test_the_size_of_a_batch_stays_within_the_float_budget(options: EmbedOptions) -> None:
    """Sizes of 1 and 64 differ by rounding only."""
    runtime, dataset = Candidate(options.model).runtime, open_dataset(options.dataset)
    one, many = (embed_dataset(runtime, dataset, batch_size=size).images for size in (1, 64))
    np.testing.assert_allclose(one, many, atol=1e-5)
