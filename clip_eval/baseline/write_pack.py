"""Write packs: sorted text that is easy to review, and files written whole or not at all."""

from __future__ import annotations

import gzip
import hashlib
import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from clip_eval.baseline.pack import SCHEMA_VERSION, Approved, Environment, Pack, PackedTask
from clip_eval.files.read_write import new_directory, write_bytes
from clip_eval.throughput.ratio import Speed
from clip_eval.verdict.plain_values import plain

__all__ = [
    "MANIFEST",
    "PACKED_TASKS",
    "RECORD",
    "SPEEDS",
    "TASKS",
    "TASK_KEYS",
    "add_environment",
    "add_speed",
    "record_arrays",
    "task_text",
    "write_pack",
]

MANIFEST = "pack.json"
RECORD = "record.safetensors"
TASKS = "tasks.json"
PACKED_TASKS = "tasks.json.gz"
"""The same where it is large: the levels of 20 tags in 5,000 images are 100,000 numbers."""
SPEEDS = "throughput.json"
_LARGE_BYTES = 500_000
TASK_KEYS = {"dataset", "samples", "scores"}


def write_pack(directory: Path, pack: Pack) -> None:
    """Write a new pack.

    Raises:
        OutputError: the directory exists and is not empty, or cannot be written.
    """
    files = _files(pack)
    manifest = _manifest(pack, files)
    with new_directory(directory) as target:
        for name, data in files.items():
            (target / name).write_bytes(data)
        (target / MANIFEST).write_bytes(manifest)


def add_environment(directory: Path, pack: Pack, environment: Environment, approved: Approved) -> None:
    """Approve one more environment in an existing pack. The manifest is replaced last; until then nothing has changed.

    Raises:
        OutputError: a file cannot be written.
    """
    grown = replace(pack, environments={**pack.environments, environment: approved})
    files = _files(grown)
    write_bytes(directory / environment.file, files[environment.file])
    write_bytes(directory / MANIFEST, _manifest(grown, files))


def add_speed(directory: Path, pack: Pack, speed: Speed) -> None:
    """Add the approved release's speed on one more machine. The manifest is replaced last.

    Raises:
        OutputError: a file cannot be written.
    """
    grown = replace(pack, speeds=(*pack.speeds, speed))
    files = _files(grown)
    write_bytes(directory / SPEEDS, files[SPEEDS])
    write_bytes(directory / MANIFEST, _manifest(grown, files))


def record_arrays(pack: Pack) -> dict[str, NDArray[Any]]:
    """Return the numeric record by name in the file: `inputs.NAME`, `outputs.NAME` and `errors.NAME`."""
    arrays: dict[str, NDArray[Any]] = {f"inputs.{name}": value for name, value in asdict(pack.inputs).items()}
    for name, recorded in pack.outputs.items():
        arrays[f"outputs.{name}"] = recorded.value
        arrays[f"errors.{name}"] = recorded.error
    # not ascontiguousarray, which would add an axis to the scalar loss
    return {name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}


def _files(pack: Pack) -> dict[str, bytes]:
    """Every file except the manifest, by name. The same pack always gives the same bytes."""
    surfaces = {environment.file: _json(entry.surface) for environment, entry in pack.environments.items()}
    tasks = dict([_task_file(task_text(pack.tasks).encode())]) if pack.tasks else {}
    speeds = {SPEEDS: _json([asdict(speed) for speed in pack.speeds])} if pack.speeds else {}
    return {RECORD: save(record_arrays(pack)), **surfaces, **tasks, **speeds}


def _task_file(text: bytes) -> tuple[str, bytes]:
    """Name and content: a text that can be reviewed where it is small, else compressed, without a time in it."""
    return (TASKS, text) if len(text) <= _LARGE_BYTES else (PACKED_TASKS, gzip.compress(text, mtime=0))


def _json(value: object) -> bytes:
    return (json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def task_text(tasks: Mapping[str, PackedTask]) -> str:
    """Return `tasks.json`: one line a sample, in the order of the dataset, so that lines can be compared."""
    return "{\n" + ",\n".join(f"{_quoted(name)}: {_task(tasks[name])}" for name in sorted(tasks)) + "\n}\n"


def _task(task: PackedTask) -> str:
    names = sorted(task.values)
    rows: dict[str, list[float]] = {}
    for sample, *values in zip(task.samples, *(task.values[name] for name in names), strict=True):
        rows.setdefault(sample, []).extend(int(value) if value.is_integer() else value for value in values)
    lines = ",\n".join(f"{_quoted(sample)}:{_compact(row)}" for sample, row in rows.items())
    return f'{{"dataset": {_quoted(task.dataset)}, "scores": {_compact(names)}, "samples": {{\n{lines}\n}}}}'


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _compact(row: Sequence[float] | Sequence[str]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _manifest(pack: Pack, files: Mapping[str, bytes]) -> bytes:
    made_in = pack.recorded_in
    data = {
        "checkpoint": {
            "config": asdict(pack.config),
            "fingerprints": asdict(pack.fingerprints),
            "revision": pack.revision,
            **({"settings": pack.settings} if pack.settings else {}),
            "source": pack.source,
        },
        "environments": [
            {
                "attention": environment.attention,
                "provenance": entry.provenance,
                "surface": environment.file,
                "transformers": environment.transformers,
            }
            for environment, entry in sorted(pack.environments.items(), key=lambda item: _order(item[0]))
        ],
        "files": {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
            for name, content in files.items()
        },
        "record": {"attention": made_in.attention, "file": RECORD, "transformers": made_in.transformers},
        "schema_version": SCHEMA_VERSION,
        "tensors": {
            name: {**tensor.digests, "dtype": tensor.dtype, "shape": tensor.shape}
            for name, tensor in pack.tensors.items()
        },
    }
    return _text(data).encode()


def _order(environment: Environment) -> tuple[Any, str]:
    return environment.version, environment.attention


def _text(data: Mapping[str, Any]) -> str:
    """JSON, indented and sorted, but one line a tensor, so that a list of weights can be compared by lines."""
    entries = (
        f"  {json.dumps(name)}: {_rows(data[name]) if name == 'tensors' else _tree(data[name])}"
        for name in sorted(data)
    )
    return "{\n" + ",\n".join(entries) + "\n}\n"


def _tree(value: object) -> str:
    text = json.dumps(plain(value), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return textwrap.indent(text, "  ").lstrip()


def _rows(tensors: Mapping[str, Any]) -> str:
    rows = (f"    {json.dumps(name)}: {json.dumps(plain(tensors[name]), sort_keys=True)}" for name in sorted(tensors))
    return "{\n" + ",\n".join(rows) + "\n  }"
