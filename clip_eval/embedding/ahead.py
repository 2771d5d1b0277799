"""Work in threads ahead of the caller: results in order, a bounded number of them in memory."""

from __future__ import annotations

import contextlib
import os
import queue
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, Thread
from typing import TypeVar

__all__ = ["ahead", "usable_cores"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_LOOK_S = 0.1  # how often a full queue asks whether the caller is still there


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ahead(
    items: Iterable[_Item], work: Callable[[_Item], _Result], *, workers: int, limit: int
) -> Generator[_Result, None, None]:
    """Yield `work(item)` for every item, in their order.

    Items are drawn in a thread of their own, so that reading goes on while the caller computes. What drawing or working
    raises is raised here, in its place. Closing the iterator ends the threads.

    Args:
        items: any number; only `limit` of them are drawn in advance.
        work: called in `workers` threads.
        workers: threads that work.
        limit: results that wait for the caller, at most.
    """
    ready: queue.Queue[Future[_Result] | None] = queue.Queue(limit)
    closed = Event()
    with ThreadPoolExecutor(workers, thread_name_prefix="clip-eval-work") as pool:
        drawer = Thread(target=_draw, args=(items, lambda item: pool.submit(work, item), ready, closed), daemon=True)
        drawer.start()
        try:
            while (future := ready.get()) is not None:
                yield future.result()
        finally:
            closed.set()
            drawer.join()
            pool.shutdown(cancel_futures=True)


def _draw(
    items: Iterable[_Item],
    submit: Callable[[_Item], Future[_Result]],
    ready: queue.Queue[Future[_Result] | None],
    closed: Event,
) -> None:
    """Submit every item and queue its future, then None; an error of drawing becomes a future of its own."""
    try:
        for item in items:
            if not _put(ready, submit(item), closed):
                return
    except BaseException as error:  # raised by the caller's `next`
        failed: Future[_Result] = Future()
        failed.set_exception(error)
        _put(ready, failed, closed)
    _put(ready, None, closed)


def _put(ready: queue.Queue[_Item], item: _Item, closed: Event) -> bool:
    """Queue the item; False where the caller has left."""
    while not closed.is_set():
        with contextlib.suppress(queue.Full):
            ready.put(item, timeout=_LOOK_S)
            return True
    return False
