"""No file, however it was damaged, ends in anything but a `ClipEvalError`, or takes a second to read."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from hypothesis import settings
from support.history_runs import RUN

from clip_eval.baseline.open_pack import open_pack
from clip_eval.baseline.surface.diff import changes
from clip_eval.checkpoint.checkpoint import open_checkpoint, read_config
from clip_eval.checkpoint.conversion import config_differences, tensor_differences
from clip_eval.checkpoint.fingerprints import (
    image_processor_fields,
    image_processor_fingerprint,
    tokenizer_fields,
    tokenizer_fingerprint,
)
from clip_eval.checkpoint.original import open_original
from clip_eval.checkpoint.tensor_files import read_header, value_chunks
from clip_eval.cli.path.answers import asked_lines
from clip_eval.dataset import decode, open_dataset
from clip_eval.errors import ClipEvalError, UsageError
from clip_eval.files.read_write import read_text
from clip_eval.history.database import add
from clip_eval.history.database import read as read_history
from clip_eval.oracle.preprocessing.image_processor import PixelSettings
from clip_eval.oracle.preprocessing.tokenizer import BytePairEncoder
from clip_eval.verdict.acceptances import read_acceptances
from clip_eval.verdict.policy import project_policy, read_policy
from clip_eval.verdict.run_record import load

from .mutation import Mutate, any_bytes, json_text, lines_of_json, safetensors_file, tar_file, toml_text
from .originals import write_originals

SLOW_S = 1.0
_RAM = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Reader:
    """What is read, of which one file is damaged.

    Attributes:
        files: that are damaged, one at a time, each in its own way; below the folder of originals.
        read: reads all of it, given that folder.
        share: of the examples that this reader gets; reading a pack validates it against a schema.
    """

    files: Mapping[str, Mutate]
    read: Callable[[Path], object]
    share: float = 1.0


def _checkpoint(directory: Path) -> None:
    checkpoint = open_checkpoint(directory)
    _ = checkpoint.dtype
    checkpoint.fingerprints()


def _weights(file: Path) -> None:
    for entry in read_header(file).values():
        if entry.dtype in ("bfloat16", "float16", "float32", "float64"):
            list(value_chunks(entry))


def _tokenizer(directory: Path) -> None:
    for read in (tokenizer_fingerprint, tokenizer_fields, BytePairEncoder.from_directory):
        _answer(read, directory)


def _pixels(directory: Path) -> None:
    for read in (image_processor_fingerprint, image_processor_fields, PixelSettings.from_directory):
        _answer(read, directory)


def _answer(read: Callable[[Path], object], directory: Path) -> None:
    """One of several readers of the same files: the next one reads what this one refuses."""
    try:
        read(directory)
    except ClipEvalError as problem:
        _check_sentence(problem)


def _original(root: Path) -> None:
    checkpoint = open_checkpoint(root / "clip")
    original = open_original(str(root / "original"), checkpoint)
    list(tensor_differences(checkpoint, original))
    if original.settings is not None:
        config_differences(checkpoint, original.settings.config)


def _dataset(directory: Path) -> None:
    dataset = open_dataset(directory)
    for entry in dataset.entries(images=True):
        assert (entry.problem is None) == (entry.image is not None)
    for found in map(decode, dataset.entries()):
        assert (found.problem is None) == (found.image is not None)
    dataset.digest()
    dataset.require_complete()
    list(dataset.samples())


def _both_captions(root: Path) -> None:
    """The settings name one file of captions; the other is read by its name alone, as if there were none."""
    settings = root / "dataset.toml"
    content = settings.read_bytes()
    try:
        _dataset(root)
    finally:
        settings.unlink()
        try:
            _dataset(root)
        finally:
            settings.write_bytes(content)


def _pack(root: Path) -> None:
    """The seal of the damaged file is renewed: damage that a digest shows is another matter."""
    manifest = root / "pack/pack.json"
    content = manifest.read_bytes()
    data = json.loads(content) if content == ORIGINALS["pack/pack.json"] else {"files": {}}
    for name, sealed in data["files"].items():
        found = (root / "pack" / name).read_bytes()
        if found != ORIGINALS[f"pack/{name}"]:
            sealed.update(sha256=hashlib.sha256(found).hexdigest(), size_bytes=len(found))
            manifest.write_text(json.dumps(data), encoding="utf-8")
    try:
        pack = open_pack(root / "pack")
    finally:
        manifest.write_bytes(ORIGINALS["pack/pack.json"])
    surface = json.loads(next(ORIGINALS[name] for name in ORIGINALS if name.startswith("pack/surface")))
    for approved in pack.environments.values():
        changes(approved.surface, surface)
        changes(surface, approved.surface)
    assert pack.nearest(pack.recorded_in) == pack.recorded_in
    assert isinstance(pack.device, str)


def _project(root: Path) -> None:
    """The file that a gate finds by itself is the one that it reads."""
    if (file := project_policy(root)) is not None:
        read_policy(file)


def _history(root: Path) -> None:
    """Reading a damaged history changes nothing; adding to it sets it aside, for a new one that is sound."""
    file = root / "runs.sqlite"
    read_history(file)
    try:
        add(file, RUN)
        assert read_history(file).note is None
    finally:
        for path in root.glob("runs.sqlite*"):
            path.unlink()
        file.write_bytes(ORIGINALS["runs.sqlite"])


READERS: Mapping[str, Reader] = {
    "acceptances": Reader({"accepted.toml": toml_text}, lambda root: read_acceptances(root / "accepted.toml")),
    "asked paths": Reader(
        {"asked.jsonl": lines_of_json},
        lambda root: list(asked_lines(io.BytesIO((root / "asked.jsonl").read_bytes()))),
    ),
    "class folders": Reader(
        {
            "folders/classnames.txt": any_bytes,
            "folders/zeroshot_classification_templates.txt": any_bytes,
            "folders/red_cat/0.png": any_bytes,
            "folders/red_cat/0.txt": any_bytes,
        },
        lambda root: _dataset(root / "folders"),
    ),
    "captions of COCO": Reader(
        {"coco/captions.json": json_text, "coco/karpathy.json": json_text, "coco/dataset.toml": toml_text},
        lambda root: _both_captions(root / "coco"),
        share=0.5,
    ),
    "config": Reader({"clip/config.json": json_text}, lambda root: read_config(root / "clip")),
    "checkpoint": Reader(
        {"clip/config.json": json_text, "clip/model.safetensors": safetensors_file},
        lambda root: _checkpoint(root / "clip"),
        share=0.1,
    ),
    "history": Reader({"runs.sqlite": any_bytes}, _history, share=0.1),
    "image processor": Reader({"clip/preprocessor_config.json": json_text}, lambda root: _pixels(root / "clip")),
    "index of shards": Reader(
        {
            "shards/model.safetensors.index.json": json_text,
            "shards/model-00001-of-00002.safetensors": safetensors_file,
        },
        lambda root: open_checkpoint(root / "shards"),
    ),
    "manifest": Reader(
        {"manifest/dataset.toml": toml_text, "manifest/manifest.jsonl": lines_of_json},
        lambda root: _dataset(root / "manifest"),
        share=0.2,
    ),
    "original of a conversion": Reader(
        {"original/open_clip_config.json": json_text, "original/open_clip_model.safetensors": safetensors_file},
        _original,
        share=0.2,
    ),
    "pack": Reader(
        {
            "pack/pack.json": json_text,
            "pack/record.safetensors": safetensors_file,
            "pack/surface-5.23.0-eager.json": json_text,
            "pack/tasks.json": json_text,
            "pack/throughput.json": json_text,
        },
        _pack,
        share=0.1,
    ),
    "policy": Reader({"policy.toml": toml_text}, lambda root: read_policy(root / "policy.toml")),
    "policy of a project": Reader({"pyproject.toml": toml_text}, _project),
    "run record": Reader(
        {"run.json": json_text}, lambda root: load(read_text(root / "run.json", error=UsageError)), share=0.05
    ),
    "saved dataset": Reader(
        {
            "saved/data-00000-of-00002.arrow": any_bytes,
            "saved/dataset_info.json": json_text,
            "saved/state.json": json_text,
            "saved/dataset.toml": toml_text,
        },
        lambda root: _dataset(root / "saved"),
        share=0.5,
    ),
    "shards of images": Reader(
        {"tars/test/0.tar": tar_file, "tars/test/nshards.txt": any_bytes, "tars/classnames.txt": any_bytes},
        lambda root: _dataset(root / "tars"),
        share=0.2,
    ),
    "template folder": Reader(
        {"named/dataset.toml": toml_text, "named/classes.txt": any_bytes, "named/cat/Ann_1.txt": any_bytes},
        lambda root: _dataset(root / "named"),
        share=0.5,
    ),
    "tensors": Reader(
        {"clip/model.safetensors": safetensors_file}, lambda root: _weights(root / "clip/model.safetensors")
    ),
    "tokenizer": Reader(
        {
            "clip/tokenizer.json": json_text,
            "clip/tokenizer_config.json": json_text,
            "clip/vocab.json": json_text,
            "clip/special_tokens_map.json": json_text,
            "clip/merges.txt": any_bytes,
        },
        lambda root: _tokenizer(root / "clip"),
        share=0.2,
    ),
}
ORIGINALS: dict[str, bytes] = {}


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """The originals, in memory where the system has such a place: a hundred thousand files are written."""
    folder = Path(tempfile.mkdtemp(prefix="clip-eval-readers-", dir=_RAM if _RAM.is_dir() else None))
    try:
        write_originals(folder)
        ORIGINALS.update(
            {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        )
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", READERS)
def test_a_sound_file_is_read(name: str, root: Path) -> None:
    """The originals are sound: what refuses a mutant refuses the mutation."""
    READERS[name].read(root)


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_refused_in_a_sentence_or_read(name: str, root: Path) -> None:
    """Of every mutant, nothing but a `ClipEvalError` comes, and within a second."""
    for number in range(max(1, int(settings.default.max_examples * READERS[name].share))):
        attempt(name, number, root)


def attempt(name: str, number: int, root: Path) -> str | None:
    """Read one mutant, which the reader's name and the number decide; return what it was refused with."""
    random = Random(f"{name} {number}")
    reader = READERS[name]
    file = random.choice(list(reader.files))
    mutant = reader.files[file](ORIGINALS[file], random)
    (root / file).write_bytes(mutant)
    begin = time.process_time()
    try:
        reader.read(root)
    except ClipEvalError as problem:
        _check_sentence(problem)
        return str(problem)
    except BaseException as problem:
        if not isinstance(problem, Exception):
            raise
        raise AssertionError(f"{name} {number}: {problem!r}; {file} was {mutant[:2_000]!r}") from problem
    finally:
        (root / file).write_bytes(ORIGINALS[file])
    taken_s = time.process_time() - begin
    assert taken_s < SLOW_S, f"{name} {number}: reading {file} took {taken_s:.1f} s; it was {mutant[:2_000]!r}"
    return None


def _check_sentence(problem: ClipEvalError) -> None:
    """One paragraph that any terminal and any file takes."""
    text = str(problem)
    text.encode()
    assert text
    assert "\n" not in text
    assert len(text) < 10_000
