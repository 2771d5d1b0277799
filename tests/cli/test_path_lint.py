"""`clip-eval path lint`: each way to break a dataset is named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.datasets import TEMPLATE, samples, write_dataset
from support.path_commands import Ended, Run, json_lines, running

from clip_eval.cli.terminal import columns
from clip_eval.dataset import lint as dataset_lint

run = pytest.fixture(running)


def kinds(ended: Ended) -> list[tuple[str, int | None]]:
    """Return kind and line of each finding."""
    return [(line["kind"], line.get("line")) for line in ended.lines]


Break = Callable[[Path, list[dict[str, Any]]], None]


def same_path(root: Path, entries: list[dict[str, Any]]) -> None:
    """A record comes twice."""
    entries.append(dict(entries[0]))


def other_case(root: Path, entries: list[dict[str, Any]]) -> None:
    """A record whose path differs by letter case only, with its file."""
    entries.append({**entries[0], "user": "MIRA"})
    (root / "MIRA").mkdir()
    shutil.copy(root / "Mira/green_100.png", root / "MIRA/green_100.png")


def other_form(root: Path, entries: list[dict[str, Any]]) -> None:
    """Two records whose paths differ by case and by a character that some file systems leave out."""
    for title in ("é\ufe0f", "É"):
        entries.append({**entries[0], "title": title})
        shutil.copy(root / "Mira/green_100.png", root / f"Mira/{title}_100.png")


def file_and_folder(root: Path, entries: list[dict[str, Any]]) -> None:
    """A record whose folder has the name of another one's file."""
    entries.append({**entries[0], "user": None, "title": "Mira", "id": "7"})
    entries.append({**entries[0], "user": "mira_7.png"})


def overlong(root: Path, entries: list[dict[str, Any]]) -> None:
    """A title that is too long for a file name, with its file."""
    entries[1]["title"] = "夏" * 200
    shutil.copy(root / "Mira/blue_101.jpg", root / f"Mira/{'夏' * 76}…_101.jpg")
    (root / "Mira/blue_101.jpg").unlink()


def missing(root: Path, entries: list[dict[str, Any]]) -> None:
    """An image that was removed, and one that is a folder."""
    (root / "Mira/red_102.png").unlink()
    (root / "Mira/blue_101.jpg").unlink()
    (root / "Mira/blue_101.jpg").mkdir()


def unnamed(root: Path, entries: list[dict[str, Any]]) -> None:
    """Files that no record names, beside hidden ones, which do not count."""
    (root / "notes.txt").touch()
    (root / "Mira/deep").mkdir()
    (root / "Mira/deep/lost\n.png").touch()
    (root / ".DS_Store").touch()
    (root / ".cache").mkdir()
    (root / ".cache/x.png").touch()


def no_path(root: Path, entries: list[dict[str, Any]]) -> None:
    """Records with an id that is none, and with an extension that files may not have."""
    entries.append({**entries[0], "id": "../7"})
    entries.append({**entries[0], "extension": "exe"})


BREAKS: dict[Break, list[tuple[str, int | None]]] = {
    same_path: [("same path", 7)],
    other_case: [("same file", 7)],
    other_form: [("same file", 8)],
    file_and_folder: [("missing file", 7), ("file and folder", 8), ("missing file", 8)],
    overlong: [("shortened", 2)],
    missing: [("missing file", 2), ("missing file", 3)],
    unnamed: [("unnamed file", None), ("unnamed file", None)],
    no_path: [("no path", 7), ("no path", 8)],
}
"""How a dataset is broken, and what is found, and where."""


@pytest.mark.parametrize("spoil", BREAKS, ids=lambda spoil: spoil.__name__)
def test_each_break_is_named(run: Run, tmp_path: Path, spoil: Break) -> None:
    """A dataset that is broken in one way has the findings of that break and no other, and the exit code is 1."""
    entries = samples(6)
    root = write_dataset(tmp_path, entries)
    assert run("lint", "--dataset", root) == Ended(0, "", "")
    spoil(root, entries)
    (root / "manifest.jsonl").write_text(json_lines(entries), encoding="utf-8")
    ended = run("lint", TEMPLATE, "--records", root / "manifest.jsonl", "--root", root)
    assert ended.code == 1
    assert kinds(ended) == BREAKS[spoil]
    shown = run("lint", "--dataset", root, "--format", "table")
    assert shown.code == 1
    assert max(map(columns, shown.out.splitlines())) <= 80
    assert all(kind in shown.out for kind, _ in BREAKS[spoil])


def test_findings_name_both_lines_of_a_clash(run: Run, tmp_path: Path) -> None:
    """Lines are those of the manifest, blank ones counted; clashes name the other line, in words, too."""
    entries = samples(2)
    text = f"\n{json.dumps(entries[0])}\n\nno json\n{json.dumps({**entries[0], 'title': 'GREEN'})}\n"
    ended = run("lint", TEMPLATE, stdin=text)
    assert kinds(ended) == [("no record", 4), ("same file", 5)]
    assert ended.lines[1]["other_line"] == 2
    assert "the path of line 2" in ended.lines[1]["what"]
    assert ended.lines[1]["path"] == "Mira/GREEN_100.png"
    assert ended.lines[1]["id"] == "100"


def test_the_records_are_no_file_of_the_dataset(run: Run, tmp_path: Path) -> None:
    """The file of the records may lie among the files, whatever it is called; a copy of it is a stray file."""
    root = write_dataset(tmp_path)
    (root / "manifest.jsonl").rename(root / "Mira/records.txt")
    assert run("lint", TEMPLATE, "--records", root / "Mira/records.txt", "--root", root) == Ended(0, "", "")
    shutil.copy(root / "Mira/records.txt", root / "Mira/copy.txt")
    ended = run("lint", TEMPLATE, "--records", root / "Mira/records.txt", "--root", root)
    assert [line["path"] for line in ended.lines] == ["Mira/copy.txt"]


def test_kinds_may_be_ignored(run: Run, tmp_path: Path) -> None:
    """What is known may be left out by its kind."""
    entries = samples(6)
    root = write_dataset(tmp_path, entries)
    unnamed(root, entries)
    assert run("lint", "--dataset", root, "--ignore", "unnamed file") == Ended(0, "", "")
    assert run("lint", "--dataset", root, "--ignore", "shortened").code == 1


def test_a_file_system_that_folds_names_is_asked(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in other letters than its record is unnamed, unless the file system finds it by these letters, too."""
    root = write_dataset(tmp_path)
    (root / "Mira/green_100.png").rename(root / "Mira/GREEN_100.png")
    ended = run("lint", "--dataset", root)
    assert kinds(ended) == [("missing file", 1), ("unnamed file", None)]
    assert "differs only by letter case" in ended.lines[1]["what"]
    monkeypatch.setattr(dataset_lint, "_same_file", lambda file, other: str(file).lower() == str(other).lower())
    monkeypatch.setattr(dataset_lint, "file_problem", lambda path: None)
    assert run("lint", "--dataset", root) == Ended(0, "", "")


def test_names_that_are_no_text_can_be_printed(run: Run, tmp_path: Path) -> None:
    """A stray file whose name is no UTF-8 is named by its escape."""
    root = write_dataset(tmp_path)
    Path(os.fsdecode(os.fsencode(root) + b"/\xff.png")).touch()
    ended = run("lint", "--dataset", root)
    assert [line["path"] for line in ended.lines] == ["\\udcff.png"]


def test_a_folder_that_cannot_be_listed_is_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be looked into is a finding, not an empty folder."""
    root = write_dataset(tmp_path)
    (root / "closed").mkdir()
    scandir = os.scandir

    def guarded(folder: Path) -> Any:
        if Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    ended = run("lint", "--dataset", root)
    assert kinds(ended) == [("unreadable folder", None)]
    assert (ended.lines[0]["path"], ended.lines[0]["what"]) == ("closed", "cannot be listed: Permission denied")
