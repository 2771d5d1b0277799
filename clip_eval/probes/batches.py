"""Deterministic batches made from a checkpoint's own config, and pictures and texts for its processor.

A batch of n rows is the first n rows of the largest batch, so that one oracle run serves every count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_eval.families.config import LEGACY_EOS_TOKEN_ID, ClipConfig, TextConfig, VisionConfig
from clip_eval.probes.images import SEED

__all__ = ["MOST_ROWS", "SEED", "Batch", "batch_of", "end_token_id", "make_batch", "resized_batch"]

MOST_ROWS = 5


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs of one forward pass.

    Attributes:
        pixel_values: (images, channels, height, width) float32, about unit variance, as after normalisation.
        input_ids: (texts, tokens) int64, padded on the right with the end token, as CLIP's tokenizer pads.
        attention_mask: (texts, tokens) int64, 1 for real tokens.
        interior_mask: (texts, tokens) int64, `attention_mask` with up to two tokens inside each text hidden. Right
            padding alone cannot show a dropped mask: causality hides the padding already.
    """

    pixel_values: NDArray[np.float32]
    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    interior_mask: NDArray[np.int64]

    def mask(self, kind: str) -> NDArray[np.int64]:
        """Return the mask of `kind`: "padding" or "interior", (texts, tokens)."""
        return {"padding": self.attention_mask, "interior": self.interior_mask}[kind]


def make_batch(config: ClipConfig, *, seed: int = SEED) -> Batch:
    """Return the largest batch for `config`: `MOST_ROWS` images and as many texts."""
    generator = np.random.Generator(np.random.PCG64(seed))
    input_ids, attention_mask = _texts(config.text, generator)
    return Batch(
        pixel_values=_images(config.vision, generator),
        input_ids=input_ids,
        attention_mask=attention_mask,
        interior_mask=_hide_interior(attention_mask),
    )


def batch_of(pixel_values: NDArray[Any], input_ids: NDArray[Any], attention_mask: NDArray[Any]) -> Batch:
    """Return the batch of a processor's arrays; for shapes and dtypes, see `Batch`."""
    mask = np.asarray(attention_mask, dtype=np.int64)  # (texts, tokens)
    pixels, ids = np.asarray(pixel_values, dtype=np.float32), np.asarray(input_ids, dtype=np.int64)
    return Batch(pixel_values=pixels, input_ids=ids, attention_mask=mask, interior_mask=_hide_interior(mask))


def resized_batch(batch: Batch, *, images: int, height: int, width: int) -> Batch:
    """Return a batch of the first `images` images, cropped to (height, width) or padded with their reflection."""
    pixel_values = batch.pixel_values[:images]  # (images, channels, side, side)
    more = [(0, max(0, new - old)) for new, old in zip((height, width), pixel_values.shape[2:], strict=True)]
    mirrored = np.pad(pixel_values, [(0, 0), (0, 0), *more], mode="symmetric")  # (images, channels, *larger)
    return replace(batch, pixel_values=mirrored[:, :, :height, :width])


def end_token_id(config: TextConfig) -> int:
    """Return the id of the end token. The legacy `eos_token_id` 2 means the largest id of the vocabulary."""
    return config.vocab_size - 1 if config.eos_token_id == LEGACY_EOS_TOKEN_ID else config.eos_token_id


def _images(config: VisionConfig, generator: np.random.Generator) -> NDArray[np.float32]:
    """Smooth waves plus noise: every patch differs from every other, as in a photograph, without an image file."""
    ramp = np.linspace(0.0, 1.0, config.image_size)  # (side,)
    y, x = np.meshgrid(ramp, ramp, indexing="ij")  # (side, side)
    shape = (MOST_ROWS, config.num_channels, 1, 1)
    waves = sum(
        np.sin(
            2 * np.pi * (generator.uniform(-4, 4, shape) * x + generator.uniform(-4, 4, shape) * y)
            + generator.uniform(0, 2 * np.pi, shape)
        )
        for _ in range(3)
    )  # (images, channels, side, side)
    noise = generator.uniform(-1, 1, (MOST_ROWS, config.num_channels, config.image_size, config.image_size))
    offset = generator.uniform(-0.5, 0.5, shape)  # images differ in mean colour too
    return np.asarray(0.7 * waves + 0.5 * noise + offset, dtype=np.float32)


def _texts(config: TextConfig, generator: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Five kinds of text that tell right pooling rules, positions and masks from wrong ones."""
    tokens = config.max_position_embeddings
    end = end_token_id(config)
    input_ids = np.full((MOST_ROWS, tokens), end, dtype=np.int64)  # (texts, tokens)
    attention_mask = np.zeros_like(input_ids)  # (texts, tokens)
    lengths = [min(tokens, max(3, part)) for part in (tokens, 3, tokens // 2, 2 * tokens // 3, tokens // 4)]
    for row, length in enumerate(lengths):
        input_ids[row, :length] = _text(config, length, generator)
        attention_mask[row, :length] = 1
    _plant_larger_id(config, input_ids[2], lengths[2])
    _plant_early_end(config, input_ids[3], lengths[3])
    return input_ids, attention_mask


def _text(config: TextConfig, length: int, generator: np.random.Generator) -> NDArray[np.int64]:
    special = {config.bos_token_id, config.eos_token_id, config.pad_token_id, end_token_id(config)}
    plain = np.array([i for i in range(min(config.vocab_size, end_token_id(config))) if i not in special] or [0])
    body = generator.choice(plain, max(length - 2, 0))  # (length - 2,)
    start = config.bos_token_id  # models do not read it, so it may be any number
    begin = start if start is not None and 0 <= start < config.vocab_size else plain[-1]
    return np.array([begin, *body, end_token_id(config)][-length:], dtype=np.int64)


def _plant_larger_id(config: TextConfig, row: NDArray[np.int64], length: int) -> None:
    """Put an added token, whose id exceeds EOS, before the EOS: pooling at the largest id is then wrong."""
    if end_token_id(config) + 1 < config.vocab_size and length > 3:
        row[length // 2] = config.vocab_size - 1


def _plant_early_end(config: TextConfig, row: NDArray[np.int64], length: int) -> None:
    """Put a second EOS inside the text: pooling takes the first one."""
    if length > 4:
        row[length - 3] = end_token_id(config)


def _hide_interior(attention_mask: NDArray[np.int64]) -> NDArray[np.int64]:
    hidden = attention_mask.copy()  # (texts, tokens)
    for row in hidden:
        length = int(row.sum())
        if length > 2:
            row[[1, length // 2]] = 0  # never position 0: a query with no key left has no defined attention
    return hidden
