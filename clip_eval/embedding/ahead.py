"""Work in threads ahead of the caller: results in order, a bounded number of them in memory."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event, Thread
from typing import Generic, TypeVar

__all__ = ["ahead"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_LOOK_S = 0.1  # how often a full queue asks whether the caller is still there


@dataclass(frozen=True, slots=True)
class _Done(Generic[_Result]):
    """Results of neighbouring items, and what was raised after them."""

    results: list[_Result]
    error: BaseException | None


def ahead(
    items: Iterable[_Item], work: Callable[[_Item], _Result], *, workers: int, limit: int, at_once: int = 1
) -> Generator[_Result, None, None]:
    """Yield `work(item)` for every item, in their order.

    Items are drawn in a thread of their own, so that reading goes on while the caller computes. What drawing or working
    raises is raised here, in its place. Closing the iterator ends the threads.

    Args:
        items: any number; only `limit` of them are drawn in advance, and `at_once` more.
        work: called in `workers` threads.
        workers: threads that work.
        limit: results that wait for the caller, at most.
        at_once: neighbours that one thread takes together: handing over costs as much as some tenths of a millisecond.
    """
    ready: queue.Queue[Future[_Done[_Result]] | None] = queue.Queue(max(1, limit // at_once))
    closed = Event()
    with ThreadPoolExecutor(workers, thread_name_prefix="clip-eval-work") as pool:

        def submit(some: list[_Item], error: BaseException | None) -> Future[_Done[_Result]]:
            return pool.submit(_worked, work, some, error)

        drawer = Thread(target=_draw, args=(iter(items), at_once, submit, ready, closed), daemon=True)
        drawer.start()
        try:
            while (future := ready.get()) is not None:
                done = future.result()
                yield from done.results
                if done.error is not None:
                    raise done.error
        finally:
            closed.set()
            drawer.join()
            pool.shutdown(cancel_futures=True)


def _worked(work: Callable[[_Item], _Result], items: list[_Item], error: BaseException | None) -> _Done[_Result]:
    """The results of neighbours up to the first that fails; `error` is what drawing the next one raised."""
    results: list[_Result] = []
    try:
        for item in items:
            results.append(work(item))  # noqa: PERF401 - those before an error count
    except BaseException as own:  # raised by the caller's `next`
        return _Done(results, own)
    return _Done(results, error)


def _draw(
    items: Iterator[_Item],
    at_once: int,
    submit: Callable[[list[_Item], BaseException | None], Future[_Done[_Result]]],
    ready: queue.Queue[Future[_Done[_Result]] | None],
    closed: Event,
) -> None:
    """Submit the items and queue their futures, then None; an error of drawing goes with the items before it."""
    ended = False
    while not ended:
        some: list[_Item] = []
        error: BaseException | None = None
        try:
            while len(some) < at_once:
                some.append(next(items))
        except StopIteration:
            ended = True
        except BaseException as raised:  # raised by the caller's `next`
            error, ended = raised, True
        if (some or error) and not _put(ready, submit(some, error), closed):
            return
    _put(ready, None, closed)


def _put(ready: queue.Queue[_Item], item: _Item, closed: Event) -> bool:
    """Queue the item; False where the caller has left."""
    while not closed.is_set():
        with contextlib.suppress(queue.Full):
            ready.put(item, timeout=_LOOK_S)
            return True
    return False
