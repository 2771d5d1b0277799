"""Folders of images, walked in order: image files, the text files of captions beside them, and what is neither."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from clip_eval.dataset.sample import LARGEST_TEXT_BYTES
from clip_eval.files.untrusted import read_bytes
from clip_eval.paths import EXTENSIONS

__all__ = ["IMAGES", "Found", "Listed", "files_below", "is_hidden", "read_captions", "walk"]

CAPTIONS = ".txt"
_NO_IMAGES = frozenset({"csv", "epub", "json", "jsonl", "md", "txt"})
IMAGES = frozenset(f".{extension}" for extension in EXTENSIONS - _NO_IMAGES)
"""Endings of image files, with their dots."""


@dataclass(frozen=True, slots=True)
class Found:
    """An image file, or a problem.

    Attributes:
        path: relative to the dataset, with "/" between segments.
        captions: the text file beside it, if there is one.
        problem: why it is no image, a clause; None for an image.
    """

    path: str
    captions: Path | None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """The files of one directory, in order, and problems of its entries, by name."""

    folder: Path
    names: tuple[str, ...]
    problems: dict[str, str]


def walk(top: Path) -> Iterator[Listed]:
    """Yield `top` and the directories below it, in order, without hidden ones; a link to a directory is a problem."""
    folders = [top]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                visible = sorted(
                    (entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name
                )
        except OSError as problem:
            yield Listed(folder, (), {".": problem.strerror or str(problem)})
            continue
        inner = {entry.name: entry.is_symlink() for entry in visible if entry.is_dir()}
        links = {name: "links to directories are not followed" for name, linked in inner.items() if linked}
        yield Listed(folder, tuple(entry.name for entry in visible if entry.name not in inner), links)
        folders += [folder / name for name in reversed(inner) if name not in links]


def files_below(root: Path, top: Path, *, apart: Collection[str] = ()) -> Iterator[Found]:
    """Yield the files of `top` and below it, in order; a text file belongs to the image of its name.

    Args:
        root: the dataset's directory, to which paths are relative.
        top: where to begin.
        apart: paths of files that are neither images nor captions.
    """
    for listed in walk(top):
        folder = listed.folder.relative_to(root)
        paths = {name: (folder / name).as_posix() for name in listed.names}
        names = [name for name in listed.names if paths[name] not in apart]
        for name, problem in listed.problems.items():
            yield Found((folder / name).as_posix(), None, problem)
        captions = {Path(name).stem for name in names if name.endswith(CAPTIONS)}
        images_of = {Path(name).stem for name in names if not name.endswith(CAPTIONS)}
        for name in names:
            stem = Path(name).stem
            if not name.endswith(CAPTIONS):
                yield Found(paths[name], listed.folder / f"{stem}{CAPTIONS}" if stem in captions else None)
            elif stem not in images_of:
                yield Found(paths[name], None, "it holds captions, but there is no image of that name")


def read_captions(file: Path) -> tuple[str, ...]:
    """Return the captions of a text file, one a line.

    Raises:
        ValueError: it cannot be read; the message is a clause about its image.
    """
    try:
        lines = read_bytes(file, limit_bytes=LARGEST_TEXT_BYTES).decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as problem:
        raise ValueError(f"its captions cannot be read ({problem})") from problem
    return tuple(line.strip() for line in lines if line.strip())


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name does not count."""
    return name.startswith(".")
