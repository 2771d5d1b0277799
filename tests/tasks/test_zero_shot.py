"""Zero-shot scores of real checkpoints, against a second way of computing them and where the answer is known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.datasets import SETTINGS, samples, write_dataset

from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.dataset import open_dataset
from clip_eval.dataset.settings import ZeroShot
from clip_eval.embedding.embed import embed_images, embed_texts, unit
from clip_eval.errors import DatasetError
from clip_eval.subject import Subject
from clip_eval.tasks.zero_shot import ZeroShotScores, score_zero_shot

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture(scope="module")
def subject(model: Path) -> Subject:
    """A small random checkpoint with its processor."""
    return Subject(open_checkpoint(model), "float32")


@pytest.fixture(scope="module")
def trained() -> Subject:
    """The shipped checkpoint."""
    return Subject(open_checkpoint(FIXTURES / "shapes-clip"), "float32")


@pytest.fixture(scope="module")
def part_of_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 70 shipped images, which is more than one batch."""
    whole, root = open_dataset(FIXTURES / "shapes-dataset"), tmp_path_factory.mktemp("shapes")
    for sample, _ in zip(whole.samples(), range(70), strict=False):
        (root / sample.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(whole.root / sample.path, root / sample.path)
    shutil.copy(whole.root / "dataset.toml", root)
    lines = (whole.root / "manifest.jsonl").read_bytes().splitlines(keepends=True)[:70]
    (root / "manifest.jsonl").write_bytes(b"".join(lines))
    return root


@pytest.fixture(scope="module")
def shapes_scores(trained: Subject, part_of_shapes: Path) -> ZeroShotScores:
    """The trained checkpoint's answers."""
    return score_zero_shot(trained, open_dataset(part_of_shapes))


def test_embeddings_are_those_of_the_model(subject: Subject) -> None:
    """Unit rows, equal to CLIPModel's own normalised embeddings of what the processor makes."""
    images = [Image.effect_noise((40, 50), 60), Image.new("RGBA", (33, 90), (9, 90, 200, 255))]
    texts = ["a red dog", "a cat"]
    batch = subject.process(subject.processor(), text=texts, images=images, padding=True, return_tensors="pt")
    out = subject.model("CLIPModel")(**batch)
    for observed, expected in (
        (embed_images(subject, images), out.image_embeds),
        (embed_texts(subject, texts), out.text_embeds),
    ):
        assert observed.dtype == np.float64
        np.testing.assert_allclose(observed, expected.detach().numpy(), atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(observed, axis=1), 1, atol=1e-12)


def test_texts_may_fill_several_batches(subject: Subject) -> None:
    """A text's embedding does not depend on the batch it is in, whose padding differs."""
    texts = ["a red dog " * (index % 3) + "cat" for index in range(70)]
    together = embed_texts(subject, texts)
    assert together.shape == (70, 24)
    np.testing.assert_allclose(together[69], embed_texts(subject, texts[69:])[0], atol=1e-5)


def test_unit_of_what_has_no_direction_is_nan() -> None:
    """Zero, infinite and NaN vectors have no direction, and no number stands in for one."""
    found = unit(np.array([[3.0, 4.0], [0.0, 0.0], [np.inf, 1.0], [np.nan, 1.0]]))
    np.testing.assert_allclose(found[0], [0.6, 0.8])
    assert np.isnan(found[1:]).any(axis=1).all()


def test_long_texts_are_refused(subject: Subject) -> None:
    """A prompt with more tokens than the model has positions is an error: cut off, it is another prompt."""
    with pytest.raises(DatasetError, match="has 102 tokens, and the model takes 16"):
        embed_texts(subject, ["cat", "cat " * 100])


def test_scores_are_those_of_a_plain_loop(
    trained: Subject, shapes_scores: ZeroShotScores, part_of_shapes: Path
) -> None:
    """Every answer equals the one computed image by image, and the score is the share of hits."""
    dataset = open_dataset(part_of_shapes)
    assert dataset.zero_shot is not None
    names, prompts = dataset.zero_shot.classes, dataset.zero_shot.prompts
    classes = []
    for name in names:
        rows = np.stack([embed_texts(trained, [prompt.format(name)])[0] for prompt in prompts])
        classes.append(rows.mean(axis=0) / np.linalg.norm(rows.mean(axis=0)))
    for sample, answer in list(zip(dataset.samples(), shapes_scores.answers, strict=True))[::7]:
        with Image.open(dataset.root / sample.path) as image:
            cosines = np.stack(classes) @ embed_images(trained, [image])[0]
        assert answer.sample == sample.id
        assert names[answer.expected] == sample.label
        assert answer.predicted == int(np.argmax(cosines))
    assert shapes_scores.score == sum(shapes_scores.hits.values()) / 70
    assert len(shapes_scores.hits) == 70


def test_a_trained_checkpoint_knows_its_shapes(shapes_scores: ZeroShotScores) -> None:
    """The shipped checkpoint names coloured shapes in images that it never saw; chance is one in 48."""
    assert shapes_scores.score > 2 / 3
    assert shapes_scores.unreadable == ()
    assert shapes_scores.not_finite == 0


def test_labels_come_from_the_manifest(trained: Subject, part_of_shapes: Path, tmp_path: Path) -> None:
    """With labels moved on by one class the same files score next to nothing: file names have no say."""
    root = tmp_path / "moved"
    shutil.copytree(part_of_shapes, root)
    names = open_dataset(root).zero_shot
    assert names is not None
    following = dict(zip(names.classes, [*names.classes[1:], names.classes[0]], strict=True))
    entries = [json.loads(line) for line in (root / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    moved = [json.dumps({**entry, "label": following[entry["label"]]}) for entry in entries]
    (root / "manifest.jsonl").write_text("\n".join(moved), encoding="utf-8")
    assert score_zero_shot(trained, open_dataset(root)).score < 0.2


def test_unreadable_images_are_named(subject: Subject, tmp_path: Path) -> None:
    """A damaged image is not scored and not forgotten; which files there were is part of the digest."""
    dataset = open_dataset(write_dataset(tmp_path, samples(5)))
    whole = score_zero_shot(subject, dataset)
    paths = [sample.path for sample in dataset.samples()]
    (dataset.root / paths[1]).write_bytes(b"no image")
    scores = score_zero_shot(subject, dataset)
    assert len(scores.answers) == 4
    assert scores.unreadable == (f"{paths[1]}: not an image that Pillow knows",)
    assert scores.dataset != whole.dataset


def test_not_one_readable_image_is_an_error(subject: Subject, tmp_path: Path) -> None:
    """There is no accuracy of nothing."""
    dataset = open_dataset(write_dataset(tmp_path, samples(2)))
    for sample in dataset.samples():
        (dataset.root / sample.path).write_bytes(b"no image")
    with pytest.raises(DatasetError, match="not one of 2 images can be read"):
        score_zero_shot(subject, dataset)


def test_a_dataset_without_the_task_is_an_error(subject: Subject, tmp_path: Path) -> None:
    """Asked for a task that the dataset does not set, the scorer says so."""
    root = write_dataset(tmp_path, settings=SETTINGS.partition("[zero_shot]")[0])
    with pytest.raises(DatasetError, match="sets no zero-shot task"):
        score_zero_shot(subject, open_dataset(root))


def test_broken_embeddings_are_no_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subject: Subject) -> None:
    """A NaN in one image's embedding costs that answer only; in a class's embedding it costs all."""
    dataset = open_dataset(write_dataset(tmp_path, samples(3)))

    def with_nan(_: object, images: list[Image.Image]) -> np.ndarray:
        rows = np.ones((len(images), 24))  # (images, projection)
        rows[1, 5] = np.nan
        return rows

    monkeypatch.setattr("clip_eval.tasks.zero_shot.embed_images", with_nan)
    assert score_zero_shot(subject, dataset).not_finite == 1
    monkeypatch.setattr("clip_eval.tasks.zero_shot.embed_texts", lambda *_: np.full((6, 24), np.nan))
    assert score_zero_shot(subject, dataset).not_finite == 3


def test_ties_go_to_the_class_named_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subject: Subject) -> None:
    """A model that gives every image and text the same embedding answers the first class throughout."""
    dataset = open_dataset(write_dataset(tmp_path, samples(6)))
    monkeypatch.setattr("clip_eval.tasks.zero_shot.embed_images", lambda _, images: np.ones((len(images), 24)))
    monkeypatch.setattr("clip_eval.tasks.zero_shot.embed_texts", lambda _, texts: np.ones((len(texts), 24)))
    scores = score_zero_shot(subject, dataset)
    assert {answer.predicted for answer in scores.answers} == {0}
    assert scores.score == pytest.approx(1 / 3)
    assert scores.task == ZeroShot(("red", "green", "blue"), ("a photo of a {}", "{} it is"))
