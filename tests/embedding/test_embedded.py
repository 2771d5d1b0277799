"""A dataset embedded once for all tasks: what is decoded, what is asked of the model, what is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.datasets import samples, write_dataset
from support.small_clip import write_small_clip

from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.dataset import dataset as dataset_module
from clip_eval.dataset import open_dataset
from clip_eval.embedding import pipeline
from clip_eval.embedding.embed import embed_images
from clip_eval.embedding.embedded import embed_dataset
from clip_eval.embedding.texts import Tokenised, tokenised
from clip_eval.errors import DatasetError
from clip_eval.subject import Subject


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A small random checkpoint with its processor."""
    return Subject(open_checkpoint(write_small_clip(tmp_path_factory.mktemp("small"))), "float32")


def test_rows_are_those_of_the_images(subject: Subject, tmp_path: Path) -> None:
    """Each sample stands beside its own embedding, in the order of the dataset."""
    dataset = open_dataset(write_dataset(tmp_path, samples(5)))
    found = embed_dataset(subject, dataset)
    assert [sample.id for sample in found.samples] == ["100", "101", "102", "103", "104"]
    assert (found.images.shape, found.images.dtype, found.digest) == ((5, 24), np.float64, dataset.digest())
    with Image.open(dataset.root / found.samples[3].path) as image:
        np.testing.assert_allclose(found.images[3], embed_images(subject, [image])[0], atol=1e-6)


def test_files_are_read_once(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest of a dataset takes that of an image from the bytes that were embedded."""
    dataset = open_dataset(write_dataset(tmp_path, samples(5)))
    expected = dataset.digest()
    read: list[str] = []
    original = dataset_module._digest
    monkeypatch.setattr(dataset_module, "_digest", lambda file: read.append(file.name) or original(file))
    assert embed_dataset(subject, dataset).digest == expected
    assert read == ["dataset.toml", "manifest.jsonl"]


def test_unreadable_images_are_named(subject: Subject, tmp_path: Path) -> None:
    """A damaged image is not embedded and not forgotten; which files there were is part of the digest."""
    dataset = open_dataset(write_dataset(tmp_path, samples(5)))
    whole = embed_dataset(subject, dataset)
    path = whole.samples[1].path
    (dataset.root / path).write_bytes(b"no image")
    found = embed_dataset(subject, dataset)
    assert [sample.id for sample in found.samples] == ["100", "102", "103", "104"]
    assert len(found.images) == 4
    assert found.unreadable == (f"{path}: not an image that Pillow knows",)
    assert found.digest != whole.digest


def test_not_one_readable_image_is_an_error(subject: Subject, tmp_path: Path) -> None:
    """There is no score of nothing."""
    dataset = open_dataset(write_dataset(tmp_path, samples(2)))
    for sample in dataset.samples():
        (dataset.root / sample.path).write_bytes(b"no image")
    with pytest.raises(DatasetError, match="not one of 2 images can be read"):
        embed_dataset(subject, dataset)


def test_each_text_is_embedded_once(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever tasks ask for, and however often: a text that is known costs nothing, and rows keep their order."""
    asked: list[list[str]] = []

    def counted(subject: Subject, texts: Sequence[str]) -> Tokenised:
        asked.append(list(texts))
        return tokenised(subject, texts)

    monkeypatch.setattr(pipeline, "tokenised", counted)
    found = embed_dataset(subject, open_dataset(write_dataset(tmp_path, samples(2))))
    first = found.texts(["cat", "a red dog", "cat"])  # (3, projection)
    assert np.array_equal(first[0], first[2])
    assert np.array_equal(found.texts(["a red dog", "cat"]), first[1::-1])
    assert found.texts(["cat", "a bird"]).shape == (2, 24)
    assert asked == [["cat", "a red dog"], ["a bird"]]
