"""Images of a dataset, decoded."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clip_eval.dataset.sample import Entry, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Decoded", "decode"]


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
