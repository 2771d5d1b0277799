"""One set of images in every layout: the same scores, from the shipped checkpoint."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from support.shards import write_shards

from clip_eval.dataset import Entry, Sample, open_dataset
from clip_eval.dataset.settings import ZeroShot
from clip_eval.embedding.engines import fill
from clip_eval.embedding.fill import EmbedOptions
from clip_eval.evaluation import Options, run_evaluation

FIXTURES = Path(__file__).parents[2] / "fixtures"
CHECKPOINT, DATASET = FIXTURES / "shapes-clip", FIXTURES / "shapes-dataset"
OF_EACH_CLASS = 3
TASKS = ("zero_shot", "image_to_text", "text_to_image")

Kept = Sequence[tuple[Sample, bytes]]


@pytest.fixture(scope="module")
def kept() -> Kept:
    """Some images of each class."""
    seen: Counter[str | None] = Counter()
    found = []
    for entry in open_dataset(DATASET).entries():
        sample = _sample(entry)
        seen[sample.label] += 1
        if seen[sample.label] <= OF_EACH_CLASS and entry.image is not None:
            found.append((sample, entry.image))
    return found


def _sample(entry: Entry) -> Sample:
    assert entry.sample is not None, entry.problem
    return entry.sample


def write_manifest(root: Path, kept: Kept) -> Path:
    """As a manifest, with the files where the template says."""
    ids = {sample.id for sample, _ in kept}
    lines = (DATASET / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    chosen = [line for line in lines if json.loads(line)["id"] in ids]
    root.mkdir()
    (root / "manifest.jsonl").write_text("\n".join(chosen) + "\n", encoding="utf-8")
    (root / "dataset.toml").write_bytes((DATASET / "dataset.toml").read_bytes())
    for sample, image in kept:
        (root / sample.path).parent.mkdir(parents=True, exist_ok=True)
        (root / sample.path).write_bytes(image)
    return root


def write_folders(root: Path, kept: Kept) -> Path:
    """As one directory a class, with captions beside the images."""
    for number, (sample, image) in enumerate(kept):
        file = root / str(sample.label).replace(" ", "_") / f"n{number:03d}{Path(sample.path).suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(image)
        file.with_suffix(".txt").write_text("\n".join(sample.captions), encoding="utf-8")
    (root / "zeroshot_classification_templates.txt").write_text(_prompts(), encoding="utf-8")
    return root


def write_named(root: Path, kept: Kept) -> Path:
    """As a folder that a template names, without a manifest."""
    write_folders(root, kept)
    (root / "zeroshot_classification_templates.txt").rename(root / "prompts.txt")
    (root / "classes.txt").write_text("\n".join(_task().classes), encoding="utf-8")
    settings = (
        'template = "{shape}/{id}"\n[fields]\nlabel = "shape"\n[kinds]\nid = "word"\n'
        '[zero_shot]\nclasses = "classes.txt"\nprompts = "prompts.txt"\n'
    )
    (root / "dataset.toml").write_text(settings, encoding="utf-8")
    return root


def write_tars(root: Path, kept: Kept) -> Path:
    """As WebDataset shards in CLIP_benchmark's layout."""
    classes, members = _task().classes, []
    for number, (sample, image) in enumerate(kept):
        stem = f"s{number:07d}"
        members.append((stem + Path(sample.path).suffix, image))
        members.append((f"{stem}.cls", str(classes.index(str(sample.label))).encode()))
        members.append((f"{stem}.txt", "\n".join(sample.captions).encode()))
    half = len(kept) // 2 * 3
    texts = {"classnames.txt": "\n".join(classes) + "\n", "zeroshot_classification_templates.txt": _prompts()}
    return write_shards(root, texts=texts, shards=[members[:half], members[half:]])


def _task() -> ZeroShot:
    task = open_dataset(DATASET).zero_shot
    assert task is not None
    return task


def _prompts() -> str:
    return "".join(prompt.replace("{}", "{c}") + "\n" for prompt in _task().prompts)


def scores(dataset: Path, store: Path | None = None) -> dict[str, float]:
    """Every score of three tasks by name."""
    options = Options(
        model=str(CHECKPOINT), dataset=str(dataset), tasks=TASKS, store=None if store is None else str(store)
    )
    found = run_evaluation(options).evaluation
    assert not found.unreadable
    return {score.name: score.score for task in found.tasks for score in task.scores}


@pytest.fixture(scope="module")
def expected(kept: Kept, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """The scores of the manifest."""
    found = scores(write_manifest(tmp_path_factory.mktemp("manifest") / "set", kept))
    assert 0.5 < found["zero_shot_top1"] < 1, "a score that every answer gives compares nothing"
    return found


@pytest.mark.parametrize("write", [write_folders, write_named, write_tars])
def test_every_layout_gives_the_same_scores(
    write: Callable[[Path, Kept], Path], kept: Kept, expected: dict[str, float], tmp_path: Path
) -> None:
    """A directory a class, a template alone, WebDataset shards: as the manifest, whatever the order of the samples."""
    assert scores(write(tmp_path / "set", kept)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_embeddings_of_ray_give_the_same_scores(kept: Kept, expected: dict[str, float], tmp_path: Path) -> None:
    """Evaluated from a store that Ray has filled, of which nothing is computed again."""
    dataset = write_manifest(tmp_path / "set", kept)
    options = EmbedOptions(model=str(CHECKPOINT), dataset=dataset, out=tmp_path / "store", engine="ray", workers=1)
    fill(options, quiet=True)
    shards = sorted(options.out.rglob("*.parquet"))
    assert scores(dataset, options.out) == pytest.approx(expected, abs=1e-6)
    assert sorted(options.out.rglob("*.parquet")) == shards
