"""Convert a checkpoint from pickles to safetensors without running code from the pickles.

torch's weights-only loader reads the pickles in a child process that runs `_unpickle`: this process does not import
torch, and survives whatever a hostile file does to the loader.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

from clip_eval.checkpoint.checkpoint import (
    Checkpoint,
    local_directory,
    open_checkpoint,
    read_config,
)
from clip_eval.checkpoint.hub import TEXT_FILES
from clip_eval.checkpoint.inventory import check_inventory, config_held, held_by, prefixed
from clip_eval.checkpoint.tensor_files import read_header
from clip_eval.checkpoint.weight_files import shard_file, shard_places
from clip_eval.errors import CheckpointError, OutputError
from clip_eval.files.read_write import new_directory
from clip_eval.files.untrusted import read_bytes
from clip_eval.processes import clean_environment
from clip_eval.progress import Progress

__all__ = ["convert"]

_MB, _LONG_BYTES, _LOOK_S = 10**6, 10**8, 0.5


def convert(source: Path, out: Path) -> Checkpoint:
    """Write a checkpoint with the config, tokenizer, image processor and exact weights of `source`.

    Args:
        source: directory with config.json and pytorch_model.bin, or its shards and their index.
        out: new or empty directory. It is created only when everything is written.

    Returns:
        The new checkpoint, opened.

    Raises:
        CheckpointError: `source` is not a CLIP, has nothing to convert, has more than tensors, or unpacks to more than
            its size explains.
        OutputError: `out` is not empty, or cannot be written.
    """
    source = local_directory(source)
    config = read_config(source)
    pickles = _pickles(source)
    with new_directory(out) as temporary:
        weights = temporary / "model.safetensors"
        _unpickle(pickles, weights)
        stored = read_header(weights)
        named = {name: dataclasses.replace(entry, file=pickles[0]) for name, entry in stored.items()}
        raw, family = config.raw, config.family
        named = dict(prefixed(named, raw, family=family))
        holding = held_by(named, raw, family=family, where=source)
        held = config_held(raw, holding, family=family, where=source)
        check_inventory(named, held, raw, holding, family=family, where=source)
        for name in TEXT_FILES:
            if (source / name).is_file():
                _copy(source / name, temporary / name)
    return open_checkpoint(out)


def _pickles(source: Path) -> list[Path]:
    if any(source.glob("model*.safetensors")):
        raise CheckpointError("the checkpoint is in safetensors already", where=source, fix="Use it as it is")
    if (source / "pytorch_model.bin").is_file():
        return [source / "pytorch_model.bin"]
    index_file = source / "pytorch_model.bin.index.json"
    if not index_file.is_file():
        raise CheckpointError(
            "the checkpoint has no pytorch_model.bin", where=source, fix="Name a directory that has one"
        )
    return [shard_file(index_file, name) for name in sorted(set(shard_places(index_file).values()))]


def _unpickle(pickles: list[Path], weights: Path) -> None:
    """Run the child, in an empty directory, so that it cannot import modules from there."""
    command = [sys.executable, "-m", "clip_eval.checkpoint._unpickle", str(weights), *map(str, pickles)]
    child = _followed(command, weights, total_bytes=sum(file.stat().st_size for file in pickles))
    if child.returncode == 0:
        return
    try:
        problem = json.loads(child.stdout.decode().splitlines()[-1])
        what, where, kind = problem["what"], problem["where"], problem["kind"]
    except (IndexError, KeyError, TypeError, ValueError):
        raise CheckpointError(
            f"the process that reads the weights ended with {child.returncode}: {_last_line(child.stderr)}",
            where=pickles[0],
            fix="Check that there is memory for the weights, and copy the file again",
        ) from None
    if kind == "output":
        raise OutputError(what, where=where, fix="Name another place")
    raise CheckpointError(what, where=where, fix="Get the weights again, as safetensors if there are any")


def _followed(command: list[str], weights: Path, *, total_bytes: int) -> subprocess.CompletedProcess[bytes]:
    """Run the child and report how much of the weights it has written, if that takes a while."""
    shown = Progress(f"MB of {weights.name}", total_bytes // _MB) if total_bytes > _LONG_BYTES else None
    with subprocess.Popen(
        command, cwd=weights.parent, env=_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:  # fmt: skip
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    output, errors = child.communicate(timeout=_LOOK_S)
                    return subprocess.CompletedProcess(command, child.returncode, output, errors)
                if shown is not None:
                    written = weights.stat().st_size if weights.exists() else 0
                    shown.doing("writing" if written else "reading")
                    shown.reach(written // _MB)
        finally:
            child.kill()
            if shown is not None:
                shown.close()


def _environment() -> dict[str, str]:
    """The environment with an absolute import path, and without settings that change Python's behaviour."""
    here = Path(__file__).parent.parent
    entries = [*filter(None, sys.path), str(here)]
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in entries)
    return {**clean_environment(), "PYTHONPATH": path}


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").split("\n")
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "no message")


def _copy(source: Path, target: Path) -> None:
    try:
        content = read_bytes(source)
    except OSError as problem:
        raise CheckpointError(f"the file cannot be read ({problem.strerror})", where=source) from problem
    target.write_bytes(content)
