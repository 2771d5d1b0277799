"""Arrow streams from unknown hands: record batches whose every buffer was checked, and damage as a clause."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Damaged", "record_batches"]

_END = b"\xff\xff\xff\xff\0\0\0\0"  # a message of length 0; without it a stream that breaks off looks complete


class Damaged(ValueError):
    """A stream that cannot be read. The message is a clause."""


class _Bounded:
    """A file that gives no more than it has: a header can state any size, for which memory would be reserved."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size_bytes = file.seek(0, 2)
        self.closed = False
        self.tell, self.seek = file.tell, file.seek
        file.seek(0)

    def read(self, size_bytes: int = -1) -> bytes:
        """Read from the file."""
        left = max(0, self.size_bytes - self._file.tell())
        return self._file.read(left if size_bytes < 0 else min(size_bytes, left))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        """Leave the file open: its owner closes it."""
        self.closed = True


def record_batches(file: BinaryIO) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of an Arrow stream, one in memory at a time.

    Raises:
        Damaged: it is not an Arrow stream, is damaged or breaks off; batches before the damage come first.
    """
    import pyarrow as pa

    bounded = _Bounded(file)
    try:
        with pa.ipc.open_stream(pa.PythonFile(bounded, mode="r")) as reader:
            for batch in reader:
                batch.validate(full=True)
                yield batch
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as problem:
        reason = " ".join(str(problem).split())[:200]
        raise Damaged(f"it is not an Arrow stream, or is damaged ({reason})") from problem
    file.seek(max(0, bounded.size_bytes - len(_END)))
    if file.read() != _END:
        raise Damaged("it breaks off, or goes on after its end")
