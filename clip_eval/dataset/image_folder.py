"""A folder with one directory a class, and images in the directories or below them.

A class is named after its directory, with "_" as a space, or in `classnames.txt`, which lists the names in the order of
the directories' names (by code point). A text file beside an image, with the same name, holds captions, one a line.
Every other file in a class directory counts as an image, except hidden files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clip_eval.dataset.prompts import CLASS_NAMES, TEMPLATES, read_entries, zero_shot_task
from clip_eval.dataset.sample import LARGEST_TEXT_BYTES, Entry, Piece, Sample, printable, read_file
from clip_eval.dataset.settings import ZeroShot
from clip_eval.errors import DatasetError
from clip_eval.files.untrusted import read_bytes
from clip_eval.paths import EXTENSIONS

__all__ = ["ClassFolders", "class_directories", "holds_images", "open_folders"]

_SPLITS = {"test", "train", "training", "val", "valid", "validation"}
_CAPTIONS = ".txt"
_NO_IMAGES = frozenset({"csv", "epub", "json", "jsonl", "md", "txt"})
_IMAGES = frozenset(f".{extension}" for extension in EXTENSIONS - _NO_IMAGES)


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """The samples of an image folder.

    Attributes:
        root: the dataset's directory.
        labels: class name by directory name.
        zero_shot: the task of classifying the images.
    """

    root: Path
    labels: dict[str, str]
    zero_shot: ZeroShot

    def entries(self, *, images: bool) -> Iterator[Entry]:
        """Yield every file, class by class, sorted by name; the names of one directory are in memory at once."""
        for file in sorted(self.root.iterdir()):
            if file.suffix.lower() in _IMAGES and file.is_file() and not _is_hidden(file.name):
                yield Entry(printable(file.name), None, None, "it is not in a class directory")
        for directory, label in self.labels.items():
            yield from self._below(directory, label, images)

    def files(self) -> Iterator[Piece]:
        """Yield the text files that exist, and every file of every class directory, in order."""
        names = (CLASS_NAMES, TEMPLATES)
        yield from (Piece(self.root / name, name) for name in names if (self.root / name).exists())
        for directory in self.labels:
            for listed in _walk(self.root / directory):
                folder = listed.folder.relative_to(self.root)
                yield from (Piece(listed.folder / name, (folder / name).as_posix()) for name in listed.names)

    def _below(self, directory: str, label: str, images: bool) -> Iterator[Entry]:
        for listed in _walk(self.root / directory):
            folder = listed.folder.relative_to(self.root)
            for name, problem in listed.problems.items():
                yield Entry(printable((folder / name).as_posix()), None, None, problem)
            captions = {Path(name).stem for name in listed.names if name.endswith(_CAPTIONS)}
            images_of = {Path(name).stem for name in listed.names if not name.endswith(_CAPTIONS)}
            for name in listed.names:
                path, stem = (folder / name).as_posix(), Path(name).stem
                if not name.endswith(_CAPTIONS):
                    yield self._entry(path, label, stem in captions, images)
                elif stem not in images_of:
                    yield Entry(printable(path), None, None, "it holds captions, but there is no image of that name")

    def _entry(self, path: str, label: str, has_captions: bool, images: bool) -> Entry:
        where = printable(path)
        captions: tuple[str, ...] = ()
        if has_captions:
            try:
                captions = _captions((self.root / path).with_suffix(_CAPTIONS))
            except (OSError, ValueError) as problem:
                return Entry(where, None, None, f"its captions cannot be read ({problem})")
        sample = Sample(id=where, path=path, label=label, captions=captions, group=None)
        return read_file(where, sample, f"{self.root}/{path}", images=images)


@dataclass(frozen=True, slots=True)
class _Listed:
    """The files of one directory, in order, and problems of its entries, by name."""

    folder: Path
    names: tuple[str, ...]
    problems: dict[str, str]


def _walk(top: Path) -> Iterator[_Listed]:
    """Yield `top` and the directories below it, in order, without hidden ones; a link to a directory is a problem."""
    folders = [top]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                visible = sorted(
                    (entry for entry in entries if not _is_hidden(entry.name)), key=lambda entry: entry.name
                )
        except OSError as problem:
            yield _Listed(folder, (), {".": problem.strerror or str(problem)})
            continue
        inner = {entry.name: entry.is_symlink() for entry in visible if entry.is_dir()}
        links = {name: "links to directories are not followed" for name, linked in inner.items() if linked}
        yield _Listed(folder, tuple(entry.name for entry in visible if entry.name not in inner), links)
        folders += [folder / name for name in reversed(inner) if name not in links]


def _captions(file: Path) -> tuple[str, ...]:
    lines = read_bytes(file, limit_bytes=LARGEST_TEXT_BYTES).decode("utf-8-sig").split("\n")
    return tuple(line.strip() for line in lines if line.strip())


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def class_directories(root: Path) -> tuple[str, ...]:
    """Return the names of the directories in `root` that are not hidden, in the order of their code points."""
    with os.scandir(root) as entries:
        return tuple(sorted(entry.name for entry in entries if entry.is_dir() and not _is_hidden(entry.name)))


def holds_images(root: Path) -> bool:
    """Return whether a directory in `root` holds a file with the name of an image; the search ends at the first."""
    return any(
        Path(name).suffix.lower() in _IMAGES
        for directory in class_directories(root)
        for listed in _walk(root / directory)
        for name in listed.names
    )


def open_folders(root: Path) -> ClassFolders:
    """Open an image folder; no image is read, and no class directory listed, yet.

    Raises:
        DatasetError: the directories are splits, there is one class only, two directories are one class, or a text file
            is invalid.
    """
    directories = class_directories(root)
    if _SPLITS.issuperset(name.lower() for name in directories):
        what = f"the directories {', '.join(directories)} are splits of a dataset, not classes"
        raise DatasetError(what, where=root, fix=f"Name one of them, such as {root / directories[0]}")
    names = read_entries(root / CLASS_NAMES) or tuple(name.replace("_", " ") for name in directories)
    if len(names) != len(directories):
        what = f"{CLASS_NAMES} names {len(names)} classes, and there are {len(directories)} class directories"
        raise DatasetError(what, where=root, fix="Write one name a line, in the order of the directories' names")
    return ClassFolders(root, dict(zip(directories, names, strict=True)), zero_shot_task(names, root))
