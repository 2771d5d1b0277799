"""An evaluation set on disk in any format, which its files show."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from clip_eval.dataset.coco_captions import annotations_in, open_coco
from clip_eval.dataset.image_folder import holds_images, open_folders
from clip_eval.dataset.key_index import KEY_BYTES, KeyIndex
from clip_eval.dataset.manifest import MANIFEST, SETTINGS, Manifest
from clip_eval.dataset.sample import Entry, Piece, Sample
from clip_eval.dataset.saved_dataset import is_saved, open_saved
from clip_eval.dataset.settings import MultiLabel, ZeroShot, read_settings, read_table
from clip_eval.dataset.template_folder import open_template_folder
from clip_eval.dataset.webdataset_shards import open_shards, split_of
from clip_eval.errors import DatasetError
from clip_eval.files.untrusted import opened
from clip_eval.nearest import beside

__all__ = ["Dataset", "Source", "UniqueIds", "open_dataset"]

_NAMED_AT_MOST = 3
_AT_ONCE_BYTES = 2**20  # a shard need not fit in memory
_FORMATS = (
    f"A dataset is a directory with {SETTINGS} and {MANIFEST} or [fields], with one directory of images a class, with "
    "WebDataset shards in test/, with captions.json, or one that save_to_disk has written"
)


class Source(Protocol):
    """The samples of a dataset in one format."""

    @property
    def zero_shot(self) -> ZeroShot | None:
        """The zero-shot task; None if the dataset has none."""

    def entries(self, *, images: bool) -> Iterator[Entry]:
        """Yield every entry, always in the same order, with or without the bytes of its image."""

    def files(self) -> Iterator[Piece]:
        """Yield every file of the dataset, always in the same order."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """An evaluation set. Opening it reads its settings only; samples are read when they are iterated over.

    Attributes:
        root: its directory, absolute.
        source: its format.
    """

    root: Path
    source: Source

    @property
    def zero_shot(self) -> ZeroShot | None:
        """The zero-shot task; None if the dataset has none."""
        return self.source.zero_shot

    @property
    def multi_label(self) -> MultiLabel | None:
        """The multi-label task; None if the dataset has none. Only some formats know it."""
        task: MultiLabel | None = getattr(self.source, "multi_label", None)
        return task

    def entries(self, *, images: bool = True) -> Iterator[Entry]:
        """Yield all entries of the dataset, with one in memory at a time.

        A sample that cannot be read is an entry with a problem: nothing is left out.

        Args:
            images: read the bytes of the images; otherwise only check that they exist.

        Raises:
            DatasetError: a manifest cannot be read at all.
        """
        return self.source.entries(images=images)

    def samples(self) -> Iterator[Sample]:
        """Yield the samples, whether or not their images exist.

        Raises:
            DatasetError: a sample cannot be read; its place is named.
        """
        for entry in self.entries(images=False):
            if entry.sample is None:
                raise DatasetError(f"{entry.where}: {entry.problem}", where=self.root, fix="Correct that place")
            yield entry.sample

    def require_complete(self) -> int:
        """Check every sample, and that its image exists, without opening it; return the number of samples.

        Raises:
            DatasetError: there is no sample, an id occurs twice, or samples or images cannot be read; these are
                counted, and the first are named.
        """
        ids = UniqueIds(self.root)
        broken: list[str] = []
        count = lost = 0
        for entry in self.entries(images=False):
            count += 1
            if entry.problem is not None:
                lost += 1
                broken += [f"{entry.where} ({entry.problem})"] if lost <= _NAMED_AT_MOST else []
            else:
                ids.add(entry)
        if not count:
            raise DatasetError("the dataset holds no sample", where=self.root, fix="Add samples and their images")
        if lost:
            raise self._incomplete(lost, count, broken)
        return count

    def digest(self, known: Mapping[str, bytes] | None = None) -> str:
        """Return one sha256, in hexadecimal, of all files of the dataset; reads them all, but for those that are known.

        Answers for two datasets can be paired if their digests are equal. A missing file has a digest of its own.

        Args:
            known: sha256 of images that have been read, by their path relative to the dataset.
        """
        whole = hashlib.sha256()
        files = {os.fspath(self.root / path): digest for path, digest in (known or {}).items()}
        for piece in self.source.files():
            digest = files.get(os.fspath(piece.file)) or _digest(piece.file)
            whole.update(piece.name.encode(errors="surrogateescape") + digest)
        return whole.hexdigest()

    def _incomplete(self, lost: int, count: int, broken: list[str]) -> DatasetError:
        more = f"; and {lost - len(broken)} more" if lost > len(broken) else ""
        what = f"{lost} of {count} samples cannot be read: {'; '.join(broken)}{more}"
        return DatasetError(what, where=self.root, fix="Correct these places, or add the files")


class UniqueIds:
    """The ids of a dataset's samples, sixteen bytes each: a million take 16 MB.

    Args:
        root: the dataset's directory, for messages.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known = KeyIndex()

    def add(self, entry: Entry) -> None:
        """Take the id of an entry's sample. Raises DatasetError where it occurs a second time."""
        if entry.sample is None:
            return
        key = hashlib.sha256(entry.sample.id.encode(errors="surrogatepass")).digest()[:KEY_BYTES]
        if key in self._known:
            what = f"{entry.where}: the id {entry.sample.id!r} occurs a second time"
            raise DatasetError(what, where=self._root, fix="Give every sample an id of its own")
        self._known.add([key])


def _digest(file: Path) -> bytes:
    digest = hashlib.sha256()
    try:
        with opened(file) as stream:
            while part := stream.read(_AT_ONCE_BYTES):
                digest.update(part)
    except OSError:
        return b"missing"
    return digest.digest()


def open_dataset(path: str | Path) -> Dataset:
    """Open a dataset directory. Samples are not read yet.

    Raises:
        DatasetError: the directory does not exist, has none of the formats, or has invalid settings.
    """
    root = Path(path).absolute()
    if not os.path.isdir(root):  # noqa: PTH112 - a Path raises for a name that is too long
        if os.path.isfile(root):  # noqa: PTH113 - as above
            raise DatasetError("this is a file, and a dataset is a directory", where=path, fix=_FORMATS)
        raise DatasetError("the dataset does not exist", where=path, fix=beside(path, _FORMATS))
    return Dataset(root, _source(root))


def _source(root: Path) -> Source:
    settings = root / SETTINGS
    has_settings, has_manifest = settings.is_file(), (root / MANIFEST).is_file()
    if has_settings and has_manifest:
        return Manifest(root, read_settings(settings))
    table = read_table(settings) if has_settings else {}
    if is_saved(root):
        return open_saved(root, table)
    if "coco" in table or (not table and annotations_in(root)):
        return open_coco(root, table)
    if "fields" in table:
        return open_template_folder(root, table)
    if has_settings or has_manifest:
        lacking = MANIFEST if has_settings else SETTINGS
        raise DatasetError(f"the dataset has no {lacking}", where=root, fix=_FORMATS)
    split = split_of(root)
    if split is not None:
        return open_shards(root, split)
    if holds_images(root):
        return open_folders(root)
    raise DatasetError("the directory holds no dataset", where=root, fix=_FORMATS)
