"""The derivative of the reference's logits along a random direction in weight space, which gradients must agree with.

It comes from central differences of the float64 reference and shares nothing with the subject's backward pass. Each
weight is moved by a random sign times the root mean square of its tensor, so every weight counts.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from clip_eval.families.config import ClipConfig
from clip_eval.families.family import Network
from clip_eval.families.reference.encoder import TowerStates
from clip_eval.probes.batches import Batch

__all__ = ["direction", "logit_factors", "slope"]

Array = NDArray[np.float64]

_STEP = 2.0**-13
"""The two steps are this and twice this. Extrapolation leaves an error of fourth order, 2e-16 times the fifth
derivative; cancellation in float64 costs about 1e-12. Both are far below float32's roundoff of 6e-8.
"""

_SMALLEST_MOVE = 0.01
"""Step size for a tensor of zeros, such as a bias; any size not far below the others would do."""


class _Moved(Mapping[str, Array]):
    """Weights moved by `step` along the direction; a tensor is moved when it is read.

    `sizes` keeps how far each moves, for all steps.
    """

    def __init__(self, weights: Mapping[str, Array], step: float, sizes: dict[str, float]) -> None:
        self._weights, self._step, self._sizes = weights, step, sizes

    def __getitem__(self, name: str) -> Array:
        values = self._weights[name]  # the tensor's shape
        if name not in self._sizes:
            self._sizes[name] = _size(values)
        moved = _signed(name, values.shape, self._step * self._sizes[name])  # the tensor's shape
        moved += values
        return moved

    def __contains__(self, name: object) -> bool:
        return name in self._weights  # a Mapping would move the tensor to find out

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def direction(name: str, values: Array) -> Array:
    """Return how tensor `name` moves: random signs, the same in every process, times its root mean square."""
    return _signed(name, values.shape, _size(values))


def _size(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) or _SMALLEST_MOVE


def _signed(name: str, shape: tuple[int, ...], size: float) -> Array:
    """A number with the random signs of tensor `name`."""
    count = math.prod(shape)
    bits = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).bytes(count // 8 + 1)
    signs = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=count).view(np.int8)  # (values,)
    signs *= 2
    signs -= 1
    return np.asarray(signs * size).reshape(shape)


def logit_factors(texts: int, images: int) -> Array:
    """Return the factors of logits_per_text in the sum whose derivative is taken, (texts, images): all differ.

    Of a tower alone, the same of its embeddings (rows, channels).
    """
    return np.linspace(-1.0, 1.5, texts * images).reshape(texts, images)


def slope(
    network: Network, weights: Mapping[str, Array], config: ClipConfig, batch: Batch, *, towers: tuple[str, ...]
) -> float:
    """Return the derivative, along the direction, of the sum of logits_per_text times `logit_factors`.

    Of a tower alone, that of its projected pooled states, or of the pooled ones without projection.

    Args:
        network: the reference of the checkpoint's family.
        weights: canonical name -> float64 array.
        config: the checkpoint's config.
        batch: the inputs; the attention mask is that of the padding.
        towers: those that there are, of "text" and "vision".
    """
    sizes: dict[str, float] = {}
    near, far = (
        (
            _combined(network, _Moved(weights, step, sizes), config, batch, towers)
            - _combined(network, _Moved(weights, -step, sizes), config, batch, towers)
        )
        / (2 * step)
        for step in (_STEP, 2 * _STEP)
    )
    return (4 * near - far) / 3  # Richardson extrapolation: the second-order error cancels


def _combined(
    network: Network, weights: Mapping[str, Array], config: ClipConfig, batch: Batch, towers: tuple[str, ...]
) -> float:
    states = {
        "text": lambda: network.text_tower(weights, config.text, batch.input_ids, batch.attention_mask),
        "vision": lambda: network.vision_tower(weights, config.vision, batch.pixel_values.astype(np.float64)),
    }
    pooled = [_pooled(states[tower]()) for tower in towers]  # of each tower (rows, channels)
    values = network.head(weights, *pooled).logits_per_text if len(pooled) == 2 else pooled[0]
    return float((values * logit_factors(*values.shape)).sum())


def _pooled(states: TowerStates) -> Array:
    return states.pooler_output if states.projected is None else states.projected
