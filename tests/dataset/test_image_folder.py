"""Image folders: a class a directory, names of classes, captions, and what is told instead of left out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image
from support.datasets import COLOURS

from clip_eval.dataset import Dataset, decode, open_dataset
from clip_eval.errors import DatasetError

PROMPTS = "zeroshot_classification_templates.txt"


def write_folders(root: Path) -> Path:
    """Write two images of each colour, one below a directory of its own, into a directory a colour."""
    for name, colour in COLOURS.items():
        for place in ("b.png", "deep/a.jpg"):
            path = root / f"plain_{name}" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (30, 20), colour).save(path)
    return root


def problems(dataset: Dataset) -> dict[str, str | None]:
    """Return the problems of a dataset by place."""
    return {entry.where: entry.problem for entry in dataset.entries(images=False) if entry.problem}


def test_records_come_class_by_class(tmp_path: Path) -> None:
    """Classes and files come in the order of their names; a class has the name of its directory, in words."""
    dataset = open_dataset(write_folders(tmp_path))
    found = list(dataset.samples())
    assert [sample.id for sample in found] == [
        f"plain_{name}/{file}" for name in ("blue", "green", "red") for file in ("b.png", "deep/a.jpg")
    ]
    assert [sample.label for sample in found] == ["plain blue"] * 2 + ["plain green"] * 2 + ["plain red"] * 2
    assert {(sample.captions, sample.group) for sample in found} == {((), None)}
    assert dataset.zero_shot is not None
    assert dataset.zero_shot.classes == ("plain blue", "plain green", "plain red")
    assert dataset.zero_shot.prompts == ("A photo of a {}.",)
    assert dataset.require_complete() == 6


def test_every_sample_has_the_bytes_of_its_file(tmp_path: Path) -> None:
    """Bytes are those of the file, and they are decoded in order."""
    dataset = open_dataset(write_folders(tmp_path))
    for entry in dataset.entries():
        assert entry.sample is not None
        assert entry.image == (tmp_path / entry.sample.path).read_bytes()
    pixels = [item.image.convert("RGB").getpixel((3, 3)) for item in map(decode, dataset.entries()) if item.image]
    assert [pixel == COLOURS["blue"] for pixel in pixels[::2]] == [True, False, False]


def test_text_files_name_classes_and_prompts(tmp_path: Path) -> None:
    """`classnames.txt` names the directories in their order; the templates hold the class at {c}."""
    write_folders(tmp_path)
    (tmp_path / "classnames.txt").write_text("sky\ngrass\nblood\n", encoding="utf-8")
    (tmp_path / PROMPTS).write_text("the colour of {c}\n{c}, in short\n", encoding="utf-8")
    dataset = open_dataset(tmp_path)
    assert [sample.label for sample in dataset.samples()][::2] == ["sky", "grass", "blood"]
    assert dataset.zero_shot is not None
    assert dataset.zero_shot.texts()[:2] == ["the colour of sky", "sky, in short"]


def test_a_text_beside_an_image_is_its_captions(tmp_path: Path) -> None:
    """One caption a line, blank lines apart; a text without an image is told."""
    write_folders(tmp_path)
    (tmp_path / "plain_red/b.txt").write_text("all red\n\n red again \n", encoding="utf-8")
    (tmp_path / "plain_red/c.txt").write_text("nothing", encoding="utf-8")
    (tmp_path / "plain_green/b.txt").write_bytes(b"\xff")
    (tmp_path / "plain_blue/b.txt").write_bytes(b"x" * (2**20 + 1))
    dataset = open_dataset(tmp_path)
    captions = {entry.where: entry.sample.captions for entry in dataset.entries() if entry.sample}
    assert captions["plain_red/b.png"] == ("all red", "red again")
    assert captions["plain_red/deep/a.jpg"] == ()
    assert problems(dataset)["plain_red/c.txt"] == "it holds captions, but there is no image of that name"
    assert "cannot be read" in str(problems(dataset)["plain_green/b.png"])
    assert "the limit is" in str(problems(dataset)["plain_blue/b.png"])


def test_nothing_is_left_out_in_silence(tmp_path: Path) -> None:
    """Every odd thing in a class directory has its place among the entries; hidden files are no samples."""
    write_folders(tmp_path)
    Image.new("RGB", (9, 9)).save(tmp_path / "lost.png")
    (tmp_path / "README.md").touch()
    (tmp_path / "plain_red/.DS_Store").touch()
    (tmp_path / "plain_red/notes.md").touch()
    os.mkfifo(tmp_path / "plain_red/pipe.png")
    (tmp_path / "plain_red/gone.png").symlink_to("nowhere")
    (tmp_path / "plain_red/round").symlink_to(tmp_path / "plain_red", target_is_directory=True)
    (tmp_path / "plain_red/linked.png").symlink_to("b.png")
    dataset = open_dataset(tmp_path)
    assert problems(dataset) == {
        "lost.png": "it is not in a class directory",
        "plain_red/pipe.png": "it is not a file",
        "plain_red/gone.png": "No such file or directory",
        "plain_red/round": "links to directories are not followed",
    }
    whole = {item.where: item.problem for item in map(decode, dataset.entries())}
    assert whole["plain_red/notes.md"] == "not an image that Pillow knows"
    assert whole["plain_red/linked.png"] is None
    assert len(whole) == 6 + 4 + 2
    with pytest.raises(DatasetError, match="4 of 12 samples cannot be read") as caught:
        dataset.require_complete()
    assert "and 1 more" in str(caught.value)


def test_names_that_are_no_text_are_read_and_printable(tmp_path: Path) -> None:
    """A file name that is no UTF-8 names its sample in a way that can be printed, and its image is read."""
    write_folders(tmp_path)
    os.rename(tmp_path / "plain_red/b.png", os.fsencode(tmp_path / "plain_red") + b"/\xff.png")  # noqa: PTH104
    dataset = open_dataset(tmp_path)
    found = [item for item in map(decode, dataset.entries()) if item.where.isascii() and "udcff" in item.where]
    assert [item.problem for item in found] == [None]
    assert found[0].sample is not None
    found[0].sample.id.encode("utf-8")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"classnames.txt": "a\nb\n"}, "names 2 classes, and there are 3"),
        ({"classnames.txt": "a\n\nb\n"}, "line 2 is empty"),
        ({"classnames.txt": "a\na\na\n"}, "one class only"),
        ({"classnames.txt": "\xff".encode("latin-1").decode("latin-1")}, "names 1 classes"),
        ({PROMPTS: "a photo\n"}, "line 1, 'a photo', does not hold {c} once"),
        ({PROMPTS: "{c}\n{c} {c}\n"}, "line 2"),
        ({PROMPTS: "{c} {}\n"}, "line 1"),
    ],
)
def test_text_files_that_make_no_sense_are_refused(tmp_path: Path, files: dict[str, str], said: str) -> None:
    """Each mistake is one paragraph that names the file or the folder."""
    write_folders(tmp_path)
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError) as caught:
        open_dataset(tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_splits_are_no_classes(tmp_path: Path) -> None:
    """A folder of train and val is no dataset of two classes: one of them has to be named."""
    write_folders(tmp_path / "train")
    write_folders(tmp_path / "val")
    with pytest.raises(DatasetError, match="are splits of a dataset, not classes"):
        open_dataset(tmp_path)
    assert open_dataset(tmp_path / "val").require_complete() == 6


def test_folders_without_images_are_no_dataset(tmp_path: Path) -> None:
    """A directory of directories that hold no image, such as a checkpoint, is refused."""
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.json").touch()
    with pytest.raises(DatasetError, match="the directory holds no dataset"):
        open_dataset(tmp_path)


def test_digest_knows_of_classes(tmp_path: Path) -> None:
    """Another content, another prompt, and the same files in other classes each make another dataset."""
    dataset = open_dataset(write_folders(tmp_path))
    digests = [dataset.digest()]
    (tmp_path / PROMPTS).write_text("{c}\n", encoding="utf-8")
    digests.append(dataset.digest())
    (tmp_path / "plain_blue/deep/a.jpg").rename(tmp_path / "plain_green/a.jpg")
    digests.append(dataset.digest())
    (tmp_path / "plain_red/b.png").write_bytes(b"other")
    digests.append(dataset.digest())
    assert len(set(digests)) == 4
    assert open_dataset(tmp_path).digest() == digests[-1]
