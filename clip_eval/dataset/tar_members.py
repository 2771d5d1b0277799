"""The members of an untrusted tar file, in order: nothing is written to disk, no link is followed.

A truncated archive or a damaged header is an error here; tarfile alone takes the first such place for the end.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from clip_eval.files.untrusted import opened

__all__ = ["Member", "Unreadable", "members"]


# A path has at most 4,096 bytes, and extended attributes of a file at most 65,536.
_HEADER_BYTES = 1 << 17
# Names and attributes are in extra headers, which tarfile reads recursively.
_DAMAGES = (tarfile.TarError, ValueError, OSError, OverflowError, RecursionError)


class _Bounded:
    """A file with a limit on single reads: a header can state any size, and tarfile would read it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._limit_bytes = _HEADER_BYTES
        self.seek, self.tell = file.seek, file.tell

    @contextmanager
    def up_to(self, limit_bytes: int) -> Iterator[None]:
        """Allow reads of this size in the block."""
        self._limit_bytes = max(limit_bytes, _HEADER_BYTES)
        try:
            yield
        finally:
            self._limit_bytes = _HEADER_BYTES

    def read(self, size_bytes: int = -1) -> bytes:
        """Read from the file; raises OSError above the limit."""
        if not 0 <= size_bytes <= self._limit_bytes:
            raise OSError(f"a header states {size_bytes:,} bytes, and the limit is {self._limit_bytes:,}")
        return self._file.read(size_bytes)


def _bounds(archive: tarfile.TarFile) -> _Bounded:
    assert isinstance(archive.fileobj, _Bounded)
    return archive.fileobj


class Unreadable(ValueError):
    """Bytes that cannot be read. The message is a clause."""


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of an archive that is not a folder, or a place where the archive is damaged.

    Attributes:
        name: of the member; "" for damage.
        size_bytes: of its content.
        problem: why it cannot be read, a clause, or None.
    """

    name: str
    size_bytes: int
    problem: str | None
    _archive: tarfile.TarFile | None = field(default=None, repr=False)
    _info: tarfile.TarInfo | None = field(default=None, repr=False)

    def read(self, limit_bytes: int) -> bytes:
        """Return the content; only while the archive is open.

        Raises:
            Unreadable: it has a problem, is larger than the limit, or is truncated.
        """
        if self.problem is not None or self._archive is None or self._info is None:
            raise Unreadable(self.problem)
        if self.size_bytes > limit_bytes:
            raise Unreadable(f"it has {self.size_bytes:,} bytes, and the limit is {limit_bytes:,}")
        try:
            content = self._archive.extractfile(self._info)
            with _bounds(self._archive).up_to(limit_bytes):
                data = b"" if content is None else content.read()
        except (tarfile.TarError, OSError) as problem:
            raise Unreadable(f"it cannot be read ({problem})") from problem
        if len(data) != self.size_bytes:
            raise Unreadable(f"it breaks off after {len(data):,} of {self.size_bytes:,} bytes")
        return data


@contextmanager
def members(path: Path) -> Iterator[Iterator[Member]]:
    """Open an uncompressed tar file and yield its members, with one in memory at a time; damage comes last.

    Raises:
        OSError: the file cannot be opened.
    """
    with opened(path) as file:
        yield _open(file)


def _open(file: BinaryIO) -> Iterator[Member]:
    end = file.seek(0, 2)
    file.seek(0)
    try:
        archive = tarfile.open(fileobj=_Bounded(file), mode="r:", encoding="utf-8", errors="surrogateescape")  # type: ignore[call-overload] # noqa: SIM115
    except _DAMAGES as problem:
        return iter((_damage(f"it is not an uncompressed tar file ({problem})"),))
    return _members(archive, end)


def _members(archive: tarfile.TarFile, end: int) -> Iterator[Member]:
    last, offset = "", -1
    while True:
        try:
            info = archive.next()
        except _DAMAGES as problem:
            yield _damage(f"the archive is damaged after {last!r} ({problem})" if last else "the archive is damaged")
            return
        if info is None:
            break
        if archive.offset <= offset or info.size < 0:  # a header that leads back would be read forever
            yield _damage(f"the archive is damaged at {info.name!r}")
            return
        offset = archive.offset
        archive.members.clear()  # type: ignore[attr-defined] # tarfile keeps every header otherwise
        last = info.name
        if not info.isdir():
            yield Member(info.name, info.size, _problem(info, end), archive, info)
    if not _ends_well(archive, end):
        yield _damage(f"the archive breaks off, or is damaged, after {last!r}")


def _problem(info: tarfile.TarInfo, end: int) -> str | None:
    if info.islnk() or info.issym():
        return "it is a link, and links are not followed"
    if not info.isreg() or info.issparse():
        return "it is not a regular file"
    if "/../" in f"/{info.name}/" or info.name.startswith("/"):
        return "its name is outside the archive"
    if info.offset_data + info.size > end:
        return "it breaks off where the archive ends"
    return None


def _damage(problem: str) -> Member:
    return Member("", 0, problem)


def _ends_well(archive: tarfile.TarFile, end: int) -> bool:
    """Return whether the iteration ended at a block of zeros, the end mark of an archive."""
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    return archive.offset + tarfile.BLOCKSIZE <= end and not any(archive.fileobj.read(tarfile.BLOCKSIZE))
