"""Runs the whole catalogue and the healthy runs, and writes the kill matrix.

One process a core, each of which keeps the references that it has computed. It takes most of an hour on two cores, so
every result is kept in `.kept/` beside the matrix as soon as it is there: a run that was stopped goes on where it was,
unless a file of the package, of the faults or of what they stand on, or the release of transformers, has changed.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import faults
import support
from faults.catalogue import FAULTS, by_id, reach
from faults.healthy import VARIANTS
from faults.watch import CHECKPOINT, Sighting, Watch

import clip_eval
from clip_eval.progress import Progress
from clip_eval.subject import transformers_release
from clip_eval.user_values import DTYPES
from clip_eval.verdict.run_record import RunRecord
from detection.matrix import Matrix, render_csv, render_markdown

__all__ = ["detect"]

_SHIPPED = {
    f"shapes-clip {dtype} {attention}": ("--clip-dtype", dtype, "--clip-attn", attention)
    for dtype in DTYPES
    for attention in ("eager", "sdpa")
}
_VARIANTS = {variant.id: variant for variant in VARIANTS}
_SOURCES = (clip_eval, faults, support)

_Found = TypeVar("_Found")


def detect(directory: Path, part: str = "") -> int:
    """Write matrix.md and matrix.csv to a directory.

    Returns 1 where a fault was missed or misplaced, a healthy run failed, or a declared deviation hides what it speaks
    of.
    """
    chosen = [fault for fault in FAULTS if fault.applies(transformers_release()) and part in fault.id]
    start = time.monotonic()
    kept = _room(directory / ".kept")
    with tempfile.TemporaryDirectory() as temporary, _pool(temporary, kept) as pool:
        healthy = [*_SHIPPED, *_VARIANTS]
        records = pool.map(_healthy, healthy)
        seen = pool.map(_sighted, [fault.id for fault in chosen])
        runs = dict(zip(healthy, _shown(records, len(healthy), "healthy runs"), strict=True))
        shown = _shown(seen, len(chosen), "faults")
        sightings = [Sighting(fault, *found) for fault, found in zip(chosen, shown, strict=True)]
    matrix = Matrix(sightings, runs)
    text = render_markdown(matrix)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "matrix.md").write_text(text, encoding="utf-8")
    (directory / "matrix.csv").write_text(render_csv(matrix), encoding="utf-8")
    print(text.partition("| fault | what")[0])
    print(f"{time.monotonic() - start:.0f} s")
    whole = len(matrix.killed) == len(matrix.sightings) and len(matrix.placed) == len(matrix.numerical)
    return int(not whole or bool(matrix.alarms) or not all(matrix.seen_under.values()))


def _room(directory: Path) -> Path:
    """The folder of what these sources give; those of others are removed."""
    digest = hashlib.sha256(str(transformers_release()).encode())
    for package in _SOURCES:
        root = Path(next(iter(package.__path__)))
        for file in sorted(root.rglob("*.py")):
            digest.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
    room = directory / digest.hexdigest()[:16]
    for other in directory.glob("*") if directory.is_dir() else ():
        if other != room:
            shutil.rmtree(other)
    room.mkdir(parents=True, exist_ok=True)
    return room


def _pool(directory: str, kept: Path) -> ProcessPoolExecutor:
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    arguments = (directory, str(kept.absolute()))
    return ProcessPoolExecutor(os.cpu_count(), mp_context=context, initializer=_begin, initargs=arguments)


def _shown(results: Iterable[Any], total: int, what: str) -> Iterator[Any]:
    progress = Progress(what, total)
    for result in results:
        progress.step()
        yield result
    progress.close()


def _begin(directory: str, kept: str) -> None:
    os.environ["CLIP_EVAL_FAULTS"] = tempfile.mkdtemp(dir=directory)
    os.environ["CLIP_EVAL_KEPT"] = kept


def _kept(name: str, compute: Callable[[str], _Found]) -> _Found:
    """What a run has written here before, or the result, which is written whole."""
    file = Path(os.environ["CLIP_EVAL_KEPT"]) / f"{name}.pickle"
    if file.exists():
        found: _Found = pickle.loads(file.read_bytes())
        return found
    found = compute(name)
    part = file.with_suffix(".part")
    part.write_bytes(pickle.dumps(found))
    part.replace(file)
    return found


@cache
def _watch() -> Watch:
    return Watch(Path(os.environ["CLIP_EVAL_FAULTS"]))


def _sighted(identity: str) -> tuple[RunRecord, int, frozenset[str]]:
    return _kept(identity, _sight)


def _healthy(name: str) -> RunRecord:
    return _kept(name, _run)


def _sight(identity: str) -> tuple[RunRecord, int, frozenset[str]]:
    """A sighting without its fault, which does not travel between processes."""
    fault = by_id(identity)
    sighting = _watch().sight(fault, reach(fault))
    return sighting.record, sighting.exit_code, sighting.parts


def _run(name: str) -> RunRecord:
    """The record of a healthy run."""
    watch = _watch()
    if name in _SHIPPED:
        return watch.runner.run(CHECKPOINT, *_SHIPPED[name]).record
    checkpoint = watch.directory / "healthy" / name
    _VARIANTS[name].make(checkpoint)
    return watch.runner.run(checkpoint, *_VARIANTS[name].options).record
