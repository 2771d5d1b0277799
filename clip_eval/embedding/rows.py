"""Where a run keeps the features it has computed, by the key of what they were computed from: memory, or a store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clip_eval.dataset.key_index import KEY_BYTES

__all__ = ["InMemory", "Rows", "digest_of", "key_of", "text_key"]


def digest_of(content: bytes) -> bytes:
    """Return the sha256 of a file's bytes, which processors have instructions for."""
    return hashlib.sha256(content).digest()


def key_of(content: bytes) -> bytes:
    """Return the key of an image file: the first 16 bytes of its digest."""
    return digest_of(content)[:KEY_BYTES]


def text_key(text: str) -> bytes:
    """Return the key of a text: that of its UTF-8 bytes."""
    return key_of(text.encode(errors="surrogatepass"))


class Rows(Protocol):
    """Features by key."""

    def __contains__(self, key: bytes) -> bool:
        """Whether there are features of this key; any thread may ask."""

    def add(self, keys: Sequence[bytes], names: Mapping[str, Sequence[str]], features: NDArray[np.float32]) -> None:
        """Keep the features, (keys, projection), with names for people by column."""

    def settle(self) -> None:
        """Say that a run which is killed now may go on from here."""

    def flush(self) -> None:
        """Write what is not written yet."""

    def read(self, keys: Sequence[bytes]) -> NDArray[np.float32]:
        """Return the features of these keys, (keys, projection); every key is there."""


class InMemory:
    """Features in memory, for one run."""

    def __init__(self) -> None:
        self._kept: dict[bytes, NDArray[np.float32]] = {}

    def __contains__(self, key: bytes) -> bool:
        return key in self._kept

    def add(self, keys: Sequence[bytes], names: Mapping[str, Sequence[str]], features: NDArray[np.float32]) -> None:
        """Keep the features."""
        self._kept.update(zip(keys, features, strict=True))

    def settle(self) -> None:
        """Nothing of a run in memory is left when it is killed."""

    def flush(self) -> None:
        """There is nothing to write to."""

    def read(self, keys: Sequence[bytes]) -> NDArray[np.float32]:
        """Return the features, (keys, projection)."""
        return np.stack([self._kept[key] for key in keys])
