"""Opening a dataset, walking its manifest, and what is refused by line."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import pytest
from support.datasets import SETTINGS, samples, write_dataset

from clip_eval.dataset import open_dataset, sample
from clip_eval.errors import DatasetError

MISTAKES = [
    (b"{not json", "it is not JSON"),
    (b'{"id": 1' + b"0" * 5000 + b"}", "it holds a number of 5,001 digits"),
    (b"\xff\xfe", "it is not JSON"),
    (b"[" * 100_000, "it is nested more than 100 deep"),
    (b"[1]", "it is not a JSON object"),
    ({"id": None}, "`id` is missing"),
    ({"id": 7}, "`id` is not a text"),
    ({"extension": ""}, "`extension` is missing"),
    ({"extension": "exe"}, "the template makes no path of it"),
    ({"user": 3}, "the template makes no path of it"),
    ({"label": None}, "`label` is missing"),
    ({"label": "rod"}, "the nearest is 'red'"),
    ({"label": 1}, "`label` is not a text"),
    ({"group": "\ud83d"}, "`group` holds a lone surrogate"),
    ({"negatives": "text"}, "`negatives` is not a list of texts"),
    ({"negatives": ["something blue"]}, "`negatives` holds a caption of its image"),
    ({"captions": "a dog"}, "`captions` is not a list of texts"),
    ({"captions": ["a dog", ""]}, "`captions` is not a list of texts"),
    ({"negatives": ["a"], "captions": ["a"]}, "`negatives` holds a caption of its image"),
    ({"negatives": ["a"], "caption": None}, "it has `negatives` and no `caption` that is right"),
]


def test_records_follow_the_manifest(tmp_path: Path) -> None:
    """Paths come from the template; labels, captions and groups from the manifest, whatever the file is called."""
    dataset = open_dataset(write_dataset(tmp_path))
    found = list(dataset.samples())
    assert [sample.id for sample in found] == [str(entry["id"]) for entry in samples(6)]
    assert found[0].path == "Mira/green_100.png"
    assert (found[0].label, found[0].captions, found[0].group) == ("red", ("something red",), "0")
    assert dataset.require_complete() == 6


def test_opening_reads_no_record(tmp_path: Path) -> None:
    """A dataset is opened lazily: a broken manifest shows when it is read."""
    root = write_dataset(tmp_path)
    (root / "manifest.jsonl").write_bytes(b"{not json\n")
    dataset = open_dataset(root)
    with pytest.raises(DatasetError, match=r"line 1 of manifest\.jsonl: it is not JSON"):
        list(dataset.samples())


def test_one_line_is_read_at_a_time(tmp_path: Path) -> None:
    """Samples before a broken line are yielded."""
    root = write_dataset(tmp_path)
    with (root / "manifest.jsonl").open("ab") as manifest:
        manifest.write(b"{not json\n")
    walk = open_dataset(root).samples()
    assert [next(walk).id for _ in range(6)] == ["100", "101", "102", "103", "104", "105"]
    with pytest.raises(DatasetError, match="line 7"):
        next(walk)


@pytest.mark.parametrize(("mistake", "said"), MISTAKES)
def test_mistakes_name_their_line(tmp_path: Path, mistake: bytes | dict[str, object], said: str) -> None:
    """A line that is no sample is an error of one paragraph with its number, never a sample less."""
    root = write_dataset(tmp_path)
    line = mistake if isinstance(mistake, bytes) else json.dumps({**samples(3)[2], **mistake}).encode()
    lines = (root / "manifest.jsonl").read_bytes().split(b"\n")
    (root / "manifest.jsonl").write_bytes(b"\n".join([*lines[:2], line, *lines[3:]]))
    with pytest.raises(DatasetError) as caught:
        open_dataset(root).require_complete()
    assert said in str(caught.value)
    assert "1 of 6 samples cannot be read: line 3 of manifest.jsonl" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_are_free_without_a_task(tmp_path: Path) -> None:
    """A dataset without [zero_shot] may have samples without a label."""
    entries = [{**entry, "label": None} for entry in samples(2)]
    root = write_dataset(tmp_path)
    (root / "dataset.toml").write_text(SETTINGS.partition("[zero_shot]")[0], encoding="utf-8")
    (root / "manifest.jsonl").write_text("\n".join(map(json.dumps, entries)), encoding="utf-8")
    assert [sample.label for sample in open_dataset(root).samples()] == [None, None]


def test_missing_images_are_counted_and_named(tmp_path: Path) -> None:
    """All missing images are counted, the first three are named."""
    root = write_dataset(tmp_path)
    gone = sorted(root.glob("Mira/*"))[:5]
    for file in gone:
        file.unlink()
    with pytest.raises(DatasetError) as caught:
        open_dataset(root).require_complete()
    assert "5 of 6 samples cannot be read" in str(caught.value)
    assert str(caught.value).count("Mira/") == str(caught.value).count("No such file") == 3
    assert "and 2 more" in str(caught.value)


def test_an_id_may_occur_once(tmp_path: Path) -> None:
    """Answers are paired by id, so two samples must not share one."""
    root = write_dataset(tmp_path, [*samples(3), samples(1)[0]])
    with pytest.raises(DatasetError, match="the id '100' occurs a second time"):
        open_dataset(root).require_complete()


def test_an_empty_manifest_is_refused(tmp_path: Path) -> None:
    """Nothing passes by absence: a dataset without samples is an error."""
    root = write_dataset(tmp_path)
    (root / "manifest.jsonl").write_text("\n\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="holds no sample"):
        open_dataset(root).require_complete()


def test_a_manifest_that_vanished_is_refused(tmp_path: Path) -> None:
    """A manifest that cannot be read any more is an error of the dataset, with the system's reason."""
    dataset = open_dataset(write_dataset(tmp_path))
    (dataset.root / "manifest.jsonl").unlink()
    with pytest.raises(DatasetError, match="cannot be read"):
        dataset.require_complete()


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    """No such directory, a file, and a directory without either file: each is said in one paragraph."""
    with pytest.raises(DatasetError, match="the dataset does not exist"):
        open_dataset(tmp_path / "nowhere")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DatasetError, match="this is a file"):
        open_dataset(file)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="the directory holds no dataset"):
        open_dataset(tmp_path / "empty")
    (tmp_path / "manifest.jsonl").touch()
    with pytest.raises(DatasetError, match=r"has no dataset\.toml"):
        open_dataset(tmp_path)
    (tmp_path / "manifest.jsonl").unlink()
    (tmp_path / "dataset.toml").write_text(SETTINGS, encoding="utf-8")
    with pytest.raises(DatasetError, match=r"has no manifest\.jsonl"):
        open_dataset(tmp_path)


def test_a_dataset_may_be_saved_by_any_editor(tmp_path: Path) -> None:
    """A byte order mark, line ends of Windows and blank lines are no content."""
    root = write_dataset(tmp_path)
    text = (root / "manifest.jsonl").read_bytes()
    (root / "manifest.jsonl").write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n\r\n"))
    assert open_dataset(root).require_complete() == 6


def test_tags_are_the_caption_where_there_is_none(tmp_path: Path) -> None:
    """The caption field goes before the tags, which are joined; half a character at a cut becomes a replacement."""
    fields: list[dict[str, object]] = [
        {"tags_transl_only": ["blue sky", "", "夏"]},
        {"caption": "cut \ud83d", "tags_transl_only": ["no"]},
        {"tags_transl_only": []},
        {"caption": ""},
    ]
    entries = [{**entry, "caption": None, **more} for entry, more in zip(samples(4), fields, strict=True)]
    dataset = open_dataset(write_dataset(tmp_path, entries))
    assert [sample.captions for sample in dataset.samples()] == [("blue sky, 夏",), ("cut \ufffd",), (), ()]


def test_an_image_may_have_several_captions(tmp_path: Path) -> None:
    """A list, as of COCO's images, beside or instead of the one; each text once."""
    fields: list[dict[str, object]] = [
        {"captions": ["one dog", "a dog", "one dog"]},
        {"caption": "a dog", "captions": ["one dog", "a dog"], "tags_transl_only": ["no"]},
        {"captions": [], "tags_transl_only": ["dog"]},
    ]
    entries = [{**entry, "caption": None, **more} for entry, more in zip(samples(3), fields, strict=True)]
    found = open_dataset(write_dataset(tmp_path, entries)).samples()
    assert [sample.captions for sample in found] == [("one dog", "a dog"), ("a dog", "one dog"), ("dog",)]


def test_samples_hold_the_bytes_of_their_images(tmp_path: Path) -> None:
    """Each entry has the bytes of its file, and none where they were not asked for."""
    dataset = open_dataset(write_dataset(tmp_path))
    for entry, looked in zip(dataset.entries(), dataset.entries(images=False), strict=True):
        assert entry.sample is not None
        assert entry.sample == looked.sample
        assert entry.image == (dataset.root / entry.sample.path).read_bytes()
        assert (looked.image, looked.problem, entry.problem) == (None, None, None)


def test_what_is_no_file_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory and a named pipe in an image's place, and a file that is too large, are problems of their samples."""
    dataset = open_dataset(write_dataset(tmp_path, samples(4)))
    paths = [dataset.root / sample.path for sample in dataset.samples()]
    for path in paths[:2]:
        path.unlink()
    paths[0].mkdir()
    os.mkfifo(paths[1])
    monkeypatch.setattr(sample, "LARGEST_IMAGE_BYTES", paths[2].stat().st_size - 1)
    problems = [entry.problem for entry in dataset.entries()]
    assert problems[:2] == ["it is not a file"] * 2
    assert "the limit is" in str(problems[2])


def test_a_large_manifest_is_walked_in_little_memory(tmp_path: Path) -> None:
    """Of a manifest of 20,000 samples, 6 MB, the walk holds less than 100 KB beyond what the first samples took."""
    root = write_dataset(tmp_path)
    entry = json.dumps(samples(1)[0])
    count = 20_000
    with (root / "manifest.jsonl").open("w", encoding="utf-8") as manifest:
        manifest.writelines(entry.replace('"100"', f'"{number}"') + "\n" for number in range(count))
    walk = open_dataset(root).entries(images=False)
    for _ in range(100):
        next(walk)
    tracemalloc.start()
    try:
        assert sum(1 for _ in walk) == count - 100
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 100_000


@pytest.mark.parametrize("file", ["dataset.toml", "manifest.jsonl", "Mira/green_100.png"])
def test_digest_covers_every_file(tmp_path: Path, file: str) -> None:
    """Another prompt, another label and another image each make another dataset; a missing image one more."""
    dataset = open_dataset(write_dataset(tmp_path / "one"))
    assert dataset.digest() == open_dataset(write_dataset(tmp_path / "two")).digest()
    before = dataset.digest()
    path = dataset.root / file
    path.write_bytes(path.read_bytes() + b"\n")
    changed = dataset.digest()
    assert changed != before
    if path.suffix == ".png":
        path.unlink()
        assert dataset.digest() not in (before, changed)


def test_tags_negatives_and_split(tmp_path: Path) -> None:
    """Tags are those that the table names, in its order, and count with the table only; a list of them is required."""
    table = SETTINGS + '[multi_label]\nprompts = ["{}"]\ntags = ["round", "red"]\n'
    fields = {"tags": ["red", "round", "of no interest"], "negatives": ["something \ud83d"], "split": "test"}
    first, second = ({**entry, **fields} for entry in samples(2))
    found = next(open_dataset(write_dataset(tmp_path / "a", [first], settings=table)).samples())
    assert (found.tags, found.negatives, found.split) == (("round", "red"), ("something \ufffd",), "test")
    without = next(open_dataset(write_dataset(tmp_path / "b", [{**first, "split": 3}])).samples())
    assert (without.tags, without.split) == ((), None)
    lacking = open_dataset(write_dataset(tmp_path / "c", [first, {**second, "tags": None}], settings=table))
    with pytest.raises(
        DatasetError, match=r"line 2 of manifest\.jsonl: `tags` is missing, and \[multi_label\] needs it"
    ):
        list(lacking.samples())
