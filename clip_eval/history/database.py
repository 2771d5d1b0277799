"""The SQLite file of a history.

Writers take turns: a run is added in one transaction that waits for others (`BEGIN IMMEDIATE`), so any number of gates
may share a file. A damaged file is renamed, with its journal, and a new one begun with every run that can still be
read. A file of a newer release, or of another program, is refused and left as it is.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from clip_eval.errors import OutputError, UsageError
from clip_eval.files.folder_lock import reserved
from clip_eval.files.read_write import make_directory
from clip_eval.files.untrusted import opened
from clip_eval.history.runs import KINDS, Measured, Run
from clip_eval.nearest import beside

__all__ = ["SCHEMA_VERSION", "History", "add", "read", "require_usable"]

SCHEMA_VERSION = 1
"""`PRAGMA user_version` of the file."""

_APPLICATION = 0x434C_4950  # "CLIP", `PRAGMA application_id`
_MAGIC = b"SQLite format 3\0"
_PATIENCE_S = 60.0  # for other writers, each of which takes milliseconds
_TRIES = 5
_COLUMNS = tuple(column.name for column in fields(Run) if column.name not in ("number", "measured"))
_TABLES = (
    "CREATE TABLE run (number INTEGER PRIMARY KEY, started TEXT NOT NULL, model TEXT NOT NULL, dtype TEXT, "
    "device TEXT, verdict TEXT NOT NULL, headline TEXT NOT NULL, duration_s REAL NOT NULL, weights TEXT, "
    "transformers TEXT, torch TEXT, clip_eval TEXT)",
    "CREATE TABLE measured (run INTEGER NOT NULL REFERENCES run (number), kind TEXT NOT NULL, name TEXT NOT NULL, "
    "value REAL NOT NULL, low REAL, high REAL, PRIMARY KEY (run, kind, name)) WITHOUT ROWID",
)
# What is no fault of the file's content: permission, busy, locked, memory, read-only, input and output, full, cannot
# open, authorisation (https://www.sqlite.org/rescode.html).
_OUTSIDE = {3, 5, 6, 7, 8, 10, 13, 14, 23}
_OUTSIDE_WORDS = ("locked", "readonly", "disk I/O", "is full", "unable to open", "memory")  # Python 3.10 has no codes

# beside SQLite's own errors, values of another kind or size than were written
_UNREADABLE = (sqlite3.Error, ValueError, OverflowError, MemoryError)
_LARGEST_BYTES = 1 << 32  # of a file that was cut and is read all the same


class _Damaged(Exception):
    """The file is no sound history; the message says why."""


@dataclass(frozen=True, slots=True)
class History:
    """The runs of a file in the order in which they were added, and what to know of the file, a sentence."""

    runs: tuple[Run, ...]
    note: str | None = None


def add(file: str | Path, run: Run) -> str | None:
    """Add a run, beginning the file if there is none.

    Returns:
        A sentence where a damaged file was set aside for a new one, else None.

    Raises:
        UsageError: the file is of a newer release, or of another program.
        OutputError: it cannot be written.
    """
    target, note = Path(file).resolve(), None
    for _ in range(_TRIES):
        identity = _identity(target)
        try:
            with _connected(target, write=True) as database:
                _insert(database, [run])
                return note
        except _Damaged as problem:
            note = _set_aside(target, identity, problem) or note
    raise OutputError("the history is damaged again and again", where=target, fix="Name another file")


def read(file: str | Path) -> History:
    """Return every run of a file; of a damaged one those that can be read.

    Raises:
        UsageError: there is no such file, or it is no history that this release reads.
        OutputError: it cannot be opened.
    """
    target = Path(file).resolve()
    if not target.exists():
        raise UsageError("there is no such history", where=file, fix=beside(file, "A gate with --history begins one"))
    if target.is_file() and not target.stat().st_size:
        return History(())
    try:
        with _connected(target, write=False) as database:
            return History(tuple(_with_numbers(database, run) for run in _rows(database)))
    except _Damaged as problem:
        found = _readable(target)
        return History(tuple(found), f"The history is damaged ({problem}); {len(found)} runs could be read: {target}.")


def require_usable(file: str | Path) -> None:
    """Refuse a file to which no run can be added, before long work; a damaged one will be set aside.

    Raises:
        UsageError, OutputError: as `add`.
    """
    target = Path(file).resolve()
    if target.exists():
        with contextlib.suppress(_Damaged), _connected(target, write=True):
            pass


@contextlib.contextmanager
def _connected(file: Path, *, write: bool) -> Iterator[sqlite3.Connection]:
    """An open history in a transaction, which is committed at the end.

    Raises:
        _Damaged, UsageError, OutputError: the file is not usable, or the block raised an error of SQLite.
    """
    _require_database(file)
    if write:
        _make_parent(file)
    name = quote(str(file).encode(errors="surrogateescape"))
    with _translated(file):
        database = sqlite3.connect(
            f"file:{name}?mode={'rwc' if write else 'ro'}", uri=True, timeout=_PATIENCE_S, isolation_level=None
        )
        with contextlib.closing(database):
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            if write and not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                _begin(database)
            _check(database, file)
            yield database
            database.execute("COMMIT")


def _require_database(file: Path) -> None:
    """Refuse what is no regular file, and a text, which somebody may need."""
    try:
        with opened(file) as stream:
            head = stream.read(4096)
    except FileNotFoundError:
        return
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise OutputError(f"the history cannot be opened ({reason})", where=file, fix="Name another file") from problem
    if head and not head.startswith(_MAGIC) and b"\0" not in head:
        raise UsageError("the file is no history, which is an SQLite file", where=file, fix="Name another file")


def _make_parent(file: Path) -> None:
    try:
        make_directory(file.parent)
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise OutputError(
            f"the folder cannot be made ({reason})", where=file.parent, fix="Name another file"
        ) from problem


@contextlib.contextmanager
def _translated(file: Path) -> Iterator[None]:
    """Errors of SQLite become `_Damaged`, or OutputError where the content is not at fault."""
    try:
        yield
    except sqlite3.Error as problem:
        code = getattr(problem, "sqlite_errorcode", None)
        outside = any(word in str(problem) for word in _OUTSIDE_WORDS) if code is None else code & 0xFF in _OUTSIDE
        if not outside:
            raise _Damaged(str(problem)) from problem
        raise OutputError(f"the history cannot be used ({problem})", where=file, fix="Name another file") from problem
    except _UNREADABLE as problem:
        raise _Damaged(str(problem)) from problem


def _begin(database: sqlite3.Connection) -> None:
    for statement in (
        *_TABLES, f"PRAGMA application_id = {_APPLICATION}", f"PRAGMA user_version = {SCHEMA_VERSION}"
    ):  # fmt: skip
        database.execute(statement)


def _check(database: sqlite3.Connection, file: Path) -> None:
    """Refuse what is not ours, then what is newer; `_Damaged` where pages are not sound."""
    application = database.execute("PRAGMA application_id").fetchone()[0]
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if application != _APPLICATION:
        raise UsageError("the file is an SQLite file of another program", where=file, fix="Name another file")
    if version > SCHEMA_VERSION:
        what = f"the history has schema {version}, and this clip-eval knows {SCHEMA_VERSION}"
        raise UsageError(what, where=file, fix="Install the clip-eval release that wrote it, or name another file")
    found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise _Damaged(" ".join(str(found).split())[:200])


def _insert(database: sqlite3.Connection, runs: Sequence[Run]) -> None:
    marks = ", ".join("?" for _ in _COLUMNS)
    for run in runs:
        values = [_text(getattr(run, name)) for name in _COLUMNS]
        number = database.execute(f"INSERT INTO run ({', '.join(_COLUMNS)}) VALUES ({marks})", values).lastrowid
        rows = [
            (number, kind, _text(name), one.value, one.low, one.high)
            for (kind, name), one in run.measured.items()
            if one.value is not None and one.value == one.value
        ]
        database.executemany("INSERT INTO measured VALUES (?, ?, ?, ?, ?, ?)", rows)


def _text(value: Any) -> Any:
    """A text that SQLite takes; half of a character pair is escaped."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _rows(database: sqlite3.Connection, order: str = "ASC") -> Iterator[Run]:
    """Yield the runs without their numbers. Raises one of `_UNREADABLE` at the first that cannot be read."""
    for number, *values in database.execute(f"SELECT number, {', '.join(_COLUMNS)} FROM run ORDER BY number {order}"):
        run = Run(number=number, **dict(zip(_COLUMNS, values, strict=True)))
        _require_sound(run)
        yield run


def _with_numbers(database: sqlite3.Connection, run: Run) -> Run:
    """The run with its numbers. Raises one of `_UNREADABLE`."""
    rows = database.execute("SELECT kind, name, value, low, high FROM measured WHERE run = ?", (run.number,)).fetchall()
    if not all(isinstance(name, str) for _, name, *_ in rows):
        raise ValueError(f"run {run.number} has a number without a name")
    measured = {(kind, name): Measured(*map(_number, numbers)) for kind, name, *numbers in rows if kind in KINDS}
    return replace(run, measured=measured)


def _require_sound(run: Run) -> None:
    """Raise ValueError where a value is not of its kind."""
    optional = ("dtype", "device", "weights", "transformers", "torch", "clip_eval")
    for name in _COLUMNS:
        value = getattr(run, name)
        kind: Any = (int, float) if name == "duration_s" else str
        if not isinstance(value, kind) and not (value is None and name in optional):
            raise ValueError(f"run {run.number} has no {name}")


def _number(value: Any) -> float | None:
    if value is not None and not isinstance(value, (int, float)):
        raise ValueError(f"{type(value).__name__} where a number stood")
    return None if value is None else float(value)


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _set_aside(file: Path, identity: tuple[int, int] | None, problem: _Damaged) -> str | None:
    """Rename a damaged file and begin a new one with what can be read of it; None if another process just did."""
    with _alone(file):
        if identity is None or _identity(file) != identity:
            return None
        stamp = datetime.now(tz=timezone.utc).strftime("%Y%m%dT%H%M%S")
        kept = next(
            name
            for name in (file.with_name(f"{file.name}.damaged-{stamp}{more}") for more in ("", *map(str, range(1000))))
            if not name.exists()
        )
        _rename(file, kept)
        found = _readable(kept)
        with _connected(file, write=True) as database:
            _insert(database, found)
    return f"The history was damaged ({problem}) and is kept as {kept}; a new one begins with {len(found)} of its runs."


def _rename(file: Path, kept: Path) -> None:
    """Rename a database with its journal, which would be played back into a new file of the same name."""
    try:
        for ending in ("-journal", "-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                file.with_name(file.name + ending).rename(kept.with_name(kept.name + ending))
    except OSError as problem:
        what = f"the history is damaged, and cannot be renamed ({(problem.strerror or str(problem)).lower()})"
        raise OutputError(what, where=file, fix="Name another file") from problem


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """No other process sets this file aside in the block."""
    end = time.monotonic() + _PATIENCE_S
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(reserved(file.with_name(f"{file.name}.set-aside")))
                break
            except OutputError:
                if time.monotonic() >= end:
                    raise
                time.sleep(0.05)
        yield


def _readable(file: Path) -> list[Run]:
    """The runs of a damaged file that can be read from its beginning, and from its end; of some without numbers."""
    found: dict[int, Run] = {}
    with contextlib.suppress(OSError), _copied(file) as copy:
        for order in ("ASC", "DESC"):
            with contextlib.suppress(*_UNREADABLE), contextlib.closing(sqlite3.connect(copy)) as database:
                database.execute("PRAGMA trusted_schema = OFF")
                for run in _rows(database, order):
                    found.setdefault(run.number, _measured_if_readable(database, run))
    return [found[number] for number in sorted(found)]


@contextlib.contextmanager
def _copied(file: Path) -> Iterator[Path]:
    """A copy of a database, as long as its first page says: SQLite reads nothing of one that was cut."""
    with tempfile.TemporaryDirectory(prefix="clip-eval-") as folder:
        copy = Path(folder) / "copy"
        shutil.copyfile(file, copy)
        with copy.open("r+b") as stream:
            head = stream.read(100)
            size = int.from_bytes(head[16:18], "big") * int.from_bytes(head[28:32], "big")
            if copy.stat().st_size < size <= _LARGEST_BYTES:
                stream.truncate(size)
        yield copy


def _measured_if_readable(database: sqlite3.Connection, run: Run) -> Run:
    try:
        return _with_numbers(database, run)
    except _UNREADABLE:
        return run
