"""The child process of `clip_eval.checkpoint.convert`: pickled state dicts in, one safetensors file out. Imports torch.

A small file must not take all memory. The sizes in an archive are checked before it is read, those of tensors before
they are copied, and on Linux the process may take three times the unpacked size plus 512 MiB: once for the tensors,
once for copies of tensors that share memory, once for the output.

Called as `python -m clip_eval.checkpoint._unpickle OUT PICKLE...`. On failure the last line of its output is a JSON
object with `what`, `where` and `kind` (input or output), and the exit code is 1.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import re
import sys
import zipfile
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors.torch import save_file

__all__: list[str] = []

# torch does not compress, and trained weights compress to a third at best
_MOST_UNPACKED = 4
_SPARE_BYTES = 1 << 20
_COPIES, _OTHER_BYTES = 3, 1 << 29
_FORBIDDEN = re.compile(r"GLOBAL `?([\w.]+)")


def _main(out: str, *files: str) -> None:
    _limit_memory(sum(Path(file).stat().st_size for file in files))
    unpacked_bytes = sum(map(_unpacked_bytes, files))
    _limit_memory(unpacked_bytes)
    tensors: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for file in files:
        for name, value in _loaded(file).items():
            if not isinstance(name, str) or not isinstance(value, torch.Tensor):
                _fail(f"the file is not a state dict, {name!r} is a {type(value).__name__}", file)
            if value.layout != torch.strided or value.is_quantized:
                _fail(f"the tensor {name} is sparse or quantised", file)
            if name in tensors:
                _fail(f"the tensor {name} is in two files", file)
            if value.device.type != "cpu" or value.nbytes > value.untyped_storage().nbytes():
                _fail(f"the tensor {name} has more values than are stored", file)
            tensors[name] = _own(value.detach(), seen)
    try:
        save_file(tensors, out, metadata={"format": "pt"})
    except Exception as problem:
        _fail(f"the weights cannot be written ({_first_line(problem)})", out, kind="output")


def _limit_memory(expected_bytes: int) -> None:
    """Limit this process to its present memory plus what weights of this size need."""
    with contextlib.suppress(ImportError, OSError, ValueError, StopIteration):  # not available everywhere
        import resource

        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        taken_bytes = 1024 * int(next(line for line in lines if line.startswith("VmData")).split()[1])
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = taken_bytes + _COPIES * expected_bytes + _OTHER_BYTES
        resource.setrlimit(
            resource.RLIMIT_DATA, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most)
        )


def _unpacked_bytes(file: str) -> int:
    """Size of a file's weights: the unpacked size of an archive, else its own size, as before torch 1.6."""
    size_bytes = Path(file).stat().st_size
    if not zipfile.is_zipfile(file):
        return size_bytes
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked_bytes = sum(entry.file_size for entry in archive.infolist())
    except Exception as problem:
        _fail(f"the file is a damaged archive ({_first_line(problem)})", file)
    if unpacked_bytes > _MOST_UNPACKED * size_bytes + _SPARE_BYTES:
        _fail(f"the file of {size_bytes:,} bytes would unpack to {unpacked_bytes:,}, which no weights do", file)
    return max(unpacked_bytes, size_bytes)


def _loaded(file: str) -> dict[Any, Any]:
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        forbidden = _FORBIDDEN.search(str(problem))
        _fail(
            f"the file would run {forbidden[1]} when it is read"
            if forbidden
            else "the file is not a pickle of tensors",
            file,
        )
    except Exception as problem:
        _fail(f"the file cannot be read by torch ({_first_line(problem)})", file)
    if not isinstance(loaded, dict):
        _fail(f"the file is not a state dict but a {type(loaded).__name__}", file)
    return loaded


def _own(tensor: torch.Tensor, seen: set[int]) -> torch.Tensor:
    """The tensor, contiguous, in its own memory: safetensors refuses tensors that share memory."""
    tensor = tensor.contiguous()
    start = tensor.untyped_storage().data_ptr()
    if start in seen:
        tensor = tensor.clone()
    seen.add(start)
    return tensor


def _first_line(problem: Exception) -> str:
    return (str(problem).strip() or type(problem).__name__).split("\n")[0][:200]


def _fail(what: str, where: str, *, kind: str = "input") -> NoReturn:
    print(json.dumps({"what": what, "where": where, "kind": kind}))
    raise SystemExit(1)


if __name__ == "__main__":
    _main(*sys.argv[1:])
