"""Work in threads ahead of the caller."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from clip_eval.embedding.ahead import ahead


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("workers", [1, 4])
def test_results_keep_the_order(workers: int, at_once: int) -> None:
    """Whichever thread is done first."""

    def slow_first(number: int) -> int:
        time.sleep(0.01 if number % 3 == 0 else 0)
        return number * number

    found = list(ahead(range(30), slow_first, workers=workers, limit=5, at_once=at_once))
    assert found == [number * number for number in range(30)]


def test_no_more_is_drawn_than_may_wait() -> None:
    """A slow caller holds back the reader: memory is bounded. Leaving ends every thread."""
    drawn: list[int] = []

    def endless() -> Iterator[int]:
        for number in iter(lambda: len(drawn), -1):
            drawn.append(number)
            yield number

    before = threading.active_count()
    results = ahead(endless(), lambda number: number, workers=2, limit=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    time.sleep(0.2)
    assert len(drawn) <= 3 + 4 + 1 + 1  # taken, waiting, in the hand of the reader, and the next draw
    results.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("at_once", [1, 2, 3, 9])
@pytest.mark.parametrize("by", ["drawing", "working"])
def test_an_error_comes_in_its_place(by: str, at_once: int) -> None:
    """After the results before it, as the very object."""
    error = OSError("gone")

    def numbers() -> Iterator[int]:
        yield from (0, 1)
        if by == "drawing":
            raise error
        yield 2

    def work(number: int) -> int:
        if number == 2:
            raise error
        return number

    results = ahead(numbers(), work, workers=2, limit=3, at_once=at_once)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(OSError, match="gone") as caught:
        next(results)
    assert caught.value is error
