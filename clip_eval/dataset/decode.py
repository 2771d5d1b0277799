"""Images of a library, decoded in threads, in order, a bounded number ahead of the caller."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clip_eval.dataset.dataset import Library
from clip_eval.dataset.record import Record, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Decoded", "decoded"]

_WORKERS = 2
_AHEAD = 64


@dataclass(frozen=True, slots=True)
class Decoded:
    """A sample with its image, in the mode of the file, or with the reason why there is none.

    Attributes:
        where: its place in the library.
        record: None where not even that can be read.
        image: None where there is a problem, and only there.
        problem: None where there is an image.
    """

    where: str
    record: Record | None
    image: Image | None
    problem: str | None


def decoded(library: Library, *, workers: int = _WORKERS, ahead: int = _AHEAD) -> Iterator[Decoded]:
    """Yield every sample of the library in its order, each image read once.

    Args:
        library: an opened library.
        workers: threads that decode.
        ahead: images in memory beyond the one that was asked for.

    Raises:
        LibraryError: a manifest cannot be read at all. A record or image that cannot be read is no error but a
            `problem`.
    """
    waiting: deque[Future[Decoded]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="clip-eval-decode") as pool:
        try:
            for sample in library.samples():
                waiting.append(pool.submit(_decode, sample))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:  # the caller stopped early, or the manifest ended in an error
                future.cancel()


def _decode(sample: Sample) -> Decoded:
    if sample.image is None:
        return Decoded(sample.where, sample.record, None, sample.problem)
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(sample.image)) as image:
            image.load()
            return Decoded(sample.where, sample.record, image, None)
    except UnidentifiedImageError:
        problem = "not an image that Pillow knows"
    except OSError as error:
        problem = error.strerror or str(error)
    except Exception as error:  # a damaged file can raise anything from a decoder; it is the caller's to count
        problem = f"{type(error).__name__}: {error}"
    return Decoded(sample.where, sample.record, None, problem)
