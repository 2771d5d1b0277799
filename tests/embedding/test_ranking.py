"""Exact ranks in blocks, against counting one by one."""

from __future__ import annotations

import contextlib
import time
import tracemalloc
from collections.abc import Iterator
from threading import get_ident

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clip_eval.embedding import ranking
from clip_eval.embedding.ranking import first_hits, first_hits_both

Case = tuple[NDArray[np.float64], NDArray[np.float64], list[list[int]]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Queries and items of small whole numbers, whose products are exact and often equal; some rows are NaN."""
    queries, items = draw(st.integers(1, 9)), draw(st.integers(1, 12))
    row = st.one_of(st.lists(st.integers(-2, 2), min_size=3, max_size=3), st.just([0, np.nan, 1]))
    rows = [draw(st.lists(row, min_size=count, max_size=count)) for count in (queries, items)]
    own = st.lists(st.integers(0, items - 1), min_size=1, max_size=3, unique=True)
    first, second = (np.array(side, dtype=np.float64) for side in rows)
    return first, second, draw(st.lists(own, min_size=queries, max_size=queries))


def one_by_one(queries: NDArray[np.float64], gallery: NDArray[np.float64], own: list[list[int]]) -> list[float]:
    """Return the rank of each query's best own item, (queries,): every other item as good stands before it."""
    ranks = []
    for query, mine in zip(queries, own, strict=True):
        scores = [sum(float(a) * float(b) for a, b in zip(query, item, strict=True)) for item in gallery]
        places = []
        for item in mine:
            rivals = [score for place, score in enumerate(scores) if place not in mine]
            places.append(1.0 + sum(score >= scores[item] for score in rivals))
        ranks.append(
            min((rank for rank, item in zip(places, mine, strict=True) if scores[item] == scores[item]), default=np.nan)
        )
    return ranks


@settings(derandomize=True, deadline=None, max_examples=200)
@given(case=cases(), rows=st.integers(1, 4), columns=st.integers(1, 9), counted=st.integers(1, 3))
def test_ranks_are_those_of_counting(case: Case, rows: int, columns: int, counted: int) -> None:
    """Ties, several own items, NaN and any size of blocks: the rank is what counting one by one gives, either way."""
    queries, gallery, own = case
    missing = sorted(set(range(len(gallery))) - {item for items in own for item in items})
    own = [[*own[0], *missing], *own[1:]]
    back = [[place for place, items in enumerate(own) if item in items] for item in range(len(gallery))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_ROWS_AT_ONCE", rows)
        patch.setattr(ranking, "_COLUMNS_AT_ONCE", columns)
        patch.setattr(ranking, "_COUNTED_AT_ONCE", counted)
        np.testing.assert_array_equal(first_hits(*case), one_by_one(*case))
        there, again = first_hits_both(queries, gallery, own)
    np.testing.assert_array_equal(there, one_by_one(queries, gallery, own))
    np.testing.assert_array_equal(again, one_by_one(gallery, queries, back))


def test_a_tie_is_lost_whatever_the_order() -> None:
    """Where everything lies at one point every rank is the last; own items do not compete with each other."""
    point = np.ones((4, 2))  # (4, 2)
    assert first_hits(point, point, [[0], [1], [2], [3]]).tolist() == [4, 4, 4, 4]
    assert first_hits(point, point, [[0, 1], [1, 2, 3], [0, 1, 2, 3], [3]]).tolist() == [3, 2, 1, 4]


def test_one_row_has_rank_1() -> None:
    """There is nothing else to retrieve."""
    assert first_hits(np.ones((1, 3)), np.ones((1, 3)), [[0]]).tolist() == [1]


@pytest.mark.parametrize(("dtype", "noise"), [(np.float32, 0.0), (np.float64, 0.0), (np.float64, 1e-8)])
def test_the_last_bit_moves_no_rank(monkeypatch: pytest.MonkeyPatch, dtype: type, noise: float) -> None:
    """However the matrix product rounds, an item neither loses against itself nor wins over its copy.

    Here products are off by a few last bits, up or down from cell to cell. An own score that came out of them, or of
    another sum than its rivals', would be lower than itself or higher than its copy's.
    """
    rng = np.random.default_rng(5)
    points = rng.normal(size=(300, 64))  # (300, 64)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    points[200:] = points[:100] * (1 - noise)  # copies, or as near as float32 cannot tell
    product = ranking._scores

    def off(*sides: NDArray[np.float32]) -> NDArray[np.float32]:
        found = product(*sides)
        found *= 1 + rng.integers(-2, 3, size=found.shape).astype(np.float32) * np.float32(2**-23)
        return found

    monkeypatch.setattr(ranking, "_scores", off)
    found = first_hits(points.astype(dtype), points.astype(dtype), [[place] for place in range(300)])
    assert (found[:100] == (1 if noise else 2)).all()
    assert (found[100:200] == 1).all()
    assert (found[200:] == 2).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_point_that_float32_cannot_hold_ties(dtype: type) -> None:
    """Equal items have equal scores wherever they stand in a product, in its last and odd columns too."""
    row = np.random.default_rng(2).normal(size=(1, 512)).astype(dtype)
    points = np.repeat(row / np.linalg.norm(row), 333, axis=0)  # (333, 512)
    assert set(first_hits(points, points, [[place] for place in range(333)])) == {333}


def test_a_crowd_counts_as_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where more items than can be scored again are as near as float32 can tell, all of them stand before."""
    monkeypatch.setattr(ranking, "_CROWD", 3)
    items = np.array([[1, 1e-9 * place] for place in range(5)])  # (5, 2)
    query = np.array([[1.0, 1.0]])  # (1, 2)
    assert first_hits(query, items, [[4]]).tolist() == [5]
    assert first_hits(query, items[1:], [[3]]).tolist() == [1]


def test_products_are_of_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the embeddings are: float64 would take twice the time, and a narrower type other ranks."""
    seen = []
    product = ranking._scores
    monkeypatch.setattr(ranking, "_scores", lambda *sides: seen.append(product(*sides)) or seen[-1])
    first_hits(np.ones((2, 3)), np.eye(3), [[0], [1]])
    assert [scores.dtype for scores in seen] == [np.float32]


@pytest.mark.parametrize("width", [3, 64, 768])
@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-4])
def test_ranks_are_those_of_float64(width: int, spread: float) -> None:
    """Near neighbours that float32 swaps stand in the order of float64 products."""
    rng = np.random.default_rng(width)
    centre = rng.normal(size=width)
    sides = [centre + spread * rng.normal(size=(count, width)) for count in (20, 150)]
    queries, items = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides)
    exact = (queries[:, None] * items).sum(axis=2)  # (queries, items)
    own = np.arange(20) * 7
    expected = (exact >= exact[np.arange(20), own][:, None]).sum(axis=1)  # (queries,)
    assert first_hits(queries, items, own[:, None].tolist()).tolist() == expected.tolist()


def test_both_directions_come_from_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several blocks each cell is computed once, and the ranks are those of float64."""
    rng = np.random.default_rng(8)
    first, second = rng.normal(size=(600, 24)), rng.normal(size=(1100, 24))
    own = [[place, place + 600] if place < 500 else [place] for place in range(600)]
    exact = (first[:, None] * second).sum(axis=2)  # (first, second)
    belongs = np.zeros(exact.shape, dtype=np.bool_)
    for place, items in enumerate(own):
        belongs[place, items] = True
    best = [np.where(belongs, exact, -np.inf).max(axis=axis, keepdims=True) for axis in (1, 0)]
    expected = [1 + ((exact >= one) & ~belongs).sum(axis=axis) for one, axis in zip(best, (1, 0), strict=True)]
    seen = []
    product = ranking._scores
    monkeypatch.setattr(ranking, "_scores", lambda *sides: seen.append(product(*sides).size) or product(*sides))
    for found, ranks in zip(first_hits_both(first, second, own), expected, strict=True):
        assert found.tolist() == ranks.tolist()
    assert sum(seen) == exact.size


@pytest.mark.parametrize(("items", "rows"), [(2, [2]), (3, [3]), (10, [4, 4, 2])])
def test_blocks_cover_each_score_once(monkeypatch: pytest.MonkeyPatch, items: int, rows: list[int]) -> None:
    """A block has no more rows and columns than it may have."""
    seen = []
    product = ranking._scores
    monkeypatch.setattr(ranking, "_ROWS_AT_ONCE", 4)
    monkeypatch.setattr(ranking, "_COLUMNS_AT_ONCE", 8)
    monkeypatch.setattr(ranking, "_scores", lambda *sides: seen.append(product(*sides).shape) or product(*sides))
    assert first_hits(np.ones((9, 2)), np.ones((items, 2)), [[0]] * 9).tolist() == [items] * 9
    assert seen == [(count, columns) for count in rows for columns in (8, 1)]


def test_threads_find_the_same_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that several threads count at once, with ties and a crowd among them, give the ranks that one gives."""
    rng = np.random.default_rng(3)
    first, second = rng.integers(-2, 3, size=(90, 4)) * 1.0, rng.integers(-2, 3, size=(700, 4)) * 1.0
    own = [list(range(place, 700, 90)) for place in range(90)]
    monkeypatch.setattr(ranking, "_ROWS_AT_ONCE", 7)
    monkeypatch.setattr(ranking, "_COLUMNS_AT_ONCE", 32)
    monkeypatch.setattr(ranking, "_CROWD", 60)
    expected = first_hits_both(first, second, own)
    threads = set()
    product = ranking._scores

    def noted(*sides: NDArray[np.float32]) -> NDArray[np.float32]:
        threads.add(get_ident())
        time.sleep(0.001)  # another thread's turn
        return product(*sides)

    @contextlib.contextmanager
    def four() -> Iterator[int]:
        yield 4

    monkeypatch.setattr(ranking, "_scores", noted)
    monkeypatch.setattr(ranking, "_WORTH_THREADS", 0)
    monkeypatch.setattr(ranking, "products_in_one_thread", four)
    for found, one in zip(first_hits_both(first, second, own), expected, strict=True):
        assert found.tolist() == one.tolist()
    assert len(threads) == 4


def test_the_matrix_of_all_scores_is_never_in_memory() -> None:
    """2,000 x 10,000 scores take 76 MiB; a copy of the queries in float32 takes a half, a block 1.5."""
    rng = np.random.default_rng(1)
    queries, gallery = rng.normal(size=(2_000, 64)), rng.normal(size=(10_000, 64))
    own = [range(5 * query, 5 * query + 5) for query in range(2_000)]
    tracemalloc.start()
    try:
        first_hits(queries, gallery, own)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 2 * 2**20 < peak_bytes < 8 * 2**20
