"""The child process of `clip_eval.convert`: pickled state dicts in, one safetensors file out. Imports torch.

Called as `python -m clip_eval._unpickle OUT PICKLE...`. On failure the last line of its output is a JSON object with
`what`, `where` and `kind` (input or output), and the exit code is 1.
"""

from __future__ import annotations

import json
import pickle
import re
import sys
from typing import Any, NoReturn

import torch
from safetensors.torch import save_file

__all__: list[str] = []

_FORBIDDEN = re.compile(r"GLOBAL `?([\w.]+)")


def _main(out: str, *files: str) -> None:
    tensors: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for file in files:
        for name, value in _loaded(file).items():
            if not isinstance(name, str) or not isinstance(value, torch.Tensor):
                _fail(f"the file is no state dict, {name!r} is a {type(value).__name__}", file)
            if value.layout != torch.strided or value.is_quantized:
                _fail(f"the tensor {name} is sparse or quantised", file)
            if name in tensors:
                _fail(f"the tensor {name} is in two files", file)
            tensors[name] = _own(value.detach(), seen)
    try:
        save_file(tensors, out, metadata={"format": "pt"})
    except Exception as problem:
        _fail(f"the weights cannot be written ({_first_line(problem)})", out, kind="output")


def _loaded(file: str) -> dict[Any, Any]:
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        found = _FORBIDDEN.search(str(problem))
        _fail(f"the file would run {found[1]} when it is read" if found else "the file is no pickle of tensors", file)
    except Exception as problem:
        _fail(f"the file cannot be read by torch ({_first_line(problem)})", file)
    if not isinstance(loaded, dict):
        _fail(f"the file is no state dict but a {type(loaded).__name__}", file)
    return loaded


def _own(tensor: torch.Tensor, seen: set[int]) -> torch.Tensor:
    """The tensor, contiguous, in memory of its own: safetensors refuses tensors that share any."""
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
