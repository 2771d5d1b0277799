"""A library on disk: `library.toml`, `manifest.jsonl`, and the image files where the path template puts them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from clip_eval.errors import LibraryError
from clip_eval.library.record import Record, read_record
from clip_eval.library.settings import LibrarySettings, ZeroShot, read_settings

__all__ = ["Library", "open_library"]

_MANIFEST, _SETTINGS = "manifest.jsonl", "library.toml"
_NAMED_AT_MOST = 3


@dataclass(frozen=True, slots=True)
class Library:
    """An evaluation set. Opening it reads the settings only; records are read as they are asked for.

    Attributes:
        root: its directory, absolute.
        settings: what library.toml says.
    """

    root: Path
    settings: LibrarySettings

    @property
    def zero_shot(self) -> ZeroShot | None:
        """The zero-shot task; None where the library sets none."""
        return self.settings.zero_shot

    @property
    def manifest(self) -> Path:
        """The file that lists the records."""
        return self.root / _MANIFEST

    def records(self) -> Iterator[Record]:
        """Yield the records in the order of the manifest, with one line in memory at a time.

        Raises:
            LibraryError: a line is no record, or its label is not one of the classes; the line is named.
        """
        try:
            with self.manifest.open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    if line.strip():
                        yield self._record(line, number)
        except OSError as problem:
            raise LibraryError(f"the manifest cannot be read ({problem.strerror})", where=self.manifest) from problem

    def require_complete(self) -> int:
        """Read the whole manifest, look for every image file without opening it, and return the number of records.

        Raises:
            LibraryError: a line is no record, an id occurs twice, there is no record, or images are missing; these are
                counted and the first are named.
        """
        ids: set[str] = set()
        lost, named = 0, []
        for record in self.records():
            if record.id in ids:
                what = f"line {record.line} of the manifest: the id {record.id!r} occurs a second time"
                raise LibraryError(what, where=self.manifest, fix="Give every record an id of its own")
            ids.add(record.id)
            if not (self.root / record.path).is_file():
                lost += 1
                named += [f"{record.path} (line {record.line})"] if lost <= _NAMED_AT_MOST else []
        if not ids:
            raise LibraryError("the manifest holds no record", where=self.manifest, fix="Write one JSON object a line")
        if lost:
            raise self._incomplete(lost, len(ids), named)
        return len(ids)

    def digest(self) -> str:
        """Return one sha256, in hexadecimal, of library.toml, manifest.jsonl and every image file; reads them all.

        Answers to two libraries can be paired where their digests are equal. A missing file has a digest of its own.

        Raises:
            LibraryError: a line of the manifest is no record.
        """
        whole = hashlib.sha256()
        paths = (record.path for record in self.records())
        for path in chain((_SETTINGS, _MANIFEST), paths):
            whole.update(_digest(self.root / path))
        return whole.hexdigest()

    def _record(self, line: bytes, number: int) -> Record:
        try:
            return read_record(line, number, self.settings)
        except ValueError as problem:
            what = f"line {number} of the manifest: {problem}"
            raise LibraryError(
                what, where=self.manifest, fix="Correct that line, or write the manifest again"
            ) from problem

    def _incomplete(self, lost: int, count: int, named: list[str]) -> LibraryError:
        more = f" and {lost - len(named)} more" if lost > len(named) else ""
        what = f"{lost} of {count} images {'is' if lost == 1 else 'are'} missing, {', '.join(named)}{more}"
        return LibraryError(what, where=self.root, fix="Bring the files, or correct `template` in library.toml")


def _digest(file: Path) -> bytes:
    try:
        return hashlib.sha256(file.read_bytes()).digest()
    except OSError:
        return b"missing"


def open_library(path: str | Path) -> Library:
    """Open a library directory. Its manifest is not read yet.

    Raises:
        LibraryError: no such directory, no library.toml, no manifest.jsonl, or settings that make no sense.
    """
    root = Path(path).absolute()
    fix = f"A library is a directory with {_SETTINGS} and {_MANIFEST}"
    if not root.is_dir():
        raise LibraryError("this is a file" if root.exists() else "there is no such library", where=path, fix=fix)
    for name in (_SETTINGS, _MANIFEST):
        if not (root / name).is_file():
            raise LibraryError(f"the library has no {name}", where=root, fix=fix)
    return Library(root, read_settings(root / _SETTINGS))
