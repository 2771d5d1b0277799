"""Embed a whole dataset into a store, with the local engine or with Ray Data."""

from __future__ import annotations

import time
from collections.abc import Callable

from clip_eval.dataset import Dataset, open_dataset
from clip_eval.dataset.manifest import MANIFEST, Manifest
from clip_eval.embedding.fill import (
    EmbedOptions,
    Tally,
    candidate_of,
    embed_entries,
    embed_prompts,
    open_pipeline,
    prompts_of,
)
from clip_eval.errors import DatasetError, UsageError
from clip_eval.files.read_write import writable_directory
from clip_eval.files.untrusted import opened
from clip_eval.nearest import listed
from clip_eval.progress import Progress
from clip_eval.subject.availability import require_attention, require_device
from clip_eval.subject.candidate import Candidate

__all__ = ["ENGINES", "fill"]

ENGINES = ("local", "ray")

_SHOWN_EVERY_S = 0.2
_COUNTED_AT_MOST_BYTES = 2**30  # longer manifests are not counted: that takes a second a gigabyte


def fill(options: EmbedOptions, *, quiet: bool = False) -> Tally:
    """Embed what the store does not have of a dataset: images, captions, and the prompts of its classes.

    A run that is killed loses the last twenty seconds at most: the next one goes on there, and ends with the same bits.

    Args:
        options: what to embed.
        quiet: show no progress on stderr.

    Raises:
        ClipEvalError: something that was named cannot be read, written or used here, or not one image can be read.
    """
    _require(options)
    candidate = _candidate(options)
    writable_directory(options.out)
    dataset = open_dataset(options.dataset)
    total = _expected(dataset)
    progress = None if quiet else Progress(f"images of {dataset.root.name}", total, with_rate=True)
    try:
        if options.engine == "ray":
            from clip_eval.embedding.on_ray import fill_on_ray

            tally = fill_on_ray(options, dataset, total, progress)
        else:
            tally = _fill_here(options, candidate, dataset, progress)
    finally:
        if progress is not None:
            progress.close()
    if not tally.images:
        raise _nothing(dataset, tally)
    return tally


def _require(options: EmbedOptions) -> None:
    if options.engine not in ENGINES:
        raise UsageError(f"there is no engine {options.engine!r}", fix=listed(options.engine, ENGINES))
    if options.address is not None and options.engine != "ray":
        raise UsageError("--address names a Ray cluster, and the engine is local", fix="Add --engine ray")
    if options.engine == "local":
        require_device(options.device)
    if options.attention is not None:
        require_attention(options.attention)


def _candidate(options: EmbedOptions) -> Candidate:
    candidate = candidate_of(options, options.device)
    candidate.checkpoint  # noqa: B018 - raises before anything is written
    return candidate


def _fill_here(options: EmbedOptions, candidate: Candidate, dataset: Dataset, progress: Progress | None) -> Tally:
    pipeline = open_pipeline(options, candidate, workers=options.workers)
    tally = embed_prompts(pipeline, dataset)
    tally.add(embed_entries(pipeline, dataset.entries(), _shown(progress), prompts=prompts_of(dataset)))
    return tally


def _shown(progress: Progress | None) -> Callable[[int], None]:
    """A function that shows how many entries are done, a few times a second."""
    due = 0.0

    def show(done: int) -> None:
        nonlocal due
        if progress is not None and (now := time.monotonic()) >= due:
            due = now + _SHOWN_EVERY_S
            progress.reach(done)

    return show


def _expected(dataset: Dataset) -> int | None:
    """How many entries there are, where that is quick to see."""
    if not isinstance(dataset.source, Manifest):
        return None
    try:
        with opened(dataset.root / MANIFEST, limit_bytes=_COUNTED_AT_MOST_BYTES) as file:
            return sum(part.count(b"\n") for part in iter(lambda: file.read(2**20), b""))
    except OSError:
        return None  # it is too large, or reading it raises a better error


def _nothing(dataset: Dataset, tally: Tally) -> DatasetError:
    if not tally.left_out:
        return DatasetError("the dataset holds no sample", where=dataset.root, fix="Add samples and their images")
    what = f"not one of {tally.left_out} images can be read, first {tally.places[0]}"
    return DatasetError(what, where=dataset.root, fix="Use the images that the manifest was written for")
