"""Zero-shot scores of real checkpoints, against a second way of computing them and where the answer is known."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score
from support.datasets import SETTINGS, write_dataset
from support.embedded import embedded, sample

from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.dataset import open_dataset
from clip_eval.dataset.settings import ZeroShot
from clip_eval.embedding.embed import embed_images, embed_texts
from clip_eval.embedding.embedded import Embedded, embed_dataset
from clip_eval.errors import DatasetError
from clip_eval.subject import Subject
from clip_eval.tasks.judgement import judge
from clip_eval.tasks.task import Scored, score_task
from clip_eval.tasks.zero_shot import TASK

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture(scope="module")
def trained() -> Subject:
    """The shipped checkpoint."""
    return Subject(open_checkpoint(FIXTURES / "shapes-clip"), "float32")


@pytest.fixture(scope="module")
def part_of_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 70 shipped images, which is more than one batch."""
    whole, root = open_dataset(FIXTURES / "shapes-dataset"), tmp_path_factory.mktemp("shapes")
    for known, _ in zip(whole.samples(), range(70), strict=False):
        (root / known.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(whole.root / known.path, root / known.path)
    shutil.copy(whole.root / "dataset.toml", root)
    lines = (whole.root / "manifest.jsonl").read_bytes().splitlines(keepends=True)[:70]
    (root / "manifest.jsonl").write_bytes(b"".join(lines))
    return root


@pytest.fixture(scope="module")
def shapes(trained: Subject, part_of_shapes: Path) -> Embedded:
    """The trained checkpoint's embeddings."""
    return embed_dataset(trained, open_dataset(part_of_shapes))


@pytest.fixture(scope="module")
def shapes_scores(shapes: Embedded) -> Scored:
    """Its scores."""
    return score_task(TASK, shapes)


def test_scores_are_those_of_a_plain_loop(trained: Subject, shapes_scores: Scored, part_of_shapes: Path) -> None:
    """Every answer equals the one computed image by image, and the score is the share of hits."""
    dataset = open_dataset(part_of_shapes)
    assert dataset.zero_shot is not None
    names, prompts = dataset.zero_shot.classes, dataset.zero_shot.prompts
    classes = []
    for name in names:
        rows = np.stack([embed_texts(trained, [prompt.format(name)])[0] for prompt in prompts])
        classes.append(rows.mean(axis=0) / np.linalg.norm(rows.mean(axis=0)))
    hits = shapes_scores.primary.values.tolist()
    for known, name, hit in list(zip(dataset.samples(), shapes_scores.samples, hits, strict=True))[::7]:
        with Image.open(dataset.root / known.path) as image:
            cosines = np.stack(classes) @ embed_images(trained, [image])[0]
        assert name == known.id
        assert hit == (names[int(np.argmax(cosines))] == known.label)
    assert shapes_scores.primary.value == sum(hits) / 70
    assert len(hits) == 70


def test_a_trained_checkpoint_knows_its_shapes(shapes_scores: Scored) -> None:
    """The shipped checkpoint names coloured shapes in images that it never saw; chance is one in 48."""
    assert shapes_scores.primary.value > 2 / 3
    assert shapes_scores.primary.chance == 1 / 48
    assert shapes_scores.unreadable == ()
    assert shapes_scores.not_finite == 0


def test_labels_come_from_the_manifest(shapes: Embedded, part_of_shapes: Path, tmp_path: Path) -> None:
    """With labels moved on by one class the same files score next to nothing: file names have no say."""
    root = tmp_path / "moved"
    shutil.copytree(part_of_shapes, root)
    names = open_dataset(root).zero_shot
    assert names is not None
    following = dict(zip(names.classes, [*names.classes[1:], names.classes[0]], strict=True))
    entries = [json.loads(line) for line in (root / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    moved = [json.dumps({**entry, "label": following[entry["label"]]}) for entry in entries]
    (root / "manifest.jsonl").write_text("\n".join(moved), encoding="utf-8")
    dataset = open_dataset(root)
    relabelled = replace(shapes, dataset=dataset, samples=tuple(dataset.samples()))
    assert score_task(TASK, relabelled).primary.value < 0.2


def test_a_dataset_without_the_task_is_an_error(tmp_path: Path) -> None:
    """Asked for a task that the dataset does not set, the scorer says so."""
    dataset = open_dataset(write_dataset(tmp_path, settings=SETTINGS.partition("[zero_shot]")[0]))
    assert TASK.lacks(dataset) == "the dataset sets no zero-shot task"
    with pytest.raises(DatasetError, match="sets no zero-shot task"):
        score_task(TASK, replace(three(np.ones((3, 2))), dataset=dataset))


COLOURS = ZeroShot(("red", "green", "blue"), ("a {}", "{} it is"))


def three(images: NDArray[np.float64], texts: list[float] | None = None) -> Embedded:
    """Return three images, (3, 2), of one colour each, and texts that are all alike."""
    samples = [sample(str(place), label=colour) for place, colour in enumerate(COLOURS.classes)]
    row = [0.6, 0.8] if texts is None else texts
    return embedded(samples, images, dict.fromkeys(COLOURS.texts(), row), zero_shot=COLOURS)


def test_broken_embeddings_are_no_answers() -> None:
    """A NaN in one image's embedding costs that answer only; in a class's embedding it costs all."""
    images = np.ones((3, 2))
    images[1, 1] = np.nan
    assert score_task(TASK, three(images)).not_finite == 1
    everywhere = score_task(TASK, three(np.ones((3, 2)), [np.nan, 1.0]))
    assert (everywhere.not_finite, everywhere.primary.value) == (3, 0)
    assert judge(everywhere)[0].details["worst_classes"] == tuple(
        {"class": name, "hits": 0, "images": 1, "taken_for": None} for name in COLOURS.classes
    )


def test_ties_go_to_the_class_named_first() -> None:
    """A model that gives every image and text the same embedding answers the first class throughout."""
    found = score_task(TASK, three(np.ones((3, 2))))
    assert found.primary.values.tolist() == [1, 0, 0]
    worst = judge(found)[0].details["worst_classes"]
    assert worst == tuple({"class": name, "hits": 0, "images": 1, "taken_for": "red"} for name in ("green", "blue"))


def test_the_worst_classes_are_told() -> None:
    """The class with the lowest share of hits stands first, with what it is mostly taken for."""
    texts = {text: row for name, row in zip("ab", ([1.0, 0.0], [0.0, 1.0]), strict=True) for text in [f"a {name}"]}
    samples = [sample(str(place), label="ab"[place > 1]) for place in range(5)]
    images = np.array([[1.0, 0], [0, 1], [1, 0], [1, 0], [0, 1]])
    task = ZeroShot(("a", "b"), ("a {}",))
    details = score_task(TASK, embedded(samples, images, texts, zero_shot=task)).details
    assert details["worst_classes"] == (
        {"class": "b", "hits": 1, "images": 3, "taken_for": "a"},
        {"class": "a", "hits": 1, "images": 2, "taken_for": "b"},
    )
    assert details["confusions"] == (
        {"class": "b", "taken_for": "a", "images": 2},
        {"class": "a", "taken_for": "b", "images": 1},
    )
    assert details["calibration"] == ({"confidence": 1.0, "hits": 0.4, "images": 5},)


NAMES = tuple("abcdefg")


@st.composite
def labelled(draw: st.DrawFn) -> Embedded:
    """Images of seven classes, of which some have none, and embeddings of small whole numbers, whose ties are exact."""
    row = st.lists(st.integers(-2, 2), min_size=3, max_size=3)
    labels = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=9))
    images = [draw(st.one_of(row, row, row, st.just([np.nan] * 3))) for _ in labels]
    axes = [list(map(float, row)) for row in (*np.eye(3), *-np.eye(3))]  # of length 1, without rounding
    texts = {name: draw(st.sampled_from(axes)) for name in NAMES}
    return embedded(
        [sample(str(place), label=name) for place, name in enumerate(labels)],
        np.array(images, dtype=np.float64),
        texts,
        zero_shot=ZeroShot(NAMES, ("{}",)),
    )


@settings(derandomize=True, deadline=None, max_examples=200)
@given(case=labelled(), scale=st.sampled_from([0.0, 0.5, 3.0, 30.0]))
def test_scores_are_those_of_scikit_learn_and_of_counting(case: Embedded, scale: float) -> None:
    """Ties, classes without images, one image and NaN: every score is that of an independent way to compute it."""
    found = TASK.score(replace(case, logit_scale=scale))
    top1, top5, recall, calibration = found.scores
    finite = np.isfinite(case.images).all(axis=1)  # (samples,)
    expected = np.array([NAMES.index(str(item.label)) for item in case.samples])  # (samples,)
    cosines = np.where(finite[:, None], case.images, 0) @ case.texts(NAMES).T  # (samples, classes)
    places = np.array(
        [
            sum((row > row[own]) | ((row == row[own]) & (np.arange(7) < own)))
            for row, own in zip(cosines, expected, strict=True)
        ]
    )
    hits = (places == 0) & finite  # (samples,)
    assert top1.values.tolist() == hits.tolist()
    assert top5.values.tolist() == ((places < 5) & finite).tolist()
    # scikit-learn gives ties to the class that stands last; a broken image's label is put last by hand
    at_sklearn = np.where(finite[:, None], cosines, np.arange(7) != expected[:, None])[:, ::-1]
    assert top5.value == pytest.approx(top_k_accuracy_score(6 - expected, at_sklearn, k=5, labels=range(7)))
    answers = np.where(hits, expected, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a missed image's answer is no class
        assert recall.value == pytest.approx(balanced_accuracy_score(expected, answers))
    shares = np.exp(cosines * scale) / np.exp(cosines * scale).sum(axis=1, keepdims=True)  # (samples, classes)
    sure = np.abs(calibration.filled)  # (samples,): at the end of a bin its last bit decides
    np.testing.assert_allclose(sure, np.where(finite, shares.max(axis=1), 1.0))
    assert calibration.value == pytest.approx(calibration_error(sure, hits))
    assert found.details["classes_without_images"] == 7 - len(set(expected))


def calibration_error(sure: NDArray[np.float64], hits: NDArray[np.bool_]) -> float:
    """Return the distance of confidence and share of hits, bin by bin, as in equation 3 of Guo et al. 2017."""
    total = 0.0
    for number in range(15):
        inside = (sure > number / 15) & (sure <= (number + 1) / 15)
        if inside.any():
            total += inside.sum() / len(sure) * abs(hits[inside].mean() - sure[inside].mean())
    return total


def test_calibration_by_hand() -> None:
    """Two images at 3/4, one of them right: the error is 1/4. One that is broken counts as sure and wrong."""
    task = ZeroShot(("a", "b"), ("{}",))
    texts = {"a": [1.0, 0.0], "b": [0.0, 1.0]}
    images = np.array([[1.0, 0], [1, 0], [np.nan, 0]])  # (3, 2)
    case = replace(
        embedded([sample(name, label=name[0]) for name in ("a", "b", "a2")], images, texts, zero_shot=task),
        logit_scale=float(np.log(3)),
    )
    error = TASK.score(replace(case, samples=case.samples[:2], images=images[:2])).scores[3]
    assert error.values.tolist() == pytest.approx([-0.75, 0.75])
    assert (error.value, error.higher_is_better, error.chance) == (pytest.approx(0.25), False, None)
    assert score_task(TASK, case).scores[3].value == pytest.approx((2 * 0.25 + 1) / 3)


def test_classes_without_images_are_named(shapes: Embedded) -> None:
    """They are left out of the mean of recalls."""
    first = {str(item.label) for item in shapes.samples[:5]}
    found = TASK.score(replace(shapes, samples=shapes.samples[:5], images=shapes.images[:5]))
    assert found.details["classes_without_images"] == 48 - len(first)
    assert len(found.details["without_images"]) == 5  # type: ignore[arg-type]
    assert found.scores[2].value == found.scores[0].value
    assert shapes.logit_scale == pytest.approx(np.exp(3.354), rel=1e-3)
