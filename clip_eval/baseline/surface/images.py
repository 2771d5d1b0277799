"""How hard and malformed pictures are read, and unusual calls of an image processor."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_eval.baseline.surface.image_cases import ARRAYS, CALLS, OTHERS, PICTURES, Call, Given, Meaning
from clip_eval.errors import NotAskable, UsageError
from clip_eval.oracle.preprocessing.image_processor import Passes, PixelSettings, preprocess
from clip_eval.oracle.preprocessing.pixel_settings import settings_of
from clip_eval.probes.images import flat_image, turned_image
from clip_eval.subject import resizes_with_torchvision
from clip_eval.subject.observations import Clip
from clip_eval.verdict import budgets
from clip_eval.verdict.compare import to_array
from clip_eval.verdict.plain_values import Json

__all__ = ["observe_pictures"]

Array = NDArray[np.float64]

_ROUTE = "CLIPImageProcessor"  # loads in every release, with and without torchvision
_WHOLE = 0.01  # a whole level is whole to 1e-4 in float32 pixels; the digest of a fraction would change with any ulp


@dataclass(frozen=True, slots=True)
class _Spelled:
    """Pixels as text.

    Attributes:
        text: type, dtype, shape, and the matching interpretation; or the exception.
        levels: a few of them and a digest of all; None if they depend on the machine.
    """

    text: str
    levels: str | None = None


@dataclass(frozen=True, slots=True)
class _Reader:
    """Formats the results of an image processor.

    Attributes:
        clip: the subject.
        settings: from the checkpoint's files.
        processor: one that no check has called.
    """

    clip: Clip
    settings: PixelSettings
    processor: Any

    @property
    def exact(self) -> bool:
        """Whether levels are the same on every machine: torchvision's depend on the CPU."""
        return not resizes_with_torchvision(self.processor)

    def spell(self, call: Callable[[], Any], meanings: Mapping[str, Meaning]) -> _Spelled:
        """Format the pixels of a call, or what it raises; then whether Pillow warns.

        Args:
            call: returns a batch with pixel_values.
            meanings: possible interpretations, by name.
        """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            spelled_pixels = self._called(call, meanings)
        warned = any(Path(entry.filename).parent.name == "PIL" for entry in caught)  # torch warns once a process
        return replace(spelled_pixels, text=f"{spelled_pixels.text}, Pillow warns") if warned else spelled_pixels

    def _called(self, call: Callable[[], Any], meanings: Mapping[str, Meaning]) -> _Spelled:
        try:
            batch = call()
        except NotAskable:
            raise
        except Exception as error:  # that is what a user sees
            return _Spelled(f"raises {type(error).__name__}")
        return self._pixels(batch["pixel_values"], meanings) if "pixel_values" in batch else _Spelled("no pixel_values")

    def _pixels(self, values: Any, meanings: Mapping[str, Meaning]) -> _Spelled:
        kind = type(values).__name__
        if isinstance(values, (list, tuple)):
            inner = self._pixels(values[0], meanings) if values else _Spelled("nothing")
            return replace(inner, text=f"{kind} of {len(values)}: {inner.text}")
        dtype, shape = str(values.dtype).removeprefix("torch."), self._shape(tuple(values.shape))
        levels = self._levels(to_array(values), raw=dtype == "uint8")  # the shape of values
        reading = self._reading(levels, meanings)
        return _Spelled(f"{kind} {dtype} {shape}{', ' if reading else ''}{reading}", self._digest(levels))

    def _shape(self, shape: tuple[int, ...]) -> str:
        side = self.settings.crop_height
        square = side == self.settings.crop_width
        return f"({', '.join('side' if square and size == side else str(size) for size in shape)})"

    def _levels(self, values: Array, *, raw: bool = False) -> Array:
        """Levels of 0..255 of normalised values, with their shape."""
        settings = self.settings
        axis = next((axis for axis in (-3, -1) if values.ndim >= 3 and values.shape[axis] == 3), None)
        if raw or axis is None:
            return values
        if settings.do_normalize:
            shape = (3, 1, 1) if axis == -3 else (3,)
            values = values * np.reshape(settings.image_std, shape) + np.reshape(settings.image_mean, shape)
        return values / (settings.rescale_factor if settings.do_rescale else 1.0)

    def _reading(self, levels: Array, meanings: Mapping[str, Meaning]) -> str:
        if not levels.size or not np.isfinite(levels).all():
            return "not finite" if levels.size else "empty"
        return next(
            (text for text, meaning in meanings.items() if self._matches(levels, meaning)), "otherwise" * bool(meanings)
        )

    def _matches(self, levels: Array, meaning: Meaning) -> bool:
        passes: Passes = "pillow" if self.exact else "rows first"
        settings = replace(self.settings, **meaning.settings)
        try:
            values = [
                preprocess(picture, settings, transparency=meaning.transparency, passes=passes)
                for picture in meaning.pictures
            ]
        except UsageError:
            return False
        expected = self._levels(np.stack(values))  # (images, channels, height, width)
        observed = levels.reshape((-1, *levels.shape[-3:])) if levels.ndim >= 3 else levels
        if observed.shape != expected.shape:
            return False
        return bool(np.abs(observed - expected).max() <= _WHOLE + (0 if self.exact else budgets.OTHER_RESIZE))

    def _digest(self, levels: Array) -> str | None:
        """A few levels, from corner to corner, and a digest of all, if they are whole and the same on every machine."""
        if not self.exact or not levels.size or not np.isfinite(levels).all():
            return None
        whole = np.rint(levels).astype("<i8")  # the shape of levels
        if np.abs(levels - whole).max() > _WHOLE:
            return None
        flat = whole.ravel()  # (levels,)
        shown = " ".join(str(flat[place * (flat.size - 1) // 4]) for place in range(5))
        return f"{shown} ({sha256(np.ascontiguousarray(whole).tobytes()).hexdigest()[:8]})"


def observe_pictures(clip: Clip) -> dict[str, Json]:
    """Return the image processor's results for pictures, arrays and calls, including those outside any contract.

    Sizes are written by name, pixels by their interpretation. Levels of 0..255, a few and a digest, are in one list for
    each group, so that another Pillow with another resize is one change; torchvision's differ between machines by one
    or two, and are left out.
    """
    if not clip.subject.checkpoint.has_image_processor:
        return {}
    path = clip.subject.checkpoint.processor_path
    try:
        processor = clip.processors.load(_ROUTE, source=path)
    except NotAskable:
        raise
    except Exception as error:  # whatever transformers raises is what a user sees
        return {"image_processor": f"raises {type(error).__name__}"}
    reader = _Reader(clip, settings_of(clip.subject.checkpoint), processor)
    found: dict[str, Json] = {}
    for group, spelled in _groups(reader).items():
        found[f"{group}[*]"] = {name: entry.text for name, entry in spelled.items()}
        levels = {name: entry.levels for name, entry in spelled.items()}
        found[f"{group}.levels"] = [f"{name}: {text}" for name, text in levels.items() if text is not None]
    return found


def _groups(reader: _Reader) -> dict[str, dict[str, _Spelled]]:
    given = {"picture": PICTURES, "array": ARRAYS, "other": OTHERS}
    return {
        **{f"image_processor({kind})": _given(reader, entries) for kind, entries in given.items()},
        "image_processor(file)": _files(reader),
        "image_processor(picture, options)": {name: _called(reader, call) for name, call in CALLS.items()},
        **({"processor(images)": _full(reader)} if reader.clip.subject.checkpoint.has_tokenizer else {}),
    }


def _itself(value: Any) -> Any:
    return value


def _given(reader: _Reader, entries: Mapping[str, Given]) -> dict[str, _Spelled]:
    def call(given: Given) -> Callable[[], Any]:
        return lambda: reader.processor(given.make(), return_tensors="np")

    return {name: reader.spell(call(given), given.meanings()) for name, given in entries.items()}


def _called(reader: _Reader, call: Call) -> _Spelled:
    options = {"return_tensors": "np", **call.options}
    return reader.spell(lambda: reader.processor(call.make(), *call.arguments, **options), call.meanings())


def _files(reader: _Reader) -> dict[str, _Spelled]:
    """File names in place of pictures: whether they are read, and turned by their EXIF orientation."""
    turned = turned_image(6)
    flat = flat_image(*turned.size)
    with TemporaryDirectory(prefix="clip-eval-") as directory:
        path = Path(directory) / "turned.png"
        turned.save(path, exif=turned.getexif())
        ways: Mapping[str, Any] = {"text": str(path), "list of texts": [str(path)], "path": path}
        meanings = {
            "as it lies": Meaning((flat,)),
            "turned upright": Meaning((flat.transpose(Image.Transpose.ROTATE_270),)),
        }
        return _given(reader, {way: Given(partial(_itself, value), lambda: meanings) for way, value in ways.items()})


def _full(reader: _Reader) -> dict[str, _Spelled]:
    """Calls of the full processor that its image processor does not see."""
    processor = reader.clip.processors.load("AutoProcessor", source=reader.clip.subject.checkpoint.processor_path)
    picture = flat_image(90, 41)
    ways = {
        "images=": Call({"images": picture}),
        "first argument": Call({}, (picture,)),
        "second argument": Call({}, (None, picture)),
        "images_kwargs": Call({"images": picture, "images_kwargs": {"do_resize": False}}),
        "images=[]": Call({"images": []}),
        "images=None": Call({"images": None}),
        "images=None, text": Call({"images": None, "text": "a"}),
        "do_sparkle=True": Call({"images": picture, "do_sparkle": True}),
    }

    def call(way: Call) -> Callable[[], Any]:
        return lambda: processor(*way.arguments, return_tensors="np", **way.options)

    return {name: reader.spell(call(way), way.meanings()) for name, way in ways.items()}
