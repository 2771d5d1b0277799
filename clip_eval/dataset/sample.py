"""One sample of an evaluation set, and its entry: with its image, or with the reason why there is none."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from clip_eval.files.untrusted import read_bytes

__all__ = [
    "LARGEST_IMAGE_BYTES",
    "LARGEST_TEXT_BYTES",
    "Entry",
    "Piece",
    "Sample",
    "file_problem",
    "printable",
    "read_file",
    "too_large",
]

# Pillow warns of images above 89 megapixels; without compression they have three bytes each.
LARGEST_IMAGE_BYTES = 3 * 89_478_485
LARGEST_TEXT_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One image with its texts.

    Attributes:
        id: unique in its dataset.
        path: of the image, relative to the dataset, with "/" between segments; in a shard, the shard and the member.
        label: its class; None without one.
        captions: descriptions, possibly none.
        group: samples of one group, such as pages of a work, are not independent; None without one.
        tags: those tags of the dataset's multi-label task that it shows.
        negatives: descriptions that are wrong; beside captions only.
        split: which part of the dataset it is of, such as train or test; None if that is not said.
    """

    id: str
    path: str
    label: str | None
    captions: tuple[str, ...]
    group: str | None
    tags: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a dataset. Nothing is left out: what cannot be read is an entry with a problem.

    Attributes:
        where: the place, relative to the dataset, for people.
        sample: None if it cannot be read.
        image: the bytes of the image file; None if not requested or if they cannot be read.
        problem: why there is no sample or no image, a clause; None without a problem.
    """

    where: str
    sample: Sample | None
    image: bytes | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Piece:
    """A file of a dataset.

    Attributes:
        file: its path.
        name: what its name means for its samples, such as their class; "" for nothing.
    """

    file: Path
    name: str = ""


def file_problem(path: str) -> str | None:
    """Return why `path` cannot be read as an image file, a clause, or None. The file is not opened."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path interns every name, and there may be millions
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the name
        return getattr(problem, "strerror", None) or str(problem)
    if not stat.S_ISREG(status.st_mode):
        return "it is not a file"  # opening a named pipe would block
    return too_large(status.st_size, LARGEST_IMAGE_BYTES)


def printable(name: str) -> str:
    """Return a name that may hold bytes that are not UTF-8 as text that can be printed and written to a report."""
    return name.encode(errors="backslashreplace").decode()


def too_large(size_bytes: int, limit_bytes: int) -> str | None:
    """Return the problem of a file above the size limit, a clause, or None."""
    return f"it has {size_bytes:,} bytes, and the limit is {limit_bytes:,}" if size_bytes > limit_bytes else None


def read_file(where: str, sample: Sample, path: str, *, images: bool) -> Entry:
    """Return the entry of a sample whose image is the file `path`.

    Args:
        where: the entry's place.
        sample: the sample.
        path: of the image file.
        images: read the bytes; otherwise only check that the file exists.
    """
    problem = file_problem(path)
    if problem is None and images:
        try:
            return Entry(where, sample, read_bytes(path, limit_bytes=LARGEST_IMAGE_BYTES), None)
        except OSError as error:
            problem = error.strerror or str(error)
    return Entry(where, sample, None, problem)
