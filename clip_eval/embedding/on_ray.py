"""The pipeline on Ray Data: a pool of actors, each with a model, that embed blocks of a dataset into one store.

Every actor reads, decodes and computes whole blocks as the local engine does, and writes its own shards: no pixel and
no embedding travels, and the rows are those of the local engine. An image that occurs in two blocks may be computed in
both. Actors leave a CPU of the cluster to Ray, and a run that stands still ends with an error instead of waiting.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import queue
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from threading import Thread
from typing import Any

from clip_eval.dataset import Dataset, Entry, open_dataset
from clip_eval.dataset.sample import read_file
from clip_eval.embedding.fill import (
    EmbedOptions,
    Tally,
    candidate_of,
    embed_entries,
    embed_prompts,
    open_pipeline,
    prompts_of,
)
from clip_eval.embedding.pipeline import BLOCK
from clip_eval.errors import ClipEvalError, ProcessError, UsageError
from clip_eval.processes import usable_cores
from clip_eval.progress import Progress
from clip_eval.subject.loading import one_line

__all__ = ["fill_on_ray"]

PATIENCE_S = 300.0
"""How long nothing may be finished, not one image, before the run is given up."""

_MOST_BLOCKS = 8  # of a part, whose rows make one shard
_PARTS_EACH = 4  # parts an actor, at least, so that none waits long for the last one
_CPUS_EACH = 4
_LOOK_S, _ANSWER_S = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class _Pool:
    """How many actors there are, and what each asks for."""

    actors: int
    cpus: float
    gpus: int

    def __str__(self) -> str:
        gpus = f" and {self.gpus} GPU" if self.gpus else ""
        return f"{self.actors} workers that ask for {self.cpus:g} CPUs{gpus} each"


def fill_on_ray(options: EmbedOptions, dataset: Dataset, total: int | None, progress: Progress | None) -> Tally:
    """Embed what the store does not have, on this machine or on a cluster.

    Args:
        options: what to embed; `out` and `dataset` must be the same directories on every node.
        dataset: the same, opened.
        total: entries of the dataset; None to count them.
        progress: counts them.

    Raises:
        UsageError: Ray is not installed or does not answer, or the cluster has not what the workers ask for.
        ProcessError: nothing was finished for five minutes, or a worker died.
        ClipEvalError: a worker met a problem that the user can fix.
    """
    try:
        import ray
    except ImportError:
        raise UsageError("the engine ray needs Ray Data", fix="Install clip-eval[ray]") from None

    with _cluster(options.address):
        pool = _pool(options, ray.cluster_resources(), max(_cpus_of_nodes(ray.nodes())))
        count = sum(1 for _ in dataset.entries(images=False)) if total is None else total
        counter = ray.remote(num_cpus=0)(_Counter).remote()
        absolute = replace(options, out=options.out.absolute(), dataset=dataset.root)
        rows = _started(absolute, pool, _parts(count, pool.actors), counter)
        return _gathered(rows, counter, pool, progress)


@contextlib.contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    import ray

    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"num_cpus": usable_cores(), "include_dashboard": False} if address is None else {}
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as problem:
        what = f"Ray does not start ({one_line(problem)})"
        raise UsageError(what, where=address, fix="Name the address of a running cluster, or none") from problem
    try:
        yield
    finally:
        ray.shutdown()


def _cpus_of_nodes(nodes: list[dict[str, Any]]) -> list[float]:
    return [node["Resources"].get("CPU", 0.0) for node in nodes if node.get("Alive")]


def _pool(options: EmbedOptions, resources: dict[str, float], largest_node_cpus: float) -> _Pool:
    """As many actors as the user says, by default one a GPU or one for four CPUs; a CPU is left to Ray's own tasks."""
    cpus, gpus = resources.get("CPU", 0.0), int(resources.get("GPU", 0))
    on_gpu = options.device.startswith("cuda")
    actors = options.workers or (gpus if on_gpu else max(1, int(cpus) // _CPUS_EACH))
    if on_gpu and (actors > gpus or not gpus):
        what = f"{max(actors, 1)} workers need a GPU each, and the cluster has {gpus}"
        raise UsageError(what, fix="Name fewer --workers, or --device cpu")
    most = min((cpus - 1) / actors, largest_node_cpus - 1)
    share = math.floor(most) if most >= 1 else math.floor(100 * max(most, 0.5 * cpus / actors)) / 100
    if share <= 0:
        what = f"{actors} workers cannot share {cpus:g} CPUs"
        raise UsageError(what, fix="Name fewer --workers, or give the cluster more CPUs")
    return _Pool(actors, share, int(on_gpu))


def _parts(entries: int, actors: int) -> list[dict[str, int]]:
    """Whole blocks for one call of an actor: the place of the first entry, and how many; none for the prompts."""
    in_all = math.ceil(entries / BLOCK)
    size = BLOCK * max(1, min(_MOST_BLOCKS, in_all // (_PARTS_EACH * actors)))
    return [{"start": 0, "count": 0}, *({"start": start, "count": size} for start in range(0, entries, size))]


def _started(options: EmbedOptions, pool: _Pool, parts: list[dict[str, int]], counter: Any) -> Any:
    """The rows of all parts, a tally each; nothing runs before they are asked for."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it logs each step to stderr
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray.data.from_items(parts, override_num_blocks=len(parts)).map_batches(
        _Embedder,
        fn_constructor_args=(options, counter, math.ceil(pool.cpus)),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=pool.actors),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
    )


def _gathered(rows: Any, counter: Any, pool: _Pool, progress: Progress | None) -> Tally:
    """The tallies of all parts together. Another thread waits for them, since Ray may wait for ever."""
    import ray

    done: queue.Queue[Tally | BaseException | None] = queue.Queue()
    Thread(target=_take, args=(rows, done), daemon=True).start()
    tally, seen, since = Tally(), -1, time.monotonic()
    while True:
        with contextlib.suppress(queue.Empty):
            item = done.get(timeout=_LOOK_S)
            if item is None:
                return tally
            if isinstance(item, BaseException):
                raise _explained(item)
            tally.add(item)
            since = time.monotonic()
        finished = _finished(counter, seen)
        if finished != seen:
            seen, since = finished, time.monotonic()
            if progress is not None:
                progress.reach(finished)
        if time.monotonic() - since > PATIENCE_S:
            raise _standstill(pool, ray.cluster_resources())


def _finished(counter: Any, before: int) -> int:
    """How many entries the counter has; what it had before where it does not answer: Ray would wait for ever."""
    import ray

    try:
        return int(ray.get(counter.entries.remote(), timeout=_ANSWER_S))
    except ray.exceptions.GetTimeoutError:
        return before


def _take(rows: Any, done: queue.Queue[Tally | BaseException | None]) -> None:
    try:
        for row in rows.iter_rows():
            done.put(Tally(**json.loads(row["tally"])))
        done.put(None)
    except BaseException as error:  # raised where the tallies are gathered
        done.put(error)


def _standstill(pool: _Pool, resources: dict[str, float]) -> ProcessError:
    has = f"{resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs"
    return ProcessError(
        f"Ray has finished nothing for {PATIENCE_S:.0f} s, with {pool}; the cluster has {has}",
        fix="Look at `ray status`: name fewer --workers, or stop what else runs there, and run again",
    )


def _explained(error: BaseException) -> BaseException:
    """The problem that a worker met, out of what Ray wraps around it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ClipEvalError):
            return cause
        cause = getattr(cause, "cause", None) or cause.__cause__
    if type(error).__module__.startswith("ray"):
        last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        return ProcessError(f"a Ray worker failed ({last[0]})", fix="Run again: it goes on where it was")
    return error


class _Counter:
    """How many entries all actors have finished."""

    def __init__(self) -> None:
        self._by_part: dict[int, int] = {}

    def tell(self, part: int, done: int) -> None:
        self._by_part[part] = done

    def entries(self) -> int:
        return sum(self._by_part.values())


class _Embedder:
    """One actor: a model, a store and a dataset."""

    def __init__(self, options: EmbedOptions, counter: Any, threads: int) -> None:
        device = "cuda:0" if options.device.startswith("cuda") else options.device
        self._pipeline = open_pipeline(options, candidate_of(options, device), workers=threads)
        self._dataset = open_dataset(options.dataset)
        self._prompts = prompts_of(self._dataset)
        self._entries = _Cursor(self._dataset)
        self._counter = counter

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        start, count = int(batch["start"][0]), int(batch["count"][0])
        if count:
            show = _Teller(self._counter, start)
            tally = embed_entries(self._pipeline, self._entries.part(start, count), show, prompts=self._prompts)
            show.tell(tally.images)
        else:
            tally = embed_prompts(self._pipeline, self._dataset)
        return {"tally": [json.dumps(asdict(tally))]}


class _Teller:
    """Tells the counter how many entries of a part are done, twice a second."""

    def __init__(self, counter: Any, part: int) -> None:
        self._counter, self._part, self._due = counter, part, 0.0

    def __call__(self, done: int) -> None:
        if (now := time.monotonic()) >= self._due:
            self._due = now + _LOOK_S
            self.tell(done)

    def tell(self, done: int) -> None:
        self._counter.tell.remote(self._part, done)


class _Cursor:
    """Entries of a dataset from any place on. Parts mostly come in order: then a manifest is read through once."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        first = next((entry.sample for entry in dataset.entries(images=False) if entry.sample is not None), None)
        # Files of other parts are passed over; what lies in archives is read through.
        self._has_files = first is not None and (dataset.root / first.path).is_file()
        self._reopen()

    def _reopen(self) -> None:
        self._place = 0
        self._iterator = self._dataset.entries(images=not self._has_files)

    def part(self, start: int, count: int) -> Iterator[Entry]:
        """Yield entries with the bytes of their images."""
        if start < self._place:
            self._reopen()
        for entry in islice(self._iterator, start - self._place + count):
            self._place += 1
            if self._place > start:
                yield self._with_image(entry)

    def _with_image(self, entry: Entry) -> Entry:
        if not self._has_files or entry.sample is None or entry.problem is not None:
            return entry
        return read_file(entry.where, entry.sample, f"{self._dataset.root}/{entry.sample.path}", images=True)
