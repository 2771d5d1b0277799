"""The public ways into a CLIP, with their documented parameters in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["ENTRY_POINTS", "INPUTS", "PARAMETERS", "EntryPoint", "entry_point"]

_TEXT = ("input_ids", "attention_mask", "position_ids", "output_attentions", "output_hidden_states")


_IMAGE = ("pixel_values", "output_attentions", "output_hidden_states", "interpolate_pos_encoding")


PARAMETERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "CLIPModel": (
            "input_ids",
            "pixel_values",
            "attention_mask",
            "position_ids",
            "return_loss",
            "output_attentions",
            "output_hidden_states",
            "interpolate_pos_encoding",
        ),
        "CLIPTextModel": _TEXT,
        "CLIPVisionModel": _IMAGE,
        "CLIPTextModelWithProjection": _TEXT,
        "CLIPVisionModelWithProjection": _IMAGE,
        "CLIPForImageClassification": ("pixel_values", "labels", "output_attentions", "output_hidden_states"),
        "get_text_features": _TEXT[:3],
        "get_image_features": ("pixel_values", "interpolate_pos_encoding"),
    }
)
"""Parameters by entry point, in the order in which they may be given by position."""


INPUTS: Mapping[str, int] = MappingProxyType(
    {
        "CLIPModel": 5,
        "CLIPTextModel": 3,
        "CLIPVisionModel": 1,
        "CLIPTextModelWithProjection": 3,
        "CLIPVisionModelWithProjection": 1,
        "CLIPForImageClassification": 2,
        "get_text_features": 3,
        "get_image_features": 2,
    }
)
"""How many of them come before the options that say what else is to be returned."""


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """A public way into a CLIP: the class, the method that is called, and whether it takes texts and images."""

    model_class: str
    method: str
    texts: bool
    images: bool

    def __str__(self) -> str:
        """As reports print it: the class for its forward, else the method of CLIPModel."""
        return self.model_class if self.method == "forward" else self.method


ENTRY_POINTS = (
    EntryPoint("CLIPModel", "forward", texts=True, images=True),
    EntryPoint("CLIPTextModel", "forward", texts=True, images=False),
    EntryPoint("CLIPVisionModel", "forward", texts=False, images=True),
    EntryPoint("CLIPTextModelWithProjection", "forward", texts=True, images=False),
    EntryPoint("CLIPVisionModelWithProjection", "forward", texts=False, images=True),
    EntryPoint("CLIPModel", "get_text_features", texts=True, images=False),
    EntryPoint("CLIPModel", "get_image_features", texts=False, images=True),
)
"""Every way in."""


def entry_point(model_class: str, method: str = "forward") -> EntryPoint:
    """Return the way in by this method of this class."""
    return next(entry for entry in ENTRY_POINTS if (entry.model_class, entry.method) == (model_class, method))
