"""A tower's operations and bytes, counted from its config, and the machine's ceilings, measured in the run.

The roofline (Williams, Waterman and Patterson 2009, Communications of the ACM 52(4)): a batch takes at least as long as
its products take at the machine's rate of products, and as its bytes take at the rate of copies; the longer of both
binds. Bytes are those that every implementation must move: each weight once a batch, the inputs and the outputs. So a
share of the ceiling stays below 1, and whatever else a framework moves lowers it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Literal

from clip_eval.checkpoint.dtypes import NUMPY_DTYPES
from clip_eval.families.config import ClipConfig, TextConfig, VisionConfig
from clip_eval.families.family import Family

__all__ = ["Ceilings", "Roof", "Work", "ceilings", "copy_rate", "image_operations", "product_rate", "roof",
           "text_operations", "work"]  # fmt: skip

Seconds = Callable[[Callable[[], object]], float]
Binding = Literal["products", "copies"]

_SIDE = {"cpu": 1024, "cuda": 8192}  # a product of this side keeps the device busy for some 10 ms
_COPIED_BYTES = {"cpu": 2**28, "cuda": 2**30}  # far more than the caches hold
_REPEATS = 5
_ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class Work:
    """What one batch takes.

    Attributes:
        operations: floating-point operations, 2 for each multiply-add of a product.
        bytes: the least that must be read or written.
    """

    operations: int
    bytes: int

    def __add__(self, other: Work) -> Work:
        return Work(self.operations + other.operations, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What the machine can do.

    Attributes:
        operations_per_s: of a large square matrix product in the subject's dtype, as a linear layer computes it.
        bytes_per_s: read and written by a large copy.
    """

    operations_per_s: float
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Roof:
    """How near a batch comes to the machine's ceilings.

    Attributes:
        least_s: the fewest seconds that it can take.
        share: of the ceiling that binds, 1 being all of it.
        binds: which one does.
    """

    least_s: float
    share: float
    binds: Binding


def work(
    family: Family, config: ClipConfig, kind: str, *, rows: int, tokens: int, dtype: str, projected: bool = True
) -> Work:
    """Return what a batch takes: of "images", "texts" or "pairs" (an image and a text each, and all their logits).

    Args:
        family: of the checkpoint.
        config: of the checkpoint.
        kind: what is computed.
        rows: of the batch.
        tokens: of a text.
        dtype: of weights and activations.
        projected: whether the tower has its projection; else it gives pooled states.
    """
    if kind == "pairs":
        logits = Work(2 * rows * rows * config.projection_dim, rows * rows * NUMPY_DTYPES[dtype].itemsize)
        return sum(
            (work(family, config, one, rows=rows, tokens=tokens, dtype=dtype) for one in ("images", "texts")), logits
        )
    unit = NUMPY_DTYPES[dtype].itemsize
    tower, sizes = (family.vision, config.vision) if kind == "images" else (family.text, config.text)
    outputs = rows * (config.projection_dim if projected else sizes.hidden_size) * unit
    held = _weights(family, config, *(tower.parts if projected else tower.parts[:1]))
    if kind == "images":
        pixels = rows * config.vision.num_channels * config.vision.image_size**2 * 4  # they come in float32
        operations = image_operations(config, projected=projected)
        return Work(rows * operations, held * unit + pixels + outputs)
    # Of the table of token embeddings only the rows of the tokens that occur are read.
    table = config.text.vocab_size * config.text.hidden_size
    read = min(rows * tokens, config.text.vocab_size) * config.text.hidden_size
    weights = (held - table + read) * unit
    operations = text_operations(config, tokens, projected=projected)
    return Work(rows * operations, weights + 2 * rows * tokens * _ID_BYTES + outputs)


def roof(taken: Work, limits: Ceilings, seconds: float) -> Roof:
    """Return how near a batch that took `seconds` comes to the ceiling."""
    products_s = taken.operations / limits.operations_per_s
    copies_s = taken.bytes / limits.bytes_per_s
    least_s = max(products_s, copies_s)
    return Roof(least_s, least_s / seconds, "products" if products_s >= copies_s else "copies")


def image_operations(config: ClipConfig, *, projected: bool = True) -> int:
    """Return the floating-point operations of one image, up to its embedding or pooled state.

    Each multiply-add of a product counts as 2.
    Normalisations, activations and softmax are left out, as usual: about 1 % of a ViT-B/32.
    """
    vision = config.vision
    patches = (vision.image_size // vision.patch_size) ** 2
    kernel = vision.num_channels * vision.patch_size**2
    embedding = 2 * patches * kernel * vision.hidden_size
    return embedding + _encoder(vision, patches + 1) + projected * 2 * vision.hidden_size * config.projection_dim


def text_operations(config: ClipConfig, tokens: int, *, projected: bool = True) -> int:
    """Return the same for one text of `tokens` tokens."""
    return _encoder(config.text, tokens) + projected * 2 * config.text.hidden_size * config.projection_dim


def ceilings(dtype: str, device: str, seconds: Seconds) -> Ceilings:
    """Measure what the machine can do; for arguments, see `product_rate`."""
    return Ceilings(product_rate(dtype, device, seconds), copy_rate(device, seconds))


def product_rate(dtype: str, device: str, seconds: Seconds) -> float:
    """Return the floating-point operations a second of a square matrix product, the best of a few.

    The product is a linear layer's, whose weights are transposed: in half precision on a CPU that is up to twelve times
    as fast as the product without the transpose.

    Args:
        dtype: "float32", "bfloat16" or "float16".
        device: a torch device.
        seconds: returns the seconds that a call takes; see `clip_eval.throughput.clock`.
    """
    import torch
    from torch.nn.functional import linear

    side = _SIDE[device.partition(":")[0]]
    generator = torch.Generator(device=device).manual_seed(0)
    a, b = (
        torch.randn(side, side, generator=generator, device=device).to(getattr(torch, dtype)) for _ in range(2)
    )  # (side, side)
    linear(a, b)
    return 2 * side**3 / min(seconds(lambda: linear(a, b)) for _ in range(_REPEATS))


def copy_rate(device: str, seconds: Seconds) -> float:
    """Return the bytes a second that a copy reads and writes, the best of a few."""
    import torch

    size = _COPIED_BYTES[device.partition(":")[0]]
    source = torch.ones(size, dtype=torch.uint8, device=device)  # (bytes,)
    target = torch.empty_like(source)  # (bytes,)
    target.copy_(source)
    return 2 * size / min(seconds(lambda: target.copy_(source)) for _ in range(_REPEATS))


def _encoder(config: TextConfig | VisionConfig, tokens: int) -> int:
    """Per layer: four projections, the two products of attention, the two of the MLP."""
    width, inner = config.hidden_size, config.intermediate_size
    layer = 4 * tokens * width**2 + 2 * tokens**2 * width + 2 * tokens * width * inner
    return 2 * config.num_hidden_layers * layer


def _weights(family: Family, config: ClipConfig, *prefixes: str) -> int:
    """The number of weights whose name has one of these prefixes."""
    tensors = family.expected_tensors(config).items()
    return sum(prod(axis.size for axis in axes) for name, axes in tensors if name.startswith(prefixes))
