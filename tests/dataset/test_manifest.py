"""Opening a library, walking its manifest, and what is refused by line."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import pytest
from support.datasets import SETTINGS, records, write_library

from clip_eval.dataset import open_library, record
from clip_eval.errors import LibraryError

MISTAKES = [
    (b"{not json", "it is not JSON"),
    (b'{"id": 1' + b"0" * 5000 + b"}", "it is not JSON"),
    (b"\xff\xfe", "it is not JSON"),
    (b"[" * 100_000, "it is not JSON"),
    (b"[1]", "it is not a JSON object"),
    ({"id": None}, "`id` is missing"),
    ({"id": 7}, "`id` is no text"),
    ({"extension": ""}, "`extension` is missing"),
    ({"extension": "exe"}, "the template makes no path of it"),
    ({"user": 3}, "the template makes no path of it"),
    ({"label": None}, "`label` is missing"),
    ({"label": "rod"}, "the nearest is 'red'"),
    ({"label": 1}, "`label` is no text"),
    ({"group": "\ud83d"}, "`group` holds half of a character"),
]


def test_records_follow_the_manifest(tmp_path: Path) -> None:
    """Paths come from the template; labels, captions and groups from the manifest, whatever the file is called."""
    library = open_library(write_library(tmp_path))
    found = list(library.records())
    assert [record.id for record in found] == [str(entry["id"]) for entry in records(6)]
    assert found[0].path == "Mira/green_100.png"
    assert (found[0].label, found[0].captions, found[0].group) == ("red", ("something red",), "0")
    assert library.require_complete() == 6


def test_opening_reads_no_record(tmp_path: Path) -> None:
    """A library is opened lazily: a broken manifest shows when it is read."""
    root = write_library(tmp_path)
    (root / "manifest.jsonl").write_bytes(b"{not json\n")
    library = open_library(root)
    with pytest.raises(LibraryError, match=r"line 1 of manifest\.jsonl: it is not JSON"):
        list(library.records())


def test_one_line_is_read_at_a_time(tmp_path: Path) -> None:
    """Records before a broken line are yielded."""
    root = write_library(tmp_path)
    with (root / "manifest.jsonl").open("ab") as manifest:
        manifest.write(b"{not json\n")
    walk = open_library(root).records()
    assert [next(walk).id for _ in range(6)] == ["100", "101", "102", "103", "104", "105"]
    with pytest.raises(LibraryError, match="line 7"):
        next(walk)


@pytest.mark.parametrize(("mistake", "said"), MISTAKES)
def test_mistakes_name_their_line(tmp_path: Path, mistake: bytes | dict[str, object], said: str) -> None:
    """A line that is no record is an error of one paragraph with its number, never a record less."""
    root = write_library(tmp_path)
    line = mistake if isinstance(mistake, bytes) else json.dumps({**records(3)[2], **mistake}).encode()
    lines = (root / "manifest.jsonl").read_bytes().split(b"\n")
    (root / "manifest.jsonl").write_bytes(b"\n".join([*lines[:2], line, *lines[3:]]))
    with pytest.raises(LibraryError) as caught:
        open_library(root).require_complete()
    assert said in str(caught.value)
    assert "1 of 6 records cannot be read: line 3 of manifest.jsonl" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_are_free_without_a_task(tmp_path: Path) -> None:
    """A library without [zero_shot] may have records without a label."""
    entries = [{**entry, "label": None} for entry in records(2)]
    root = write_library(tmp_path)
    (root / "library.toml").write_text(SETTINGS.partition("[zero_shot]")[0], encoding="utf-8")
    (root / "manifest.jsonl").write_text("\n".join(map(json.dumps, entries)), encoding="utf-8")
    assert [record.label for record in open_library(root).records()] == [None, None]


def test_missing_images_are_counted_and_named(tmp_path: Path) -> None:
    """All missing images are counted, the first three are named."""
    root = write_library(tmp_path)
    gone = sorted(root.glob("Mira/*"))[:5]
    for file in gone:
        file.unlink()
    with pytest.raises(LibraryError) as caught:
        open_library(root).require_complete()
    assert "5 of 6 records cannot be read" in str(caught.value)
    assert str(caught.value).count("Mira/") == str(caught.value).count("No such file") == 3
    assert "and 2 more" in str(caught.value)


def test_an_id_may_occur_once(tmp_path: Path) -> None:
    """Answers are paired by id, so two records must not share one."""
    root = write_library(tmp_path, [*records(3), records(1)[0]])
    with pytest.raises(LibraryError, match="the id '100' occurs a second time"):
        open_library(root).require_complete()


def test_an_empty_manifest_is_refused(tmp_path: Path) -> None:
    """Nothing passes by absence: a library without records is an error."""
    root = write_library(tmp_path)
    (root / "manifest.jsonl").write_text("\n\n", encoding="utf-8")
    with pytest.raises(LibraryError, match="holds no record"):
        open_library(root).require_complete()


def test_a_manifest_that_vanished_is_refused(tmp_path: Path) -> None:
    """A manifest that cannot be read any more is an error of the library, with the system's reason."""
    library = open_library(write_library(tmp_path))
    (library.root / "manifest.jsonl").unlink()
    with pytest.raises(LibraryError, match="cannot be read"):
        library.require_complete()


def test_what_is_no_library_is_refused(tmp_path: Path) -> None:
    """No such directory, a file, and a directory without either file: each is said in one paragraph."""
    with pytest.raises(LibraryError, match="no such library"):
        open_library(tmp_path / "nowhere")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(LibraryError, match="this is a file"):
        open_library(file)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LibraryError, match="no library in this directory"):
        open_library(tmp_path / "empty")
    (tmp_path / "manifest.jsonl").touch()
    with pytest.raises(LibraryError, match=r"has no library\.toml"):
        open_library(tmp_path)
    (tmp_path / "manifest.jsonl").unlink()
    (tmp_path / "library.toml").write_text(SETTINGS, encoding="utf-8")
    with pytest.raises(LibraryError, match=r"has no manifest\.jsonl"):
        open_library(tmp_path)


def test_a_library_may_be_saved_by_any_editor(tmp_path: Path) -> None:
    """A byte order mark, line ends of Windows and blank lines are no content."""
    root = write_library(tmp_path)
    text = (root / "manifest.jsonl").read_bytes()
    (root / "manifest.jsonl").write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n\r\n"))
    assert open_library(root).require_complete() == 6


def test_tags_are_the_caption_where_there_is_none(tmp_path: Path) -> None:
    """The caption field goes before the tags, which are joined; half a character at a cut becomes a replacement."""
    fields: list[dict[str, object]] = [
        {"tags_transl_only": ["blue sky", "", "夏"]},
        {"caption": "cut \ud83d", "tags_transl_only": ["no"]},
        {"tags_transl_only": []},
        {"caption": ""},
    ]
    entries = [{**entry, "caption": None, **more} for entry, more in zip(records(4), fields, strict=True)]
    library = open_library(write_library(tmp_path, entries))
    assert [record.captions for record in library.records()] == [("blue sky, 夏",), ("cut \ufffd",), (), ()]


def test_samples_hold_the_bytes_of_their_images(tmp_path: Path) -> None:
    """Each sample has the bytes of its file, and none where they were not asked for."""
    library = open_library(write_library(tmp_path))
    for sample, looked in zip(library.samples(), library.samples(images=False), strict=True):
        assert sample.record is not None
        assert sample.record == looked.record
        assert sample.image == (library.root / sample.record.path).read_bytes()
        assert (looked.image, looked.problem, sample.problem) == (None, None, None)


def test_what_is_no_file_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory and a named pipe in an image's place, and a file that is too large, are problems of their records."""
    library = open_library(write_library(tmp_path, records(4)))
    paths = [library.root / record.path for record in library.records()]
    for path in paths[:2]:
        path.unlink()
    paths[0].mkdir()
    os.mkfifo(paths[1])
    monkeypatch.setattr(record, "LARGEST_IMAGE_BYTES", paths[2].stat().st_size - 1)
    problems = [sample.problem for sample in library.samples()]
    assert problems[:2] == ["it is no file"] * 2
    assert "are the most" in str(problems[2])


def test_a_large_manifest_is_walked_in_little_memory(tmp_path: Path) -> None:
    """Of a manifest of 20,000 records, 6 MB, the walk holds less than 100 KB beyond what the first records took."""
    root = write_library(tmp_path)
    entry = json.dumps(records(1)[0])
    count = 20_000
    with (root / "manifest.jsonl").open("w", encoding="utf-8") as manifest:
        manifest.writelines(entry.replace('"100"', f'"{number}"') + "\n" for number in range(count))
    walk = open_library(root).samples(images=False)
    for _ in range(100):
        next(walk)
    tracemalloc.start()
    try:
        assert sum(1 for _ in walk) == count - 100
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 100_000


@pytest.mark.parametrize("file", ["library.toml", "manifest.jsonl", "Mira/green_100.png"])
def test_digest_covers_every_file(tmp_path: Path, file: str) -> None:
    """Another prompt, another label and another image each make another library; a missing image one more."""
    library = open_library(write_library(tmp_path / "one"))
    assert library.digest() == open_library(write_library(tmp_path / "two")).digest()
    before = library.digest()
    path = library.root / file
    path.write_bytes(path.read_bytes() + b"\n")
    changed = library.digest()
    assert changed != before
    if path.suffix == ".png":
        path.unlink()
        assert library.digest() not in (before, changed)
