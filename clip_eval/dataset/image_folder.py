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

from clip_eval.dataset.folder_walk import IMAGES, files_below, is_hidden, read_captions, walk
from clip_eval.dataset.prompts import CLASS_NAMES, TEMPLATES, zero_shot_task
from clip_eval.dataset.sample import Entry, Piece, Sample, printable, read_file
from clip_eval.dataset.settings import ZeroShot
from clip_eval.dataset.text_lines import read_entries
from clip_eval.errors import DatasetError

__all__ = ["ClassFolders", "class_directories", "holds_images", "open_folders"]

_SPLITS = {"test", "train", "training", "val", "valid", "validation"}


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
            if file.suffix.lower() in IMAGES and file.is_file() and not is_hidden(file.name):
                yield Entry(printable(file.name), None, None, "it is not in a class directory")
        for directory, label in self.labels.items():
            yield from self._below(directory, label, images)

    def files(self) -> Iterator[Piece]:
        """Yield the text files that exist, and every file of every class directory, in order."""
        names = (CLASS_NAMES, TEMPLATES)
        yield from (Piece(self.root / name, name) for name in names if (self.root / name).exists())
        for directory in self.labels:
            for listed in walk(self.root / directory):
                folder = listed.folder.relative_to(self.root)
                yield from (Piece(listed.folder / name, (folder / name).as_posix()) for name in listed.names)

    def _below(self, directory: str, label: str, images: bool) -> Iterator[Entry]:
        for found in files_below(self.root, self.root / directory):
            if found.problem is None:
                yield self._entry(found.path, label, found.captions, images)
            else:
                yield Entry(printable(found.path), None, None, found.problem)

    def _entry(self, path: str, label: str, captions_file: Path | None, images: bool) -> Entry:
        where = printable(path)
        try:
            captions = () if captions_file is None else read_captions(captions_file)
        except ValueError as problem:
            return Entry(where, None, None, str(problem))
        sample = Sample(id=where, path=path, label=label, captions=captions, group=None)
        return read_file(where, sample, f"{self.root}/{path}", images=images)


def class_directories(root: Path) -> tuple[str, ...]:
    """Return the names of the directories in `root` that are not hidden, in the order of their code points."""
    with os.scandir(root) as entries:
        return tuple(sorted(entry.name for entry in entries if entry.is_dir() and not is_hidden(entry.name)))


def holds_images(root: Path) -> bool:
    """Return whether a directory in `root` holds a file with the name of an image; the search ends at the first."""
    return any(
        Path(name).suffix.lower() in IMAGES
        for directory in class_directories(root)
        for listed in walk(root / directory)
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
