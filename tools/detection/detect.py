"""Runs the whole catalogue and the healthy runs, and writes the kill matrix.

One process a core, each of which keeps the references that it has computed.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from faults.catalogue import FAULTS, by_id, reach
from faults.healthy import VARIANTS
from faults.watch import CHECKPOINT, Sighting, Watch

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


def detect(directory: Path, part: str = "") -> int:
    """Write matrix.md and matrix.csv to a directory.

    Returns 1 where a fault was missed or misplaced, a healthy run failed, or a declared deviation hides what it speaks
    of.
    """
    faults = [fault for fault in FAULTS if fault.applies(transformers_release()) and part in fault.id]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary, _pool(temporary) as pool:
        healthy = [*_SHIPPED, *_VARIANTS]
        records = pool.map(_healthy, healthy)
        seen = pool.map(_sighted, [fault.id for fault in faults])
        runs = dict(zip(healthy, _shown(records, len(healthy), "healthy runs"), strict=True))
        shown = _shown(seen, len(faults), "faults")
        sightings = [Sighting(fault, *found) for fault, found in zip(faults, shown, strict=True)]
    matrix = Matrix(sightings, runs)
    text = render_markdown(matrix)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "matrix.md").write_text(text, encoding="utf-8")
    (directory / "matrix.csv").write_text(render_csv(matrix), encoding="utf-8")
    print(text.partition("| fault | what")[0])
    print(f"{time.monotonic() - start:.0f} s")
    whole = len(matrix.killed) == len(matrix.sightings) and len(matrix.placed) == len(matrix.numerical)
    return int(not whole or bool(matrix.alarms) or not all(matrix.seen_under.values()))


def _pool(directory: str) -> ProcessPoolExecutor:
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(os.cpu_count(), mp_context=context, initializer=_begin, initargs=(directory,))


def _shown(results: Iterable[Any], total: int, what: str) -> Iterator[Any]:
    progress = Progress(what, total)
    for result in results:
        progress.step()
        yield result
    progress.close()


def _begin(directory: str) -> None:
    os.environ["CLIP_EVAL_FAULTS"] = tempfile.mkdtemp(dir=directory)


@cache
def _watch() -> Watch:
    return Watch(Path(os.environ["CLIP_EVAL_FAULTS"]))


def _sighted(identity: str) -> tuple[RunRecord, int, frozenset[str]]:
    """A sighting without its fault, which does not travel between processes."""
    fault = by_id(identity)
    sighting = _watch().sight(fault, reach(fault))
    return sighting.record, sighting.exit_code, sighting.parts


def _healthy(name: str) -> RunRecord:
    watch = _watch()
    if name in _SHIPPED:
        return watch.runner.run(CHECKPOINT, *_SHIPPED[name]).record
    checkpoint = watch.directory / "healthy" / name
    _VARIANTS[name].make(checkpoint)
    return watch.runner.run(checkpoint, *_VARIANTS[name].options).record
