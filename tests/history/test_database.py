"""The file of a history: every run is in it, and nothing that can be read is lost."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.history_runs import RUN, add_runs

from clip_eval.errors import OutputError, UsageError
from clip_eval.history.database import SCHEMA_VERSION, _rename, add, read, require_usable
from clip_eval.history.runs import Measured

PAGE = 4096  # bytes
_RAM = Path("/dev/shm")


def altered(file: Path, statement: str) -> None:
    """Change a file as SQLite lets one."""
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA ignore_check_constraints = ON")
        database.execute(statement)
        database.commit()


def filled(file: Path, count: int) -> Path:
    """Write a history of so many runs, of a few pages."""
    for number in range(count):
        add(file, replace(RUN, headline=f"run {number} {'x' * 500}"))
    return file


def at_once(file: Path, processes: int, count: int) -> list[int | None]:
    """Add so many runs from each of several processes; return their numbers."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=add_runs, args=(str(file), count)) for _ in range(processes)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * processes
    return [writer.pid for writer in writers]


def set_aside(file: Path) -> list[Path]:
    """The damaged files beside a history."""
    return sorted(file.parent.glob(f"{file.name}.damaged-*"))


def test_what_is_added_is_read(tmp_path: Path) -> None:
    """Runs come back in their order with every number, and folders are made."""
    file = tmp_path / "a" / "b" / "runs.sqlite"
    other = replace(RUN, model="b\N{SNOWMAN}", dtype=None, device=None, weights=None, verdict="fail", measured={})
    assert add(file, RUN) is None
    assert add(file, other) is None
    assert read(file).runs == (replace(RUN, number=1), replace(other, number=2))
    assert read(file).note is None
    assert [path.name for path in file.parent.iterdir()] == [file.name], "no journal and no lock is left"


def test_numbers_and_texts_that_sqlite_has_no_form_for(tmp_path: Path) -> None:
    """NaN is left out, half of a character pair is escaped."""
    add(tmp_path / "runs", replace(RUN, headline="a\udc80", measured={("score", "x"): Measured(math.nan)}))
    (run,) = read(tmp_path / "runs").runs
    assert (run.headline, run.measured) == ("a\\udc80", {})


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory where the system has such a place: a disk takes longer to be sure of a run than the test."""
    with tempfile.TemporaryDirectory(dir=_RAM if _RAM.is_dir() else None) as folder:
        yield Path(folder)


def test_four_processes_lose_no_run(memory: Path) -> None:
    """200 runs that four processes append at once are all there, each once, in the order of its writer."""
    file = memory / "runs.sqlite"
    writers = at_once(file, 4, 50)
    headlines = [run.headline for run in read(file).runs]
    for writer in writers:
        assert [line for line in headlines if line.startswith(f"{writer} ")] == [
            f"{writer} {number}" for number in range(50)
        ]
    assert len(headlines) == 200


@pytest.mark.parametrize("use", [lambda file: add(file, RUN), read, require_usable], ids=["add", "read", "usable"])
@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (f"PRAGMA user_version = {SCHEMA_VERSION + 1}", f"schema {SCHEMA_VERSION + 1}, and this clip-eval knows"),
        ("PRAGMA application_id = 7", "of another program"),
    ],
)
def test_a_file_that_is_not_ours_to_write(tmp_path: Path, use: object, statement: str, said: str) -> None:
    """A newer schema, and the file of another program, are refused in a sentence and left as they are."""
    altered(filled(tmp_path / "runs", 1), statement)
    before = (tmp_path / "runs").read_bytes()
    with pytest.raises(UsageError, match=said):
        use(tmp_path / "runs")  # type: ignore[operator]
    assert (tmp_path / "runs").read_bytes() == before
    assert set_aside(tmp_path / "runs") == []


@pytest.mark.parametrize("content", [b"# Notes\n", b"{}", b"x"])
def test_a_text_is_no_history(tmp_path: Path, content: bytes) -> None:
    """A file of words is somebody's, and stays where it is."""
    (tmp_path / "notes").write_bytes(content)
    with pytest.raises(UsageError, match="no history"):
        add(tmp_path / "notes", RUN)
    assert (tmp_path / "notes").read_bytes() == content


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    """A folder, and a pipe that would never answer, are refused."""
    os.mkfifo(tmp_path / "pipe")
    for name in (".", "pipe"):
        with pytest.raises(OutputError, match="cannot be opened"):
            add(tmp_path / name, RUN)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_history_that_is_not_there(tmp_path: Path) -> None:
    """Reading begins none, and names the nearest file; an empty file is a history without runs."""
    filled(tmp_path / "runs.sqlite", 1)
    with pytest.raises(UsageError, match=r"nearest name is .*runs\.sqlite"):
        read(tmp_path / "run.sqlite")
    (tmp_path / "empty").touch()
    assert read(tmp_path / "empty").runs == ()
    require_usable(tmp_path / "run.sqlite")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "runs.sqlite"]


def test_a_place_that_takes_no_file(tmp_path: Path) -> None:
    """A folder that cannot be made is an error of output."""
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        add(tmp_path / "file" / "runs", RUN)


def test_a_file_that_another_program_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that is never given up is an error of output, after a while."""
    monkeypatch.setattr("clip_eval.history.database._PATIENCE_S", 0.05)
    filled(tmp_path / "runs", 1)
    with contextlib.closing(sqlite3.connect(tmp_path / "runs", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OutputError, match="locked"):
            add(tmp_path / "runs", RUN)
    assert add(tmp_path / "runs", RUN) is None
    assert len(read(tmp_path / "runs").runs) == 2


@pytest.mark.parametrize("damage", ["head", "cut", "page"])
def test_a_damaged_file_is_set_aside(tmp_path: Path, damage: str) -> None:
    """It is kept whole under another name, a new one begins with the runs that can be read, and the note says so."""
    file = filled(tmp_path / "runs.sqlite", 40)
    content = file.read_bytes()
    pages = len(content) // PAGE
    broken = {
        "head": b"\0" * 100 + content[100:],
        "cut": content[: (pages - 2) * PAGE],
        "page": content[: (pages - 2) * PAGE] + b"\xff" * PAGE + content[(pages - 1) * PAGE :],
    }[damage]
    file.write_bytes(broken)
    if damage != "head":
        assert "could be read" in str(read(file).note)
        assert file.read_bytes() == broken, "reading changes nothing"
    note = add(file, RUN)
    (kept,) = set_aside(file)
    assert kept.read_bytes() == broken
    assert note is not None
    assert "The history was damaged" in note
    assert str(kept) in note
    runs = read(file).runs
    assert runs[-1].headline == RUN.headline
    assert (len(runs) == 1) == (damage == "head")
    assert f"begins with {len(runs) - 1} of its runs" in note
    assert {run.headline for run in runs[:-1]} <= {f"run {number} {'x' * 500}" for number in range(40)}
    assert add(file, RUN) is None


def test_a_journal_goes_with_its_file(tmp_path: Path) -> None:
    """A journal of a damaged file would be played back into the new one."""
    for name in ("runs", "runs-journal", "runs-wal"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    _rename(tmp_path / "runs", tmp_path / "kept")
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {
        "kept": "runs", "kept-journal": "runs-journal", "kept-wal": "runs-wal"
    }  # fmt: skip


def test_several_gates_find_a_damaged_file(tmp_path: Path) -> None:
    """One of them sets it aside, and every run is in the new file."""
    file = filled(tmp_path / "runs", 1)
    file.write_bytes(b"\0" * 100 + file.read_bytes()[100:])
    writers = at_once(file, 3, 1)
    assert len(set_aside(file)) == 1
    assert sorted(run.headline for run in read(file).runs) == sorted(f"{writer} 0" for writer in writers)


@pytest.mark.parametrize("statement", ["UPDATE measured SET value = 'much'", "DROP TABLE measured"])
def test_a_run_whose_numbers_are_lost(tmp_path: Path, statement: str) -> None:
    """Its columns are read all the same, and the note says that the file is damaged."""
    altered(filled(tmp_path / "runs", 1), statement)
    history = read(tmp_path / "runs")
    assert [(run.model, run.measured) for run in history.runs] == [(RUN.model, {})]
    assert "is damaged" in str(history.note)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE run SET verdict = X'00'",
        "UPDATE run SET duration_s = 'long'",
        "ALTER TABLE run DROP COLUMN torch",
    ],
)
def test_values_of_another_kind_are_damage(tmp_path: Path, statement: str) -> None:
    """What this program did not write is not read as if it had."""
    altered(filled(tmp_path / "runs", 1), statement)
    history = read(tmp_path / "runs")
    assert history.runs == ()
    assert "is damaged" in str(history.note)
