"""Opening a library, walking its manifest, and what is refused by line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from library.drawn import SETTINGS, records, write_library

from clip_eval.errors import LibraryError
from clip_eval.library import open_library

MISTAKES = [
    (b"{not json", "it is not JSON"),
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
]


def test_records_follow_the_manifest(tmp_path: Path) -> None:
    """Paths come from the template; labels, captions and groups from the manifest, whatever the file is called."""
    library = open_library(write_library(tmp_path))
    found = list(library.records())
    assert [record.id for record in found] == [str(entry["id"]) for entry in records(6)]
    assert found[0].path == "Mira/green_100.png"
    assert (found[0].label, found[0].caption, found[0].group, found[0].line) == ("red", "something red", "0", 1)
    assert library.require_complete() == 6


def test_opening_reads_no_record(tmp_path: Path) -> None:
    """A library is opened lazily: a broken manifest shows when it is read."""
    root = write_library(tmp_path)
    (root / "manifest.jsonl").write_bytes(b"{not json\n")
    library = open_library(root)
    with pytest.raises(LibraryError, match="line 1 of the manifest: it is not JSON"):
        list(library.records())


def test_one_line_is_read_at_a_time(tmp_path: Path) -> None:
    """Records before a broken line are yielded."""
    root = write_library(tmp_path)
    with (root / "manifest.jsonl").open("ab") as manifest:
        manifest.write(b"{not json\n")
    walk = open_library(root).records()
    assert [next(walk).line for _ in range(6)] == [1, 2, 3, 4, 5, 6]
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
    assert "line 3 of the manifest" in str(caught.value)
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
    assert "5 of 6 images are missing" in str(caught.value)
    assert str(caught.value).count("Mira/") == 3
    assert "and 2 more" in str(caught.value)


def test_an_id_may_occur_once(tmp_path: Path) -> None:
    """Answers are paired by id, so two records must not share one."""
    root = write_library(tmp_path, [*records(3), records(1)[0]])
    with pytest.raises(LibraryError, match="line 4 of the manifest: the id '100' occurs a second time"):
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
    library.manifest.unlink()
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
    with pytest.raises(LibraryError, match=r"has no library\.toml"):
        open_library(tmp_path)
    (tmp_path / "library.toml").write_text(SETTINGS, encoding="utf-8")
    with pytest.raises(LibraryError, match=r"has no manifest\.jsonl"):
        open_library(tmp_path)


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
