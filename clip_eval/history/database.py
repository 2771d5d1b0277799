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
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from clip_eval.errors import OutputError, UsageError
from clip_eval.files.folder_lock import reserved
from clip_eval.files.read_write import make_directory
from clip_eval.files.untrusted import opened
from clip_eval.history.runs import KINDS, Measured, Run
from clip_eval.nearest import beside

__all__ = ["SCHEMA_VERSION", "History", "add", "latest", "read", "require_usable"]

SCHEMA_VERSION = 1
"""`PRAGMA user_version` of the file."""

_APPLICATION = 0x434C_4950  # "CLIP", `PRAGMA application_id`
_MAGIC = b"SQLite format 3\0"
_PATIENCE_S = 60.0  # for other writers, each of which takes milliseconds
_TRIES = 5
_COLUMNS = tuple(column.name for column in fields(Run) if column.name not in ("number", "measured"))
_OPTIONAL = ("dtype", "device", "weights", "transformers", "torch", "clip_eval")


def _column(name: str, kind: str, *, optional: bool) -> str:
    """A column that `PRAGMA quick_check` finds damaged where a value is of another kind."""
    kinds = f"'{kind}', 'null'" if optional else f"'{kind}'"
    return f"{name} {kind} CHECK (typeof({name}) IN ({kinds}))"


_RUN_COLUMNS = (
    _column(name, "real" if name == "duration_s" else "text", optional=name in _OPTIONAL) for name in _COLUMNS
)
_NUMBERS = (_column(name, "real", optional=name != "value") for name in ("value", "low", "high"))
_TABLES = (
    f"CREATE TABLE run (number INTEGER PRIMARY KEY, {', '.join(_RUN_COLUMNS)})",
    "CREATE TABLE measured (run INTEGER NOT NULL REFERENCES run (number), "
    f"{_column('kind', 'text', optional=False)}, {_column('name', 'text', optional=False)}, {', '.join(_NUMBERS)}, "
    "PRIMARY KEY (run, kind, name)) WITHOUT ROWID",
)
# What is no fault of the file's content: permission, busy, locked, memory, read-only, input and output, full, cannot
# open, authorisation (https://www.sqlite.org/rescode.html).
_OUTSIDE = {3, 5, 6, 7, 8, 10, 13, 14, 23}
_OUTSIDE_WORDS = ("locked", "readonly", "disk I/O", "is full", "unable to open", "memory")  # Python 3.10 has no codes

# beside SQLite's own errors, values of another kind or size than were written
_UNREADABLE = (sqlite3.Error, ValueError, OverflowError, MemoryError)
_MOST_NUMBERS = 20_000  # of one run
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
            return History(tuple(_required(_with_numbers(database, run)) for run in _rows(database)))
    except _Damaged as problem:
        found = _readable(target)
        return History(tuple(found), f"The history is damaged ({problem}); {len(found)} runs could be read: {target}.")


def latest(file: str | Path, subject: tuple[str, str | None, str | None], count: int) -> tuple[Run, ...]:
    """Return the last so many runs of one subject, in the order in which they were added. Raises as `add`."""
    target = Path(file).resolve()
    try:
        with _connected(target, write=False) as database:
            rest = "WHERE model IS ? AND dtype IS ? AND device IS ? ORDER BY number DESC LIMIT ?"
            found = [_required(_with_numbers(database, run)) for run in _rows(database, rest, (*subject, count))]
    except _Damaged as problem:
        raise OutputError(
            f"the history is damaged ({problem})", where=target, fix="The next gate sets it aside"
        ) from problem
    return tuple(reversed(found))


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
            _guard(database)
            database.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            if write and not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                _begin(database)
            _check(database, file)
            yield database
            database.execute("COMMIT")


def _guard(database: sqlite3.Connection) -> None:
    """Run nothing that the file brings along, and read a text whatever its bytes are."""
    database.execute("PRAGMA trusted_schema = OFF")
    database.text_factory = lambda data: data.decode(errors="replace")


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


def _rows(database: sqlite3.Connection, rest: str = "ORDER BY number", values: Sequence[object] = ()) -> Iterator[Run]:
    """Yield runs without their numbers. Raises one of `_UNREADABLE` at the first that cannot be read."""
    for number, *columns in database.execute(f"SELECT number, {', '.join(_COLUMNS)} FROM run {rest}", values):
        yield Run(number=number, **dict(zip(_COLUMNS, columns, strict=True)))


def _with_numbers(database: sqlite3.Connection, run: Run) -> Run:
    """The run with its numbers. Raises one of `_UNREADABLE`."""
    rows = database.execute("SELECT kind, name, value, low, high FROM measured WHERE run = ?", (run.number,))
    some = islice(rows, _MOST_NUMBERS)  # pages of a damaged file may lead in a circle
    return replace(run, measured={(kind, name): Measured(*numbers) for kind, name, *numbers in some if kind in KINDS})


def _required(run: Run) -> Run:
    """The run, if it is sound: SQLite looks for values of another kind only in a file that is open for writing."""
    if not _is_sound(run) or not all(_is_number(key, one) for key, one in run.measured.items()):
        raise ValueError(f"run {run.number} holds a value of another kind")
    return run


def _is_sound(run: Run) -> bool:
    """Whether a file takes the columns of a run."""
    texts = {name: getattr(run, name) for name in _COLUMNS if name != "duration_s"}
    return isinstance(run.duration_s, float) and all(
        isinstance(text, str) or (text is None and name in _OPTIONAL) for name, text in texts.items()
    )


def _is_number(key: tuple[str, str], one: Measured) -> bool:
    """Whether a file takes a number of this kind and name."""
    optional = all(isinstance(end, (float, type(None))) for end in (one.low, one.high))
    return isinstance(key[1], str) and isinstance(one.value, float) and optional


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
                _guard(database)
                seen: set[int] = set()
                for run in _rows(database, f"ORDER BY number {order}"):
                    if run.number in seen:  # pages that lead in a circle
                        break
                    seen.add(run.number)
                    found.setdefault(run.number, _measured_if_readable(database, run))
    return [run for number, run in sorted(found.items()) if _is_sound(run)]


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
    """The run with those of its numbers that are numbers."""
    try:
        measured = _with_numbers(database, run).measured
    except _UNREADABLE:
        return run
    return replace(run, measured={key: one for key, one in measured.items() if _is_number(key, one)})
