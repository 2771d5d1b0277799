"""Shared by the checks of pictures: the ways to load an image processor, and how its pixels are judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_eval.errors import NotAskable
from clip_eval.oracle.preprocessing.image_processor import Passes, PixelSettings, Spare, Transparency, preprocess
from clip_eval.oracle.preprocessing.pixel_settings import settings_of, settings_problem
from clip_eval.run.evidence import Evidence
from clip_eval.subject import resizes_with_torchvision
from clip_eval.subject.observations import Clip
from clip_eval.verdict import budgets
from clip_eval.verdict.compare import Compare, to_array

__all__ = ["ROUTES", "Levels", "Pixels", "Route", "pixel_settings", "pixels_of", "raised", "with_factor"]

Levels = Image.Image | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Route:
    """A way to load an image processor: a class with from_pretrained, and its options."""

    class_name: str
    options: Mapping[str, Any]


ROUTES: Mapping[str, Route] = {
    "AutoProcessor": Route("AutoProcessor", {}),
    "CLIPProcessor": Route("CLIPProcessor", {}),
    "AutoImageProcessor": Route("AutoImageProcessor", {}),
    "CLIPImageProcessor": Route("CLIPImageProcessor", {}),
    "CLIPImageProcessorPil": Route("CLIPImageProcessorPil", {}),
    "CLIPImageProcessorFast": Route("CLIPImageProcessorFast", {}),
    "AutoImageProcessor(use_fast=False)": Route("AutoImageProcessor", {"use_fast": False}),
    "AutoImageProcessor(use_fast=True)": Route("AutoImageProcessor", {"use_fast": True}),
}


@dataclass(frozen=True, slots=True)
class Pixels:
    """A check's access to the image processor.

    Attributes:
        clip: the subject.
        compare: the check's comparison.
        settings: the image processor settings in the checkpoint's files.
    """

    clip: Clip
    compare: Compare
    settings: PixelSettings

    def processor(self, route: str | None = None) -> Any:
        """Return what a route of `ROUTES` loads, a full processor or an image processor; by default the full one, or
        the image processor of a tower alone.
        """
        route = route or self.clip.processors.usual
        return self.clip.processors.load(ROUTES[route].class_name, **ROUTES[route].options)

    def part(self) -> Any:
        """Return the image processor that AutoProcessor loads, without the tokenizer."""
        return _image_part(self.processor())

    def backend(self, processor: Any = None) -> str:
        """Return what resizes pictures in a processor, by default AutoProcessor's: "pillow" or "torchvision"."""
        return "torchvision" if resizes_with_torchvision(_image_part(processor or self.processor())) else "pillow"

    def passes(self, processor: Any = None) -> Passes:
        """Return the order in which that backend filters rows and columns, in the oracle's terms."""
        return "rows first" if self.backend(processor) == "torchvision" else "pillow"

    def of(self, images: Any, *, processor: Any = None, **options: Any) -> NDArray[np.float64]:
        """Return the pixel_values of a call as one float64 array.

        Args:
            images: passed on as they are.
            processor: AutoProcessor's by default.
            options: passed on as they are.
        """
        options = {"return_tensors": "pt", **options}
        processed = self.clip.processors.process(processor or self.processor(), images=images, **options)
        return to_array(processed["pixel_values"])

    def budget(self, settings: PixelSettings, *, levels: float | None = None, processor: Any = None) -> budgets.Budget:
        """Return how far pixels may be from the oracle's.

        Args:
            settings: those of the oracle's pixels.
            levels: allowed difference of the resized levels; by default that of the backend for a uint8 picture.
            processor: its backend counts; AutoProcessor's by default.
        """
        if levels is None:
            other = settings.do_resize and self.backend(processor) == "torchvision"
            levels = budgets.OTHER_RESIZE if other else 0
        mean, std = (settings.image_mean, settings.image_std) if settings.do_normalize else ((0.0,), (1.0,))
        factor = settings.rescale_factor if settings.do_rescale else 1.0
        return budgets.pixels(mean, std, levels=levels, scale=255 * factor)

    def judge(
        self,
        images: Any,
        expected: Sequence[Levels],
        *,
        name: str,
        settings: PixelSettings | None = None,
        levels: float | None = None,
        transparency: Transparency = "dropped",
        spare: Spare = "before",
        **options: Any,
    ) -> None:
        """Assert that a call gives the oracle's pixels of `expected`, one entry a picture.

        Args:
            images: passed to AutoProcessor's processor.
            expected: pictures, or real levels, for the oracle.
            name: what is compared, as reports print it.
            settings: for the oracle; the checkpoint's by default.
            levels: see `budget`.
            transparency: treatment of an alpha channel, see the oracle.
            spare: side of an odd zero, see the oracle.
            options: passed to the call.
        """
        __tracebackhide__ = True
        chosen = settings or self.settings
        passes = self.passes()
        value = [preprocess(each, chosen, transparency=transparency, spare=spare, passes=passes) for each in expected]
        self.compare.within(self.of(images, **options), np.stack(value), self.budget(chosen, levels=levels), name=name)


def _image_part(processor: Any) -> Any:
    """The image processor of a full processor, or the image processor itself."""
    return getattr(processor, "image_processor", processor)


def pixels_of(clip: Clip, compare: Compare, evidence: Evidence) -> Pixels:
    """Return a check's access to the image processor; without one nothing is judged."""
    return Pixels(clip, compare, pixel_settings(clip, evidence))


def pixel_settings(clip: Clip, evidence: Evidence) -> PixelSettings:
    """Return what the checkpoint's files tell the image processor to do; where there are none, nothing is judged."""
    if absence := clip.checkpoint.image_processor_absence:
        evidence.absent(absence)
    if settings_problem(clip.checkpoint):
        # If transformers cannot read the file either, another check reports it.
        clip.processors.load("AutoImageProcessor")
    return settings_of(clip.checkpoint)


def with_factor(settings: PixelSettings, factor: float) -> PixelSettings:
    """Return settings with another rescale factor."""
    return replace(settings, rescale_factor=factor)


def raised(call: Callable[[], object]) -> str:
    """Return the name of the exception that a call raises, or "nothing".

    Raises:
        NotAskable: the call cannot be made at all.
    """
    try:
        call()
    except NotAskable:
        raise
    except Exception as error:  # whatever transformers raises is what a user sees
        return type(error).__name__
    return "nothing"
