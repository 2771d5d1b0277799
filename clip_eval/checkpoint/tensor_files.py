"""Read safetensors files without torch: checked headers, values by name, rounding to a dtype.

The format is that of https://huggingface.co/docs/safetensors: eight bytes of header length, a JSON header, then the
data without gaps. Everything that can be wrong in a damaged file is checked when the header is read.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

import numpy as np
from numpy.typing import NDArray

from clip_eval.checkpoint.dtypes import CODES, NUMPY_DTYPES, ROUNDED_DTYPES, round_values
from clip_eval.errors import CheckpointError, UsageError
from clip_eval.files.untrusted import SMALL_BYTES, complaint, opened, parse_json, shown

__all__ = ["TensorEntry", "Weights", "header_bytes", "read_header", "read_values", "value_chunks"]


_BITS_BY_CODE = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
    "C64": 64,
}  # fmt: skip
_FLOATS_BY_CODE = {code: dtype for dtype, code in CODES.items()}

# A real CLIP's header is below 100 kB; one of 100 MB, which the reference implementation allows, takes a minute.
_MAX_HEADER_BYTES = SMALL_BYTES
# NumPy's own limits.
_MOST_AXES, _MOST_VALUES = 32, 1 << 62
_CHUNK_VALUES = 1 << 18  # more would fall out of the cache between reading and hashing
_COPY_AGAIN = "Copy or download the file again"


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor's place in a file.

    Attributes:
        stored_name: its name in the file.
        file: the safetensors file.
        dtype: bfloat16, float16, float32 or float64; other dtypes by the format's own code, such as I64.
        shape: its shape; () for a scalar.
        offset_bytes: of its data, from the start of the file.
        size_bytes: of its data.
    """

    stored_name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset_bytes: int
    size_bytes: int


class Weights(Mapping[str, NDArray[np.float64]]):
    """Tensors by canonical name, read on access, rounded to one dtype, in float64. Arrays are read-only.

    Args:
        entries: by canonical name.
        dtype: one of `ROUNDED_DTYPES`, or float64 for the values as they are stored.
        keep_bytes: keep the first arrays read in memory, up to this many bytes in all.
    """

    def __init__(self, entries: Mapping[str, TensorEntry], dtype: str, *, keep_bytes: int) -> None:
        if dtype not in NUMPY_DTYPES:
            raise UsageError(f"weights cannot be rounded to {dtype}", fix=f"Use {', '.join(ROUNDED_DTYPES)} or float64")
        self.dtype = dtype
        self._entries = entries
        self._left_bytes = keep_bytes
        self._kept: dict[str, NDArray[np.float64]] = {}

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        if name in self._kept:
            return self._kept[name]
        values = read_values(self._entries[name], self.dtype)  # the tensor's shape
        if values.nbytes <= self._left_bytes:
            self._left_bytes -= values.nbytes
            self._kept[name] = values
        return values

    def __contains__(self, name: object) -> bool:
        return name in self._entries  # a Mapping would read the tensor to find out

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def read_values(entry: TensorEntry, dtype: str) -> NDArray[np.float64]:
    """The tensor's values rounded to `dtype`, in its shape, float64, read-only.

    Args:
        entry: a tensor of floating dtype.
        dtype: one of `ROUNDED_DTYPES`, or float64 for the values as they are stored.
    """
    flat = np.empty(math.prod(entry.shape), dtype=np.float64)  # (values,)
    holds_all = dtype in ("float64", entry.dtype) or (dtype == "float32" and entry.dtype != "float64")
    start = 0
    for chunk in _stored_chunks(entry) if holds_all else value_chunks(entry):
        with np.errstate(invalid="ignore"):  # as in `value_chunks`
            flat[start : start + len(chunk)] = chunk if holds_all else round_values(chunk, dtype)
        start += len(chunk)
    values = flat.reshape(entry.shape)  # the tensor's shape
    values.flags.writeable = False
    return values


def value_chunks(entry: TensorEntry) -> Iterator[NDArray[np.float32] | NDArray[np.float64]]:
    """The tensor's values in order, 262,144 at a time, flat: float64 if so stored, else float32 (exact).

    Raises:
        CheckpointError: the dtype is not bfloat16, float16, float32 or float64, or the file has changed.
    """
    held = np.float64 if entry.dtype == "float64" else np.float32
    for chunk in _stored_chunks(entry):
        with np.errstate(invalid="ignore"):  # NumPy warns of some NaN, which checks report
            values: NDArray[Any] = chunk.astype(held, copy=False)  # (chunk,)
        yield values


def _stored_chunks(entry: TensorEntry) -> Iterator[NDArray[Any]]:
    """The same as they are stored; raises as `value_chunks` does."""
    if entry.dtype not in NUMPY_DTYPES:
        raise CheckpointError(f"the tensor {entry.stored_name} is stored as {entry.dtype}", where=entry.file)
    if not entry.size_bytes:
        return
    stored = NUMPY_DTYPES[entry.dtype]
    for raw in _parts(entry, _CHUNK_VALUES * stored.itemsize):
        yield raw.view(stored)  # (chunk,)


def header_bytes(tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> bytes:
    """What stands before the data of a safetensors file: the header's length, and the header.

    Args:
        tensors: name, dtype and shape of each, in the order of their data.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, dtype, shape in tensors:
        begin, end = end, end + math.prod(shape) * NUMPY_DTYPES[dtype].itemsize
        header[name] = {"dtype": CODES[dtype], "shape": shape, "data_offsets": (begin, end)}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


def _parts(entry: TensorEntry, step_bytes: int) -> Iterator[NDArray[np.uint8]]:
    """The tensor's bytes in order, (bytes,), each part of `step_bytes` but the last one."""
    try:
        with opened(entry.file) as file:
            file.seek(entry.offset_bytes)
            for begin in range(0, entry.size_bytes, step_bytes):
                part = np.empty(min(step_bytes, entry.size_bytes - begin), dtype=np.uint8)  # (bytes,)
                if file.readinto(part) != len(part):  # type: ignore[attr-defined] # of every buffered reader
                    _damaged(f"it ends within {entry.stored_name}, which it held when it was opened", entry.file)
                yield part
    except OSError as problem:
        raise CheckpointError(f"the file cannot be read ({problem.strerror})", where=entry.file) from problem


def read_header(file: Path) -> dict[str, TensorEntry]:
    """Every tensor of a safetensors file by its stored name.

    Raises:
        CheckpointError: the file is damaged, truncated, or not safetensors; the message says what is wrong in it.
    """
    try:
        with opened(file) as handle:
            size_bytes = os.fstat(handle.fileno()).st_size
            start = handle.read(8)
            header_bytes = _header_bytes(start, size_bytes, file)
            header = handle.read(header_bytes)
    except OSError as problem:
        raise CheckpointError(f"the file cannot be read ({problem.strerror})", where=file) from problem
    entries = [_entry(name, value, 8 + header_bytes, file) for name, value in _parsed(header, file).items()]
    _check_layout(entries, 8 + header_bytes, size_bytes, file)
    return {entry.stored_name: entry for entry in entries}


def _damaged(what: str, file: Path) -> NoReturn:
    raise CheckpointError(f"the safetensors file is damaged, {what}", where=file, fix=_COPY_AGAIN)


def _header_bytes(start: bytes, size_bytes: int, file: Path) -> int:
    if start == b"version ":
        raise CheckpointError("the file is a Git LFS pointer, not the weights", where=file, fix="Run git lfs pull")
    if len(start) < 8:
        _damaged(f"it is only {size_bytes} bytes long", file)
    header_bytes = int.from_bytes(start, "little")
    if header_bytes > size_bytes - 8:
        _damaged(f"its header would take {header_bytes} bytes in a file of {size_bytes}", file)
    if header_bytes > _MAX_HEADER_BYTES:
        _damaged(f"its header takes {header_bytes:,} bytes, and {_MAX_HEADER_BYTES:,} are the most", file)
    return header_bytes


def _parsed(header: bytes, file: Path) -> dict[str, object]:
    try:
        value = parse_json(header.decode(), own=True)
    except ValueError as problem:
        _damaged(f"its header {complaint(problem, 'JSON')}", file)
    if not isinstance(value, dict):
        _damaged("its header is not a JSON object", file)
    value.pop("__metadata__", None)
    return value


def _entry(name: str, value: object, data_start: int, file: Path) -> TensorEntry:
    fields = value if isinstance(value, dict) else {}
    dtype, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _BITS_BY_CODE:
        _damaged(f"the tensor {name} has the unknown dtype {dtype if isinstance(dtype, str) else shown(dtype)}", file)
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2 or len(shape) > _MOST_AXES:
        _damaged(f"the tensor {name} has no valid shape and data_offsets", file)
    begin, end = offsets
    if math.prod(shape) * _BITS_BY_CODE[dtype] != 8 * (end - begin):
        _damaged(f"the tensor {name} of shape {tuple(shape)} and dtype {dtype} has {end - begin} bytes of data", file)
    return TensorEntry(name, file, _FLOATS_BY_CODE.get(dtype, dtype), tuple(shape), data_start + begin, end - begin)


def _are_counts(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < _MOST_VALUES for item in value)


def _check_layout(entries: list[TensorEntry], data_start: int, size_bytes: int, file: Path) -> None:
    """Data must be contiguous, without overlap, and fill the file: a truncated copy is found here."""
    reached = data_start
    for entry in sorted(entries, key=lambda entry: (entry.offset_bytes, entry.size_bytes)):
        if entry.offset_bytes != reached:
            relation = "overlap those of another tensor" if entry.offset_bytes < reached else "leave a gap before them"
            _damaged(f"the data of {entry.stored_name} {relation}", file)
        reached += entry.size_bytes
    if size_bytes < reached:
        what = f"the safetensors file is truncated, it has {size_bytes} bytes of {reached}"
        raise CheckpointError(what, where=file, fix=_COPY_AGAIN)
    if size_bytes > reached:
        _damaged(f"{size_bytes - reached} bytes follow the last tensor", file)
