"""Problems of a dataset's files with a path template: in its manifest, on disk, and between both.

Records and findings are streamed; a digest is kept for each path.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clip_eval.dataset.json_lines import Line
from clip_eval.dataset.manifest import MANIFEST, SETTINGS
from clip_eval.dataset.sample import file_problem, printable
from clip_eval.paths import PathTemplate
from clip_eval.paths.lint import FindingKind
from clip_eval.progress import counted

__all__ = ["KINDS", "DatasetLinter", "Flaw", "FlawKind"]

FlawKind = Literal[FindingKind, "no record", "missing file", "unnamed file", "unreadable folder"]
KINDS: tuple[FlawKind, ...] = (
    *("no record", "no path", "same path", "same file", "file and folder", "shortened"),
    *("missing file", "unnamed file", "unreadable folder"),
)
"""All kinds, in the order of a record's or file's checks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """One problem.

    Attributes:
        kind: one of `KINDS`.
        line: of the manifest, from 1; None for a file without a record.
        id: of the record, if it has one.
        path: of the file, relative to the root; None if the record has none.
        what: the problem, a clause whose subject is the path.
        other_line: line of the earlier record of a clash; None for other kinds.
    """

    kind: FlawKind
    line: int | None
    id: str | None
    path: str | None
    what: str
    other_line: int | None = None


class DatasetLinter:
    """Checks a manifest line by line, then looks for files without a line.

    Attributes:
        records: lines so far.
        files: files found on disk so far.
    """

    def __init__(self, template: PathTemplate, *, root: Path | None = None, extension: str | None = None) -> None:
        """Start without records.

        Args:
            template: the naming rule.
            root: of the files; None to check no files.
            extension: of records without one.
        """
        self._linter = template.linter(noun="line")
        self._root = root
        self._extension = extension
        self.records = 0
        self.files = 0

    def check(self, line: Line) -> Iterator[Flaw]:
        """Yield the problems of one line, by itself and with the lines before it."""
        self.records += 1
        fields = line.fields
        if fields is None:
            yield Flaw(kind="no record", line=line.number, id=None, path=None, what=str(line.problem))
            return
        name = _id(fields)
        extension = fields.get("extension", self._extension)
        if extension is not None and not isinstance(extension, str):
            yield Flaw(kind="no path", line=line.number, id=name, path=None, what="field 'extension' must be text")
            return
        checked = self._linter.check(fields, number=line.number, extension=extension)
        for found in checked.findings:
            yield Flaw(
                kind=found.kind, line=line.number, id=name, path=found.path, what=found.what, other_line=found.other
            )
        if checked.path is not None and self._root is not None:
            problem = file_problem(f"{self._root}/{checked.path}")
            if problem is not None:
                yield Flaw(
                    kind="missing file", line=line.number, id=name, path=checked.path, what=f"is not there: {problem}"
                )

    def check_files(self, *, apart: Collection[Path] = ()) -> Iterator[Flaw]:
        """Yield the files below the root without a record, folder by folder, sorted by name.

        Hidden files and folders, a manifest and settings at the root, and the files `apart` do not count.
        """
        for file in counted(self._files(apart), "files"):
            yield from [file] if isinstance(file, Flaw) else self._check_file(file)

    def _files(self, apart: Collection[Path]) -> Iterator[Path | Flaw]:
        """The files that may be the dataset's, and folders that cannot be listed."""
        by_inode = {status.st_ino: file for file in apart if (status := _status(file)) is not None}
        folders = [] if self._root is None else [self._root]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(folder) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
            except OSError as problem:
                yield self._unreadable(folder, problem)
                continue
            shown = [entry for entry in found if not self._is_apart(folder, entry, by_inode)]
            for entry in shown:
                if not entry.is_dir(follow_symlinks=False):
                    yield folder / entry.name
            folders += [folder / entry.name for entry in reversed(shown) if entry.is_dir(follow_symlinks=False)]

    def _is_apart(self, folder: Path, entry: os.DirEntry[str], by_inode: Mapping[int, Path]) -> bool:
        if entry.name.startswith(".") or (folder == self._root and entry.name in (MANIFEST, SETTINGS)):
            return True
        other = by_inode.get(entry.inode())
        return other is not None and _same_file(folder / entry.name, other)

    def _unreadable(self, folder: Path, problem: OSError) -> Flaw:
        assert self._root is not None
        path = printable(folder.relative_to(self._root).as_posix())
        what = f"cannot be listed: {problem.strerror}"
        return Flaw(kind="unreadable folder", line=None, id=None, path=path, what=what)

    def _check_file(self, file: Path) -> Iterator[Flaw]:
        assert self._root is not None
        self.files += 1
        path = file.relative_to(self._root).as_posix()
        held = self._linter.registry.holds(path)
        if held == "as it is" or (held == "in other letters" and _has_other_letters(file)):
            return
        what = "has no record"
        if held:
            what += "; one has a path that differs only by letter case, normalisation or invisible characters"
        yield Flaw(kind="unnamed file", line=None, id=None, path=printable(path), what=what)


def _id(fields: Mapping[str, object]) -> str | None:
    name = fields.get("id")
    return name if isinstance(name, str) else None


def _has_other_letters(file: Path) -> bool:
    """Return whether the file system finds `file` under a name in another letter case or normalisation too."""
    name = file.name
    others = {name.swapcase(), unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)} - {name}
    return any(_same_file(file, file.with_name(other)) for other in others)


def _status(file: Path) -> os.stat_result | None:
    with suppress(OSError):
        return file.stat()
    return None


def _same_file(file: Path, other: Path) -> bool:
    with suppress(OSError):
        return os.path.samefile(file, other)  # noqa: PTH121 - as Path.samefile, one way or the other
    return False
