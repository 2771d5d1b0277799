"""Inputs of a tiny model of 8 tokens and 8 positions: valid ones, and malformed ones by what is wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["ALONE", "FIRST_ROW", "IDS", "MASK", "odd_ids", "odd_masks", "odd_pixels", "out_of_range"]

IDS = np.array([[5, 1, 3, 4, 6, 6, 6, 6], [5, 2, 6, 6, 6, 6, 6, 6], [5, 7, 3, 6, 1, 6, 6, 6]])  # (texts, tokens)
MASK = np.array([[1, 0, 1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0, 0]])  # (texts, tokens)
FIRST_ROW = np.repeat(MASK[:1], len(MASK), axis=0)  # (texts, tokens)
ALONE = np.broadcast_to(np.arange(MASK.shape[1]) == 0, MASK.shape).astype(np.int64)  # (texts, tokens), the first token


def odd_ids() -> dict[str, Any]:
    """Return input_ids that are not a (texts, tokens) int64 array of at most 8 tokens, or are a borderline case of
    one.
    """
    return {
        "None": None,
        "too long": np.concatenate([IDS, IDS[:, :1]], axis=1),
        "one text without a batch": IDS[0],
        "a batch of batches": IDS[None],
        "no texts": IDS[:0],
        "no tokens": IDS[:, :0],
        "a list": IDS.tolist(),
        **{dtype: IDS.astype(dtype) for dtype in ("int32", "int16", "uint8", "float32", "bool")},
    }


def out_of_range() -> dict[str, Any]:
    """Return input_ids without a token. On an accelerator they end the process."""
    return {"below 0": IDS - 6, "beyond the vocabulary": IDS + 2}


def odd_pixels(pixels: Any) -> dict[str, Any]:
    """Return pixel_values that are not an (images, channels, side, side) float32 tensor.

    Args:
        pixels: valid ones.
    """
    return {
        "None": None,
        "larger": pixels.repeat(1, 1, 2, 2),
        "a channel less": pixels[:, :-1],
        "one image without a batch": pixels[0],
        "a batch of batches": pixels[None],
        "no images": pixels[:0],
        "less than a patch": pixels[:, :, :-1, :-1],
        "float64": pixels.double(),
        "a list": pixels.tolist(),
    }


def odd_masks() -> dict[str, Any]:
    """Return masks that are not a (texts, tokens) int64 array of zeros and ones."""
    causal = np.tril(np.ones((8, 8), dtype=bool)) & (MASK[:, None, None, :] == 1)  # (texts, 1, query, key)
    return {
        "a token less": MASK[:, :-1],
        "a token less, of ones": np.ones_like(MASK)[:, :-1],
        "a token more": np.concatenate([MASK, MASK[:, :1]], axis=1),
        "a text less": MASK[:-1],
        "one row": MASK[:1],
        "one column": MASK[:, :1],
        "more rows": np.concatenate([MASK, MASK]),
        "one axis": MASK[0],
        "three axes": MASK[:, None],
        "four axes, bool": causal,
        "four axes, additive": np.where(causal, 0.0, -1e4).astype(np.float32),
        "of twos": 2 * MASK,
        "of minus ones": -MASK,
        "a list": MASK.tolist(),
        **{dtype: MASK.astype(dtype) for dtype in ("bool", "uint8", "int32", "float32", "float64")},
    }
