"""Directories of Hugging Face's `save_to_disk`: what is read, without that library, and what is told."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from support.datasets import COLOURS
from support.saved_datasets import IMAGE, coloured, write_saved
from support.shards import image_bytes

from clip_eval.dataset import Dataset, decode, open_dataset
from clip_eval.errors import DatasetError

FIRST, SECOND = "data-00000-of-00002.arrow", "data-00001-of-00002.arrow"


def problems(dataset: Dataset) -> dict[str, str | None]:
    """Return the problems of a dataset by place, images read."""
    return {entry.where: entry.problem for entry in dataset.entries() if entry.problem}


def with_settings(root: Path, text: str) -> Dataset:
    """Open a directory with this dataset.toml."""
    (root / "dataset.toml").write_text(text, encoding="utf-8")
    return open_dataset(root)


def test_rows_come_file_by_file(tmp_path: Path) -> None:
    """Each row is a sample with its image, the name of its class and its captions."""
    dataset = open_dataset(write_saved(tmp_path))
    assert dataset.zero_shot is not None
    assert dataset.zero_shot.classes == tuple(COLOURS)
    assert dataset.zero_shot.prompts == ("A photo of a {}.",)
    assert dataset.require_complete() == 6
    entries = list(dataset.entries())
    samples = [entry.sample for entry in entries if entry.sample]
    assert [sample.id for sample in samples][2:4] == [f"{FIRST}/2", f"{SECOND}/0"]
    assert [sample.label for sample in samples] == [*COLOURS, *COLOURS]
    assert samples[3].captions == ("a red one, number 3", "red")
    assert entries[0].image == image_bytes("red", "png")
    assert [item.image.size for item in map(decode, dataset.entries()) if item.image] == [(24, 20)] * 6


def test_columns_classes_and_split_are_named_in_dataset_toml(tmp_path: Path) -> None:
    """Columns of other names, labels that are texts, a group, and one of several splits."""
    columns = coloured(0)
    labels = pa.array(["red", "blue", None])
    for split in ("train", "extra"):
        renamed = {"picture": columns["image"], "kind": labels, "words": pa.array(["a", "", None]), "by": labels}
        write_saved(tmp_path / split, [renamed])
        info = {"features": {name: {"_type": "Value"} for name in renamed}}
        (tmp_path / split / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "extra"]}', encoding="utf-8")
    with pytest.raises(DatasetError, match="several splits"):
        open_dataset(tmp_path)
    with pytest.raises(DatasetError, match=r"has no column `image`.*'picture'"):
        with_settings(tmp_path, 'split = "extra"')
    named = 'split = "extra"\n[columns]\nimage = "picture"\nlabel = "kind"\ncaption = "words"\ngroup = "by"\n'
    dataset = with_settings(tmp_path, named)
    assert dataset.zero_shot is None
    samples = list(dataset.samples())
    assert samples[0].id == "extra/data-00000-of-00002.arrow/0"
    assert [(sample.label, sample.captions, sample.group) for sample in samples] == [
        ("red", ("a",), "red"), ("blue", (), "blue"), (None, (), None),
    ]  # fmt: skip
    dataset = with_settings(tmp_path, named + '[zero_shot]\nclasses = ["red", "green"]\nprompts = ["a {}"]\n')
    assert list(problems(dataset).values()) == [
        "the label 'blue' is not one of zero_shot.classes",
        "`label` is missing, and [zero_shot] needs one",
    ]


def test_a_row_without_an_image_or_with_a_wrong_label_is_told(tmp_path: Path) -> None:
    """Only the path of an image, no image, a label outside of the names, and datasets' sign for no label."""
    images = [{"bytes": None, "path": "/a.png"}, None, *[{"bytes": image_bytes("red"), "path": None}] * 3]
    columns = {
        "image": pa.array(images, IMAGE),
        "label": pa.array([0, 0, 3, -1, 1]),
        "caption": pa.array([[]] * 5, pa.list_(pa.string())),
    }
    dataset = open_dataset(write_saved(tmp_path, [columns]))
    assert list(problems(dataset).values()) == [
        "it has no image, or only the path of one",
        "it has no image, or only the path of one",
        "its label is 3, and there are 3 classes from 0",
        "`label` is missing, and [zero_shot] needs one",
    ]
    with pytest.raises(DatasetError, match="4 of 5 samples cannot be read"):
        dataset.require_complete()


@pytest.mark.parametrize("cut", [1, 8, 9, 200, 700, 1_000_000])
def test_a_file_that_breaks_off_is_told(tmp_path: Path, cut: int) -> None:
    """However few bytes are missing, the file is named; whole batches before come first, and the next file is read."""
    write_saved(tmp_path)
    content = (tmp_path / FIRST).read_bytes()
    (tmp_path / FIRST).write_bytes(content[: max(0, len(content) - cut)])
    found = list(open_dataset(tmp_path).entries())
    told = [entry.where for entry in found if entry.problem]
    assert told == [FIRST]
    assert [entry.where for entry in found if entry.image][-3:] == [f"{SECOND}/{row}" for row in range(3)]


def test_a_stream_that_ends_between_batches_is_told(tmp_path: Path) -> None:
    """Without its end mark a stream of fewer batches would look complete."""
    write_saved(tmp_path)
    with pa.OSFile(str(tmp_path / FIRST), "wb") as sink:
        table = pa.table(coloured(0))
        writer = pa.ipc.new_stream(sink, table.schema)
        writer.write_table(table.slice(0, 2))
        sink.flush()
        whole = (tmp_path / FIRST).read_bytes()
        writer.close()
    (tmp_path / FIRST).write_bytes(whole)
    assert problems(open_dataset(tmp_path)) == {FIRST: "after row 2 of it it breaks off, or goes on after its end"}


def test_columns_of_other_types_are_told(tmp_path: Path) -> None:
    """A column that is no image, and one that the file lacks."""
    columns = coloured(0)
    write_saved(tmp_path, [{**columns, "image": pa.array([1, 2, 3])}, {"image": columns["image"]}])
    told = problems(open_dataset(tmp_path))
    assert told[FIRST] == "its column 'image' is of type int64, which is no image"
    assert told[SECOND] == "it has no column 'label', or two"


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("state.json", "[]", "does not hold an object"),
        ("state.json", '{"_data_files": [{"filename": "../x.arrow"}]}', "names no Arrow files"),
        ("state.json", '{"_indices_data_files": [{"filename": "a"}]}', r"flatten_indices\(\)"),
        ("dataset_info.json", "{}", "states no features"),
        ("dataset_info.json", "{", "is not JSON"),
        ("dataset_info.json", '{"features": {"label": {}}}', "no column `image`"),
        ("dataset.toml", 'split = "test"', "the dataset has none"),
        ("dataset.toml", '[columns]\nlabel = "kind"', "no such column"),
        ("dataset.toml", '[columns]\nlabels = "label"', "unknown key 'labels'.*label"),
    ],
)
def test_what_cannot_be_opened_says_why(tmp_path: Path, file: str, text: str, said: str) -> None:
    """Each is one paragraph that names the file."""
    write_saved(tmp_path)
    (tmp_path / file).write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=said) as caught:
        open_dataset(tmp_path)
    assert tmp_path.name in str(caught.value)
