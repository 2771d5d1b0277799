"""Images of a dataset, decoded in threads, in order, a bounded number ahead of the caller."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clip_eval.dataset.dataset import Dataset
from clip_eval.dataset.sample import Entry, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Decoded", "decode", "decoded"]

_WORKERS = 2
_AHEAD = 64


@dataclass(frozen=True, slots=True)
class Decoded:
    """An entry with its image, in the mode of the file, or with the reason why there is none.

    Attributes:
        where: its place in the dataset.
        sample: None if it cannot be read.
        image: None if and only if there is a problem.
        problem: None if there is an image.
    """

    where: str
    sample: Sample | None
    image: Image | None
    problem: str | None


def decoded(dataset: Dataset, *, workers: int = _WORKERS, ahead: int = _AHEAD) -> Iterator[Decoded]:
    """Yield every entry of the dataset in its order, each image read once.

    Args:
        dataset: an opened dataset.
        workers: threads that decode.
        ahead: images decoded in advance.

    Raises:
        DatasetError: a manifest cannot be read at all. A sample or image that cannot be read is not an error
            but a `problem`.
    """
    waiting: deque[Future[Decoded]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="clip-eval-decode") as pool:
        try:
            for entry in dataset.entries():
                waiting.append(pool.submit(decode, entry))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:  # the caller stopped early, or the manifest raised an error
                future.cancel()


def decode(entry: Entry) -> Decoded:
    """Decode the bytes of an entry's image; what is wrong with them is its `problem`."""
    if entry.image is None:
        return Decoded(entry.where, entry.sample, None, entry.problem)
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(entry.image)) as image:
            image.load()
            return Decoded(entry.where, entry.sample, image, None)
    except UnidentifiedImageError:
        problem = "not an image that Pillow knows"
    except OSError as error:
        problem = error.strerror or str(error)
    except Exception as error:  # decoders can raise anything for a damaged file; the caller counts it
        problem = f"{type(error).__name__}: {error}"
    return Decoded(entry.where, entry.sample, None, problem)
