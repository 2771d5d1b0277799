"""What lies in a store, and what a run computed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from clip_eval.embedding import pipeline as module
from clip_eval.embedding import texts as texts_module
from clip_eval.subject.launch import launched

__all__ = ["Computed", "shards", "stored"]


def shards(store: Path, kind: str = "images") -> list[Path]:
    """The shards of "images" or "texts", of all subjects, in the order of their names."""
    return sorted(store.glob(f"{kind}-*/*.parquet"), key=lambda file: file.name)


def stored(store: Path, kind: str = "images") -> dict[bytes, bytes]:
    """The bits of the features of each key, read as another program would; the first shard counts."""
    found: dict[bytes, bytes] = {}
    for shard in shards(store, kind):
        table = pq.read_table(shard)
        rows = np.array(table["embedding"].to_pylist(), dtype=np.float32)  # (rows, projection)
        for key, row in zip(table["key"].to_pylist(), rows, strict=True):
            found.setdefault(key, row.tobytes())
    return found


class Computed:
    """Counts the images and texts that go through the model from now on."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.images = self.texts = 0
        self.shapes: list[tuple[int, ...]] = []
        for place in (module, texts_module):
            patch.setattr(place, "launched", self._launched)

    def _launched(self, runtime: Any, entry: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
        for name, values in arrays.items():
            self.images += len(values) if name == "pixel_values" else 0
            self.texts += len(values) if name == "input_ids" else 0
            self.shapes += [values.shape] if name != "attention_mask" else []
        return launched(runtime, entry, arrays)

    def since(self) -> tuple[int, int]:
        """Images and texts since the last time this was asked."""
        found = self.images, self.texts
        self.images = self.texts = 0
        return found
