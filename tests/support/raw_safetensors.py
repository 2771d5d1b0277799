"""Checkpoint files changed or written by hand, sound or damaged, for tests of the reader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.checkpoint.tensor_files import read_values

__all__ = ["edit_header", "edit_json", "encode", "split", "store_as", "write_raw"]

CODES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"}


def encode(values: np.ndarray, dtype: str) -> bytes:
    """The bytes of an array in a dtype; bfloat16 must be exact."""
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(values, "<f4").view("<u4")  # the shape of values
        assert not np.any(bits & 0xFFFF)
        return (bits >> 16).astype("<u2").tobytes()
    return np.ascontiguousarray(values).astype(np.dtype(dtype).newbyteorder("<")).tobytes()


def write_raw(path: Path, header: dict[str, Any] | bytes, data: bytes, *, header_bytes: int | None = None) -> Path:
    """A file from a header and data, neither of which is checked."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if header_bytes is None else header_bytes
    path.write_bytes(length.to_bytes(8, "little") + text + data)
    return path


def split(path: Path) -> tuple[dict[str, Any], bytes]:
    """The header and the data of a sound file."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def edit_json(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file in place."""
    value = json.loads(file.read_text(encoding="utf-8"))
    change(value)
    file.write_text(json.dumps(value), encoding="utf-8")


def edit_header(directory: Path, change: Callable[[dict[str, Any]], object], *, more: bytes = b"") -> None:
    """Change the header of model.safetensors, and append to its data."""
    file = directory / "model.safetensors"
    header, data = split(file)
    change(header)
    write_raw(file, header, data + more)


def store_as(directory: Path, dtypes: Callable[[str], str]) -> None:
    """Store every tensor of model.safetensors in another dtype, rounded where needed."""
    tensors = open_checkpoint(directory).tensors
    header: dict[str, Any] = {}
    data = b""
    for name, entry in tensors.items():
        dtype = dtypes(name)
        content = encode(read_values(entry, dtype), dtype)
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": CODES[dtype], "shape": list(entry.shape), "data_offsets": offsets}
        data += content
    write_raw(directory / "model.safetensors", header, data)
