"""Which keys there are, at sixteen bytes a key: a set of Python would take a hundred."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["KEY_BYTES", "KeyIndex"]

KEY_BYTES = 16

_LEAST_MERGED = 65_536


class KeyIndex:
    """A growing set of keys of 16 bytes. Most of them are two sorted columns; the last ones are in a set.

    One thread adds; any may ask.
    """

    def __init__(self) -> None:
        self._sorted: NDArray[np.uint64] = np.empty((0, 2), dtype=np.uint64)  # (keys, halves), by the first half
        self._recent: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._sorted) + len(self._recent)

    def __contains__(self, key: bytes) -> bool:
        # The set is asked first, as `add` fills the columns before it empties the set.
        return key in self._recent or self._is_sorted_in(key)

    def add(self, keys: Sequence[bytes]) -> None:
        """Add keys; those that are there already count once."""
        self._recent.update(key for key in keys if not self._is_sorted_in(key))
        if len(self._recent) > max(_LEAST_MERGED, len(self._sorted) // 8):
            recent = np.array([_halves(key) for key in self._recent], dtype=np.uint64)  # (recent, 2)
            both = np.concatenate([self._sorted, recent])  # (keys, 2)
            self._sorted = both[np.argsort(both[:, 0], kind="stable")]
            self._recent = set()

    def _is_sorted_in(self, key: bytes) -> bool:
        columns = self._sorted
        first, second = _halves(key)
        place = int(np.searchsorted(columns[:, 0], np.uint64(first)))
        while place < len(columns) and int(columns[place, 0]) == first:
            if int(columns[place, 1]) == second:
                return True
            place += 1
        return False


def _halves(key: bytes) -> tuple[int, int]:
    return int.from_bytes(key[:8], "big"), int.from_bytes(key[8:], "big")
