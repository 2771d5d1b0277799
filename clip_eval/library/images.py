"""Images of a library, decoded in threads, in order, a bounded number ahead of the caller."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clip_eval.library.manifest import Library
from clip_eval.library.record import Record

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Decoded", "decoded"]

_WORKERS = 2
_AHEAD = 64


@dataclass(frozen=True, slots=True)
class Decoded:
    """A record with its image, in the mode of the file, or with the reason why there is none. One of them is None."""

    record: Record
    image: Image | None
    problem: str | None


def decoded(library: Library, *, workers: int = _WORKERS, ahead: int = _AHEAD) -> Iterator[Decoded]:
    """Yield every record of the library in the order of its manifest, each image read once.

    Args:
        library: an opened library.
        workers: threads that decode.
        ahead: images in memory beyond the one that was asked for.

    Raises:
        LibraryError: a line of the manifest is no record. An image that cannot be read is no error but a `problem`.
    """
    waiting: deque[Future[Decoded]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="clip-eval-decode") as pool:
        try:
            for record in library.records():
                waiting.append(pool.submit(_decode, library, record))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:  # the caller stopped early, or the manifest ended in an error
                future.cancel()


def _decode(library: Library, record: Record) -> Decoded:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(library.root / record.path) as image:
            image.load()
            return Decoded(record, image, None)
    except UnidentifiedImageError:
        return Decoded(record, None, "not an image that Pillow knows")
    except OSError as problem:
        return Decoded(record, None, problem.strerror or str(problem))
    except Exception as problem:  # a damaged file can raise anything from a decoder; it is the caller's to count
        return Decoded(record, None, f"{type(problem).__name__}: {problem}")
