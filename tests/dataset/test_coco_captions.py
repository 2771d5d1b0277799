"""Captions in COCO's JSON, and in Karpathy's: what is read, and what is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.shards import image_bytes

from clip_eval.dataset import Dataset, open_dataset
from clip_eval.errors import DatasetError

IMAGES = [{"id": 9, "file_name": "b.png"}, {"id": 4, "file_name": "a.png"}, {"id": 5, "file_name": "deep/c.png"}]
CAPTIONS = [
    {"image_id": 9, "caption": "a red one\n"},
    {"image_id": 4, "caption": "a green one"},
    {"image_id": 9, "caption": "red"},
]


def write_coco(root: Path, images: object = IMAGES, annotations: object = CAPTIONS, *, folder: str = "val2017") -> Path:
    """Write three images and a file of their captions, where COCO has them; returns `root`."""
    for name, colour in (("b.png", "red"), ("a.png", "green"), ("deep/c.png", "blue")):
        file = root / folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(image_bytes(colour, "png"))
    (root / "annotations").mkdir()
    raw = {"info": {}, "images": images, "annotations": annotations}
    (root / "annotations/captions_val2017.json").write_text(json.dumps(raw), encoding="utf-8")
    return root


def problems(dataset: Dataset) -> dict[str, str | None]:
    """Return the problems of a dataset by place, images read."""
    return {entry.where: entry.problem for entry in dataset.entries() if entry.problem}


def with_settings(root: Path, text: str) -> Dataset:
    """Open a directory with this dataset.toml."""
    (root / "dataset.toml").write_text(text, encoding="utf-8")
    return open_dataset(root)


def test_images_come_in_the_order_of_the_file_with_all_their_captions(tmp_path: Path) -> None:
    """Several captions an image, and none."""
    dataset = open_dataset(write_coco(tmp_path))
    assert dataset.zero_shot is None
    assert dataset.require_complete() == 3
    assert [(sample.id, sample.captions) for sample in dataset.samples()] == [
        ("val2017/b.png", ("a red one", "red")), ("val2017/a.png", ("a green one",)), ("val2017/deep/c.png", ()),
    ]  # fmt: skip
    assert next(dataset.entries()).image == image_bytes("red", "png")
    before = dataset.digest()
    (tmp_path / "val2017/a.png").write_bytes(b"other")
    assert dataset.digest() != before


@pytest.mark.parametrize(("folder", "table"), [("images", ""), (".", ""), ("x/y", 'images = "x/y"')])
def test_the_images_may_lie_elsewhere(tmp_path: Path, folder: str, table: str) -> None:
    """In `images`, beside the file's folder, or where dataset.toml says; it may name the file too."""
    write_coco(tmp_path, folder=folder)
    named = f'[coco]\nannotations = "annotations/captions_val2017.json"\n{table}\n'
    assert (with_settings(tmp_path, named) if table else open_dataset(tmp_path)).require_complete() == 3


def test_one_of_several_files_must_be_named(tmp_path: Path) -> None:
    """Two files of captions are not guessed between."""
    write_coco(tmp_path)
    (tmp_path / "captions.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DatasetError, match="there are 2"):
        open_dataset(tmp_path)
    dataset = with_settings(tmp_path, '[coco]\nannotations = "annotations/captions_val2017.json"\n')
    assert dataset.require_complete() == 3


def test_wrong_entries_are_told_one_by_one(tmp_path: Path) -> None:
    """Entries of other forms, names out of the folder, unknown images, an image twice, and one that is missing."""
    images = [
        *IMAGES[:1], 7, {"file_name": "a.png"}, {"id": 1, "file_name": "../a.png"}, {"id": 2, "file_name": "/a.png"},
        {"id": 3, "file_name": None}, {"id": 6, "file_name": "b.png"}, {"id": 8, "file_name": "none.png"},
    ]  # fmt: skip
    annotations = [
        [],
        {"image_id": 9},
        {"image_id": 9, "caption": " "},
        {"image_id": 77, "caption": "x"},
        *CAPTIONS[:1],
    ]
    told = problems(open_dataset(write_coco(tmp_path, images, annotations)))
    assert [where.removeprefix("entry ") for where in told] == [
        "1 of images", "2 of images", "3 of images", "4 of images", "5 of images", "6 of images", "val2017/none.png",
        "0 of annotations", "1 of annotations", "2 of annotations", "3 of annotations",
    ]  # fmt: skip
    assert told["entry 3 of images"] == "its file_name is '../a.png', which names no file in the folder"
    assert told["entry 6 of images"] == "the image 'val2017/b.png' occurs a second time"
    assert told["entry 3 of annotations"] == "its `image_id` is 77, and no image has it"


def test_splits_of_karpathy(tmp_path: Path) -> None:
    """Sentences are captions; a split is chosen in dataset.toml, else all count."""
    images = [
        {
            "filepath": "deep",
            "filename": "c.png",
            "split": "test",
            "sentences": [{"raw": "a blue one"}, {"raw": "blue"}],
        },
        {"filename": "a.png", "split": "train", "sentences": [{"raw": "green"}]},
        {"filename": "b.png", "split": "test", "sentences": [{}]},
    ]
    write_coco(tmp_path, images)
    assert [entry.where for entry in open_dataset(tmp_path).entries()][1] == "val2017/a.png"
    dataset = with_settings(tmp_path, '[coco]\nsplit = "test"\n')
    first, second = dataset.entries()
    assert first.sample is not None
    assert (first.sample.id, first.sample.captions) == ("val2017/deep/c.png", ("a blue one", "blue"))
    assert second.problem == "its sentences are not objects with a text `raw`"
    with pytest.raises(DatasetError, match=r"no split 'val'.*test, train"):
        list(with_settings(tmp_path, '[coco]\nsplit = "val"\n').entries())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "no list 'images'"), ('{"images": []}', "no list 'annotations'"), ("{", "is not JSON"),
        ("[" * 5000, "nested more than"), (b"\xff", "not UTF-8"),
    ],
)  # fmt: skip
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    """In one paragraph that names the file."""
    file = write_coco(tmp_path) / "annotations/captions_val2017.json"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(DatasetError, match=said) as caught:
        list(open_dataset(tmp_path).entries())
    assert file.name in str(caught.value)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[coco]\nannotations = "/etc/passwd"', "not a place in the dataset"),
        ('[coco]\nimages = "../x"', "not a place in the dataset"),
        (f'[coco]\nannotations = "{"x" * 256}"', "too long for a path"),
        (f'[coco]\nimages = "{"x/" * 600}"', "too long for a path"),
        ('[coco]\nimages = "none"', "folder of the images does not exist"),
        ('[coco]\nimage = "val2017"', "unknown key 'image'"),
        ('[coco]\n[zero_shot]\nclasses = ["a", "b"]\nprompts = ["{}"]', "needs labels"),
        ("coco = 1", "is not a table"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, table: str, said: str) -> None:
    """In one paragraph that names the key."""
    with pytest.raises(DatasetError, match=said):
        with_settings(write_coco(tmp_path), table)
    (tmp_path / "dataset.toml").write_text('[coco]\nsplit = "test"\n', encoding="utf-8")
    with pytest.raises(DatasetError, match="states no splits"):
        list(open_dataset(tmp_path).entries())
