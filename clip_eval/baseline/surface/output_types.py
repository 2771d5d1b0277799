"""Descriptions of a model's outputs that depend on neither its size nor its dtype.

Sizes are written by name, such as (texts, tokens, text width), and the subject's own dtype as "model". So the same
description fits the approved release in float32 and a candidate in bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clip_eval.subject.observations import Clip

__all__ = ["IMAGES", "PAIRS", "TEXTS", "Sizes", "described", "sizes_of"]

IMAGES, TEXTS, PAIRS = 3, 5, 4


@dataclass(frozen=True, slots=True)
class Sizes:
    """Names of sizes: of rows, of positions in a row, of widths, and the number of attention heads and of layers.

    A size with several meanings has all their names, since the shape does not show which is meant.
    """

    rows: Mapping[str, int]
    positions: Mapping[str, int]
    widths: Mapping[str, int]
    heads: Mapping[str, int]
    layers: Mapping[str, int]

    def shape(self, shape: tuple[int, ...]) -> str:
        """Format a shape; a size out of place stays a number."""
        kinds = self._kinds(len(shape))
        return f"({', '.join(_names(size, names) for size, names in zip(shape, kinds, strict=True))})"

    def entries(self, count: int) -> str:
        """Format the length of a tuple of equal entries: one a layer, or one more."""
        return _names(count, {**self.layers, **{f"{name} + 1": layers + 1 for name, layers in self.layers.items()}})

    def _kinds(self, dimensions: int) -> Sequence[Mapping[str, int]]:
        """The possible meanings of each axis: a vector or a logit a row, a state a position, an attention map a
        head.
        """
        kinds: dict[int, Sequence[Mapping[str, int]]] = {
            2: (self.rows, {**self.rows, **self.widths}),
            3: (self.rows, self.positions, self.widths),
            4: (self.rows, self.heads, self.positions, self.positions),
        }
        return kinds.get(dimensions, (self.rows,) * dimensions)


def sizes_of(clip: Clip, part: str, *, pairs: bool = False) -> Sizes:
    """Return the names for the outputs of a class or field: those of its tower, or of both towers for CLIPModel.

    Args:
        clip: the subject.
        part: a class or field; its name says text, vision or image, or neither.
        pairs: there are as many images as texts (`PAIRS`).
    """
    kind = part.lower()
    if "text" in kind:
        return _text_sizes(clip)
    if "vision" in kind or "image" in kind:
        return _image_sizes(clip)
    text, image = _text_sizes(clip), _image_sizes(clip)
    rows = {"pairs": PAIRS} if pairs else {**image.rows, **text.rows}
    return Sizes(
        rows=rows,
        positions={**text.positions, **image.positions},
        widths={**text.widths, **image.widths},
        heads={**text.heads, **image.heads},
        layers={**text.layers, **image.layers},
    )


def described(value: Any, clip: Clip, sizes: Sizes) -> dict[str, str]:
    """Describe a value and everything in it, by path: "" for itself, below it such as ".a[0]"."""
    return dict(_walk("", value, clip, sizes))


def _text_sizes(clip: Clip) -> Sizes:
    text = clip.config.text
    return Sizes(
        rows={"texts": TEXTS},
        positions={"tokens": clip.batch.input_ids.shape[1]},
        widths={"text width": text.hidden_size, "projection": clip.config.projection_dim},
        heads={"text heads": text.num_attention_heads},
        layers={"text layers": text.num_hidden_layers},
    )


def _image_sizes(clip: Clip) -> Sizes:
    vision = clip.config.vision
    return Sizes(
        rows={"images": IMAGES},
        positions={"patches + 1": (vision.image_size // vision.patch_size) ** 2 + 1},
        widths={"vision width": vision.hidden_size, "projection": clip.config.projection_dim},
        heads={"vision heads": vision.num_attention_heads},
        layers={"vision layers": vision.num_hidden_layers},
    )


def _names(size: int, names: Mapping[str, int]) -> str:
    return " = ".join(name for name, value in names.items() if value == size) or str(size)


def _walk(path: str, value: Any, clip: Clip, sizes: Sizes) -> Iterator[tuple[str, str]]:
    if hasattr(value, "detach"):
        dtype = str(value.dtype).removeprefix("torch.")
        shown = "model" if dtype == clip.dtype else dtype
        yield path, f"{type(value).__name__} {shown} {sizes.shape(tuple(value.shape))}"
    elif hasattr(value, "items"):
        yield path, f"{type(value).__name__}: {', '.join(value.keys())}"
        for key, item in value.items():
            inner = sizes_of(clip, key) if key.endswith("_model_output") else sizes
            yield from _walk(f"{path}.{key}", item, clip, inner)
    elif isinstance(value, (tuple, list)):
        yield from _walk_entries(path, value, clip, sizes)
    else:
        yield path, repr(value)


def _walk_entries(
    path: str, entries: tuple[Any, ...] | list[Any], clip: Clip, sizes: Sizes
) -> Iterator[tuple[str, str]]:
    """Describe entries; equal ones, such as hidden states, are one line with the number of layers."""
    inner = [described(entry, clip, sizes) for entry in entries]
    kind = type(entries).__name__
    if inner and all(list(entry) == [""] and entry == inner[0] for entry in inner):
        yield path, f"{kind} of {sizes.entries(len(entries))}: {inner[0]['']}"
        return
    yield path, f"{kind} of {len(entries)}"
    for position, entry in enumerate(inner):
        for below, text in entry.items():
            yield f"{path}[{position}]{below}", text
