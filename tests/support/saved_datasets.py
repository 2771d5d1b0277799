"""Directories as `save_to_disk` of Hugging Face `datasets` writes them, made with pyarrow alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from support.datasets import COLOURS
from support.shards import image_bytes

__all__ = ["IMAGE", "coloured", "write_arrow", "write_saved"]

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write_arrow(file: Path, columns: Mapping[str, pa.Array], *, rows: int = 2) -> None:
    """Write an Arrow stream in record batches of a few rows."""
    table = pa.table(dict(columns))
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)


def write_saved(root: Path, columns: Sequence[Mapping[str, pa.Array]] | None = None) -> Path:
    """Write one Arrow file for each of `columns`, by default two of three coloured images; returns `root`."""
    root.mkdir(parents=True, exist_ok=True)
    names = [f"data-{number:05d}-of-00002.arrow" for number in range(2 if columns is None else len(columns))]
    for number, name in enumerate(names):
        write_arrow(root / name, coloured(3 * number) if columns is None else columns[number])
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(COLOURS), "_type": "ClassLabel"},
        "caption": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
    }
    _write_json(root / "dataset_info.json", {"citation": "", "features": features})
    _write_json(root / "state.json", {"_data_files": [{"filename": name} for name in names], "_split": None})
    return root


def coloured(start: int) -> dict[str, pa.Array]:
    """Three images with their labels and captions."""
    images = [{"bytes": image_bytes(colour, "png"), "path": f"{start}.png"} for colour in COLOURS]
    captions = [[f"a {colour} one, number {start}", colour] for colour in COLOURS]
    return {
        "image": pa.array(images, IMAGE),
        "label": pa.array(range(3), pa.int64()),
        "caption": pa.array(captions, pa.list_(pa.string())),
    }


def _write_json(file: Path, value: object) -> None:
    file.write_text(json.dumps(value), encoding="utf-8")
