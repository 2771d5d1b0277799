"""The same images in each format give the same scores: what a gate asks does not depend on how files lie on a disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from support.saved_datasets import IMAGE, write_saved
from support.shards import write_shards

from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.dataset import Dataset, open_dataset
from clip_eval.embedding.embedded import Embedded, embed_dataset
from clip_eval.subject import Subject
from clip_eval.tasks.task import Scored, score_task
from clip_eval.tasks.zero_shot import TASK

FIXTURES = Path(__file__).parents[2] / "fixtures"
COUNT = 70
PROMPTS = "zeroshot_classification_templates.txt"


@pytest.fixture(scope="module")
def subject() -> Subject:
    """The shipped checkpoint."""
    return Subject(open_checkpoint(FIXTURES / "shapes-clip"), "float32")


@pytest.fixture(scope="module")
def shapes() -> Dataset:
    """The shipped dataset, which is a manifest."""
    return open_dataset(FIXTURES / "shapes-dataset")


@pytest.fixture(scope="module")
def as_manifest(shapes: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first samples of the shipped dataset, as they are."""
    root = tmp_path_factory.mktemp("manifest")
    shutil.copy(shapes.root / "dataset.toml", root)
    lines = (shapes.root / "manifest.jsonl").read_bytes().splitlines(keepends=True)[:COUNT]
    (root / "manifest.jsonl").write_bytes(b"".join(lines))
    for sample, _ in zip(shapes.samples(), range(COUNT), strict=False):
        (root / sample.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(shapes.root / sample.path, root / sample.path)
    return root


@pytest.fixture(scope="module")
def templates(shapes: Dataset) -> str:
    """The prompts of the shipped dataset, as the other formats write them."""
    assert shapes.zero_shot is not None
    return "".join(prompt.replace("{}", "{c}") + "\n" for prompt in shapes.zero_shot.prompts)


@pytest.fixture(scope="module")
def as_folders(as_manifest: Path, templates: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images in one directory a class; the classes are those of the directories."""
    root = tmp_path_factory.mktemp("folders")
    for number, sample in enumerate(open_dataset(as_manifest).samples()):
        directory = root / str(sample.label).replace(" ", "_")
        directory.mkdir(exist_ok=True)
        shutil.copy(as_manifest / sample.path, directory / f"{number:03d}{Path(sample.path).suffix}")
    (root / PROMPTS).write_text(templates, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def as_shards(as_manifest: Path, as_folders: Path, templates: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images in two shards, with the classes of the directories."""
    task = open_dataset(as_folders).zero_shot
    assert task is not None
    shards: list[list[tuple[str, bytes]]] = [[], []]
    for number, entry in enumerate(open_dataset(as_manifest).entries()):
        assert entry.sample is not None
        assert entry.image is not None
        label = task.classes.index(str(entry.sample.label))
        members = [
            (f"s{number:03d}{Path(entry.sample.path).suffix}", entry.image),
            (f"s{number:03d}.cls", b"%d" % label),
        ]
        shards[2 * number // COUNT] += members
    texts = {"classnames.txt": "\n".join(task.classes) + "\n", PROMPTS: templates}
    return write_shards(tmp_path_factory.mktemp("shards"), texts=texts, shards=shards)


@pytest.fixture(scope="module")
def as_named(as_folders: Path, templates: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images named by a template, without a manifest."""
    root = shutil.copytree(as_folders, tmp_path_factory.mktemp("named") / "images")
    (root / PROMPTS).rename(root / "prompts.txt")
    task = open_dataset(as_folders).zero_shot
    assert task is not None
    (root / "classes.txt").write_text("\n".join(task.classes), encoding="utf-8")
    template = 'template = "{shape}/{id}"\n[fields]\nlabel = "shape"\n'
    lists = '[zero_shot]\nclasses = "classes.txt"\nprompts = "prompts.txt"\n'
    (root / "dataset.toml").write_text(template + lists, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def as_saved(as_folders: Path, templates: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images as `save_to_disk` of Hugging Face's `datasets` writes them."""
    folders = open_dataset(as_folders)
    assert folders.zero_shot is not None
    entries = [(entry.image, entry.sample.label) for entry in folders.entries() if entry.sample is not None]
    columns = {
        "image": pa.array([{"bytes": image, "path": None} for image, _ in entries], IMAGE),
        "label": pa.array([folders.zero_shot.classes.index(str(label)) for _, label in entries]),
    }
    root = write_saved(tmp_path_factory.mktemp("saved"), [columns])
    features = {"image": {"_type": "Image"}, "label": {"names": folders.zero_shot.classes}}
    (root / "dataset_info.json").write_text(json.dumps({"features": features}), encoding="utf-8")
    (root / PROMPTS).write_text(templates, encoding="utf-8")
    return root


def scored(subject: Subject, root: Path) -> tuple[Embedded, Scored]:
    """Return the embeddings and the zero-shot scores of a dataset."""
    embedded = embed_dataset(subject, open_dataset(root))
    return embedded, score_task(TASK, embedded)


def by_class(embedded: Embedded, scores: Scored) -> list[tuple[str | None, float]]:
    """Return the label of every sample and whether it was hit, in order of both."""
    assert scores.samples == tuple(sample.id for sample in embedded.samples)
    labels = [sample.label for sample in embedded.samples]
    return sorted(zip(labels, scores.primary.values.tolist(), strict=True), key=str)


def test_scores_do_not_depend_on_the_format(
    subject: Subject, as_folders: Path, as_shards: Path, as_named: Path, as_saved: Path, as_manifest: Path
) -> None:
    """The same images and classes have the same answers in every layout; the manifest's are as good."""
    (in_folders, folders), (in_shards, shards) = (scored(subject, root) for root in (as_folders, as_shards))
    assert by_class(in_folders, folders) == by_class(in_shards, shards)
    assert folders.details == shards.details
    for root in (as_named, as_saved):
        embedded, other = scored(subject, root)
        assert by_class(embedded, other) == by_class(in_folders, folders)
        assert (other.details, other.unreadable) == (folders.details, ())
    assert folders.unreadable == shards.unreadable == ()
    assert folders.primary.value > 0.9
    _, manifest = scored(subject, as_manifest)
    assert len(manifest.samples) == len(folders.samples) == COUNT
    # The manifest's task has the classes of the whole dataset, so that it is a little harder.
    assert manifest.primary.value <= folders.primary.value
    assert len({manifest.dataset, folders.dataset, shards.dataset}) == 3


def test_what_cannot_be_read_is_named_in_the_score(subject: Subject, as_shards: Path, tmp_path: Path) -> None:
    """A damaged shard is scored for the rest, and the damage has its place among the unreadable images."""
    root = shutil.copytree(as_shards, tmp_path / "shards")
    shard = root / "test" / "1.tar"
    shard.write_bytes(shard.read_bytes()[:20_000])
    _, scores = scored(subject, root)
    assert COUNT > len(scores.samples) >= COUNT // 2
    assert any(place.startswith("test/1.tar: ") for place in scores.unreadable)
    assert all(place.startswith("test/1.tar") for place in scores.unreadable)
