"""An evaluation set on disk, whatever its format: a manifest, an image folder, or shards."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from clip_eval.dataset.image_folder import holds_images, open_folders
from clip_eval.dataset.manifest import MANIFEST, SETTINGS, Manifest
from clip_eval.dataset.record import Piece, Record, Sample
from clip_eval.dataset.settings import ZeroShot, read_settings
from clip_eval.dataset.webdataset_shards import open_shards, split_of
from clip_eval.errors import LibraryError
from clip_eval.files.untrusted import opened
from clip_eval.nearest import beside

__all__ = ["Library", "Source", "open_library"]

_NAMED_AT_MOST = 3
_AT_ONCE_BYTES = 2**20  # a shard need not fit in memory
_FORMATS = (
    f"A library is a directory with {SETTINGS} and {MANIFEST}, with one directory of images a class, or with "
    "WebDataset shards in test/"
)


class Source(Protocol):
    """Where the records of a library come from."""

    @property
    def zero_shot(self) -> ZeroShot | None:
        """The zero-shot task; None where the library sets none."""

    def samples(self, *, images: bool) -> Iterator[Sample]:
        """Yield every sample, in an order that is always the same, with or without the bytes of its image."""

    def files(self) -> Iterator[Piece]:
        """Yield every file that the library is made of, in an order that is always the same."""


@dataclass(frozen=True, slots=True)
class Library:
    """An evaluation set. Opening it reads its settings only; records are read as they are asked for.

    Attributes:
        root: its directory, absolute.
        source: its format.
    """

    root: Path
    source: Source

    @property
    def zero_shot(self) -> ZeroShot | None:
        """The zero-shot task; None where the library sets none."""
        return self.source.zero_shot

    def samples(self, *, images: bool = True) -> Iterator[Sample]:
        """Yield everything that the library holds, with one sample in memory at a time.

        What cannot be read is a sample with a problem: nothing is left out.

        Args:
            images: whether the bytes of the images are wanted; otherwise it is only looked whether they are there.

        Raises:
            LibraryError: a manifest cannot be read at all.
        """
        return self.source.samples(images=images)

    def records(self) -> Iterator[Record]:
        """Yield the records, whether their images are there or not.

        Raises:
            LibraryError: a record cannot be read; its place is named.
        """
        for sample in self.samples(images=False):
            if sample.record is None:
                raise LibraryError(f"{sample.where}: {sample.problem}", where=self.root, fix="Correct that place")
            yield sample.record

    def require_complete(self) -> int:
        """Look at every record, and for its image without opening it; return the number of records.

        Raises:
            LibraryError: there is no record, an id occurs twice, or records or images cannot be read; these are
                counted, and the first are named.
        """
        ids: set[str] = set()
        broken: list[str] = []
        count = lost = 0
        for sample in self.samples(images=False):
            count += 1
            if sample.problem is not None:
                lost += 1
                broken += [f"{sample.where} ({sample.problem})"] if lost <= _NAMED_AT_MOST else []
            elif sample.record is not None:
                self._require_new(sample, ids)
        if not count:
            raise LibraryError("the library holds no record", where=self.root, fix="Bring records and their images")
        if lost:
            raise self._incomplete(lost, count, broken)
        return count

    def digest(self) -> str:
        """Return one sha256, in hexadecimal, of every file of the library; reads them all.

        Answers to two libraries can be paired where their digests are equal. A missing file has a digest of its own.
        """
        whole = hashlib.sha256()
        for piece in self.source.files():
            whole.update(piece.name.encode(errors="surrogateescape") + _digest(piece.file))
        return whole.hexdigest()

    def _require_new(self, sample: Sample, ids: set[str]) -> None:
        assert sample.record is not None
        if sample.record.id in ids:
            what = f"{sample.where}: the id {sample.record.id!r} occurs a second time"
            raise LibraryError(what, where=self.root, fix="Give every record an id of its own")
        ids.add(sample.record.id)

    def _incomplete(self, lost: int, count: int, broken: list[str]) -> LibraryError:
        more = f"; and {lost - len(broken)} more" if lost > len(broken) else ""
        what = f"{lost} of {count} records cannot be read: {'; '.join(broken)}{more}"
        return LibraryError(what, where=self.root, fix="Correct these places, or bring the files")


def _digest(file: Path) -> bytes:
    found = hashlib.sha256()
    try:
        with opened(file) as stream:
            while part := stream.read(_AT_ONCE_BYTES):
                found.update(part)
    except OSError:
        return b"missing"
    return found.digest()


def open_library(path: str | Path) -> Library:
    """Open a library directory. No record is read yet.

    Raises:
        LibraryError: no such directory, none of the formats, or settings that make no sense.
    """
    root = Path(path).absolute()
    if not os.path.isdir(root):  # noqa: PTH112 - a Path raises for a name that is too long
        if os.path.isfile(root):  # noqa: PTH113 - as above
            raise LibraryError("this is a file, and a library is a directory", where=path, fix=_FORMATS)
        raise LibraryError("there is no such library", where=path, fix=beside(path, _FORMATS))
    return Library(root, _source(root))


def _source(root: Path) -> Source:
    present = [name for name in (SETTINGS, MANIFEST) if (root / name).is_file()]
    if len(present) == 2:
        return Manifest(root, read_settings(root / SETTINGS))
    if present:
        lacking = MANIFEST if present == [SETTINGS] else SETTINGS
        raise LibraryError(f"the library has no {lacking}", where=root, fix=_FORMATS)
    split = split_of(root)
    if split is not None:
        return open_shards(root, split)
    if holds_images(root):
        return open_folders(root)
    raise LibraryError("there is no library in this directory", where=root, fix=_FORMATS)
