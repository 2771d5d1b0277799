"""Exact ranks of what belongs to a query among everything that could be retrieved, without the matrix of all scores."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import InitVar, dataclass, field, replace
from itertools import chain
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clip_eval.embedding.threads import products_in_one_thread

__all__ = ["Rank", "dots", "first_hits", "first_hits_both", "own_pairs"]

_ROWS_AT_ONCE, _COLUMNS_AT_ONCE = 510, 512  # a megabyte of scores, which the cache of a core holds
_COUNTED_AT_ONCE = 255  # in one byte
_PAIRS_AT_ONCE = 256
_CROWD = 1000
_WORTH_THREADS = 1 << 29  # multiplications, a hundredth of a second
_UNIT_ROUNDOFF = 2.0**-24  # of float32

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]


class Rank(Protocol):
    """Ranks of images among texts and of texts among images; see `first_hits_both`."""

    def __call__(
        self, first: Floats, second: Floats, own: Sequence[Sequence[int]], /
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the rank of each row's nearest own row of the other side; infinite where it was not looked for."""


def first_hits(queries: Floats, gallery: Floats, own: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Return the rank of each query's nearest own item, (queries,): 1 where nothing else is as near.

    Its rank is 1 plus the count of items that are not the query's own and score as high or higher. A tie is thus lost,
    whatever the order of the items: a model that maps everything onto one point retrieves nothing. Own items do not
    compete with each other. An item that is not finite competes with nothing; the rank is NaN where the query is not
    finite, or none of its own items is.

    Scores are dot products, and ranks are those of float64. A block of products is computed in float32, in half the
    time, and settles all items but those that are as near as the own one up to what float32 may round. Those are scored
    again in float64, pair by pair in the same way as the own items: a matrix product rounds equal items differently in
    the last bit, depending on where they stand in it, and an item could lose against itself or win over its copy. Where
    more than 1,000 items are that near to one query's own, all of them count as ties.

    Beside the inputs it takes a copy of those that are not float32, and for each thread a block of 510 x 512 scores:
    2 MiB. There are as many threads as a matrix product would take; ranks do not depend on their number.

    Args:
        queries: (queries, width), float32 or float64.
        gallery: (items, width), likewise.
        own: for each query the items that are right, at least one, each once.
    """
    pairs = _paired(queries, gallery, own)
    asked = _Side(queries, gallery, pairs.rows, pairs.scores, _doubt(_lengths(queries), _lengths(gallery), pairs.width))
    _count(gallery, queries, replace(pairs, rows=pairs.columns, columns=pairs.rows), asked)  # quicker than along rows
    return asked.ranks()


def first_hits_both(
    first: Floats, second: Floats, own: Sequence[Sequence[int]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ranks of both directions, (first,) and (second,), from one product, as `first_hits` gives each.

    Args:
        first: (first, width), float32 or float64.
        second: (second, width), likewise.
        own: for each of the first those of the second that belong to it, each once. Each belongs to at least one.
    """
    pairs = _paired(first, second, own)
    lengths = _lengths(first), _lengths(second)
    there = _Side(first, second, pairs.rows, pairs.scores, _doubt(*lengths, pairs.width))
    back = _Side(second, first, pairs.columns, pairs.scores, _doubt(*lengths[::-1], pairs.width))
    _count(first, second, pairs, back, there)
    return there.ranks(), back.ranks()


def own_pairs(own: Sequence[Sequence[int]]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return query and item of each pair that belongs together, (pairs,), and where each query's begin, (queries,)."""
    counts = np.array([len(items) for items in own])  # (queries,)
    pairs = np.repeat(np.arange(len(own)), counts), np.fromiter(chain(*own), dtype=np.intp, count=int(counts.sum()))
    return *pairs, np.cumsum(counts) - counts


def dots(first: Floats, second: Floats, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the float64 product of each pair, (pairs,), all summed in one order: equal embeddings tie to the last bit.

    Args:
        first: (rows, width).
        second: (columns, width).
        rows: of the first, (pairs,).
        columns: of the second, (pairs,).
    """
    found = np.empty(len(rows))  # (pairs,)
    for start in range(0, len(rows), _PAIRS_AT_ONCE):
        some = slice(start, start + _PAIRS_AT_ONCE)
        left, right = (side.astype(np.float64, copy=False) for side in (first[rows[some]], second[columns[some]]))
        np.einsum("pw,pw->p", left, right, out=found[some])
    return found


@dataclass(frozen=True, slots=True)
class _Pairs:
    """What belongs together.

    Attributes:
        rows: of the first, (pairs,).
        columns: of the second, (pairs,).
        scores: their float64 products, (pairs,).
        width: of the vectors.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    scores: NDArray[np.float64]
    width: int


@dataclass(slots=True)
class _Side:
    """Queries, and how many items have stood before the nearest of their own so far.

    Args:
        queries: (queries, width).
        gallery: (items, width).
        owners: the query of each pair that belongs together, (pairs,); every query is there.
        scores: of these pairs, (pairs,).
        doubt: how far from the exact one a score in float32 may be, (queries,).
    """

    queries: Floats
    gallery: Floats
    owners: InitVar[NDArray[np.intp]]
    scores: InitVar[NDArray[np.float64]]
    doubt: InitVar[NDArray[np.float64]]
    best: NDArray[np.float64] = field(init=False)  # (queries,), NaN where every own score is
    low: NDArray[np.float32] = field(init=False)  # (queries,), what a score that is lower cannot reach
    high: NDArray[np.float32] = field(init=False)  # (queries,), what is higher stands before for certain
    certain: NDArray[np.int64] = field(init=False)  # (queries,)
    possible: NDArray[np.int64] = field(init=False)  # (queries,)
    lost: NDArray[np.int64] = field(init=False)  # (queries,), of those that are only possible
    counting: Lock = field(default_factory=Lock, init=False)

    def __post_init__(self, owners: NDArray[np.intp], scores: NDArray[np.float64], doubt: NDArray[np.float64]) -> None:
        order = np.argsort(owners, kind="stable")
        starts = np.searchsorted(owners[order], np.arange(len(self.queries)))
        self.best = np.fmax.reduceat(scores[order], starts)
        self.low, self.high = (self.best - doubt).astype(np.float32), (self.best + doubt).astype(np.float32)
        self.certain, self.possible, self.lost = (np.zeros(len(self.queries), dtype=np.int64) for _ in range(3))

    def add(self, scores: NDArray[np.float32], room: tuple[Mask, Mask], queries: int, items: int, axis: int) -> None:
        """Count a block.

        Args:
            scores: (rows, columns) of the block.
            room: two masks as large as a block, which are overwritten.
            queries: the first one of the block.
            items: likewise.
            axis: along which its items lie.
        """
        nearest = np.fmax.reduce(scores, axis=axis)  # (queries of the block,)
        some = np.flatnonzero(nearest >= self.low[queries : queries + len(nearest)])  # those that an item has reached
        if not len(some):
            return
        if 2 * len(some) < len(nearest):  # as of a model that retrieves: most queries meet no rival in most blocks
            scores = scores.take(some, axis=1 - axis)
        else:
            some = np.arange(len(nearest))
        some += queries
        low, high = (one[some] if axis == 0 else one[some, None] for one in (self.low, self.high))
        reached, passed = (_cut(one, *scores.shape) for one in room)  # (rows, columns) each
        np.greater_equal(scores, low, out=reached)
        np.greater(scores, high, out=passed)
        possible, certain = (_counts(mask, axis) for mask in (reached, passed))  # (some,) each
        with self.counting:
            self.possible[some] += possible
            self.certain[some] += certain
        near = np.flatnonzero(possible != certain)  # (queries that are undecided,)
        if len(near):
            of_some, of_items = _undecided(reached, passed, near, axis)  # (undecided,) each
            self._settle(some[of_some], of_items + items)

    def _settle(self, queries: NDArray[np.intp], items: NDArray[np.intp]) -> None:
        """Count those pairs whose float64 product is no less than that of the query's own item; arguments (pairs,)."""
        with self.counting:  # another thread may have added to one of both only
            few = (self.possible[queries] - self.certain[queries]) <= _CROWD  # (pairs,)
        queries, items = queries[few], items[few]
        lost = queries[dots(self.queries, self.gallery, queries, items) >= self.best[queries]]
        with self.counting:
            np.add.at(self.lost, lost, 1)

    def ranks(self) -> NDArray[np.float64]:
        """The rank of each query's nearest own item, (queries,)."""
        rivals = np.where(self.possible - self.certain > _CROWD, self.possible, self.certain + self.lost)
        return np.where(np.isnan(self.best), np.nan, 1.0 + rivals)


def _paired(first: Floats, second: Floats, own: Sequence[Sequence[int]]) -> _Pairs:
    rows, columns, _ = own_pairs(own)
    return _Pairs(rows, columns, dots(first, second, rows, columns), first.shape[1])


def _count(first: Floats, second: Floats, pairs: _Pairs, back: _Side, there: _Side | None = None) -> None:
    """Count each block of the product of both, (first, second), in one direction or both.

    Args:
        first: (first, width).
        second: (second, width).
        pairs: what belongs together, which is left out.
        back: the second are its queries.
        there: the first are its queries.
    """
    order = np.lexsort((pairs.columns, pairs.rows // _ROWS_AT_ONCE))
    rows, columns = pairs.rows[order], pairs.columns[order]
    narrow = second.astype(np.float32, copy=False)  # (second, width)
    height, width = min(_ROWS_AT_ONCE, len(first)), min(_COLUMNS_AT_ONCE, len(second))

    def count_rows(top: int) -> None:
        room = np.empty((height, width), dtype=np.float32)
        masks = np.empty((height, width), dtype=np.bool_), np.empty((height, width), dtype=np.bool_)
        block = first[top : top + height].astype(np.float32, copy=False)  # (rows, width)
        begin, end = np.searchsorted(rows // _ROWS_AT_ONCE, [top // _ROWS_AT_ONCE, top // _ROWS_AT_ONCE + 1])
        for left in range(0, len(second), width):
            items = narrow[left : left + width]  # (columns, width)
            scores = _scores(block, items, _cut(room, len(block), len(items)))  # (rows, columns)
            own = slice(*(begin + np.searchsorted(columns[begin:end], [left, left + len(items)])))
            scores[rows[own] - top, columns[own] - left] = -np.inf
            back.add(scores, masks, left, top, axis=0)
            if there is not None:
                there.add(scores, masks, top, left, axis=1)

    tops = range(0, len(first), height)
    if len(first) * len(second) * pairs.width < _WORTH_THREADS or len(tops) == 1:
        for top in tops:
            count_rows(top)
        return
    with products_in_one_thread() as threads, ThreadPoolExecutor(threads) as pool:
        list(pool.map(count_rows, tops))


def _cut(room: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """As much of the room as a block takes, contiguous."""
    return room.reshape(-1)[: rows * columns].reshape(rows, columns)


def _scores(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], out: NDArray[np.float32]
) -> NDArray[np.float32]:
    return np.matmul(queries, gallery.T, out=out)  # (queries, items)


def _doubt(queries: NDArray[np.float64], items: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """How far a product in float32 may be from the exact one, (queries,).

    A sum of n products in any order is off by no more than n u / (1 - n u) times the lengths of both vectors (Higham,
    Accuracy and Stability of Numerical Algorithms, 2002, section 3.1). Five more roundings are those of the inputs to
    float32, of the threshold, and of the lengths.

    Args:
        queries: their lengths, (queries,).
        items: theirs, (items,).
        width: of the vectors.
    """
    steps = (width + 5) * _UNIT_ROUNDOFF
    most = float(items.max(initial=0.0, where=np.isfinite(items)))
    return np.asarray(steps / (1 - steps) * most * queries)


def _lengths(vectors: Floats) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.einsum("vw,vw->v", vectors, vectors).astype(np.float64)))  # (vectors,)


def _undecided(
    reached: Mask, passed: Mask, near: NDArray[np.intp], axis: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Query and item of each score that was reached and not passed, (undecided,) each; `reached` is overwritten."""
    if axis == 1:  # a few rows are quickly taken out
        rows, columns = np.divmod(np.flatnonzero(reached[near] ^ passed[near]), reached.shape[1])
        return near[rows], columns
    rows, columns = np.divmod(np.flatnonzero(np.bitwise_xor(reached, passed, out=reached)), reached.shape[1])
    return columns, rows


def _counts(mask: Mask, axis: int) -> NDArray[np.int64]:
    """How many are true along an axis of (rows, columns), eight or more at a time in the bytes of words."""
    if axis == 1 and mask.shape[1] % 8 == 0:
        words = np.add.reduce(mask.view(np.uint64), axis=1)  # (rows,), in each byte a count of at most 64
        return np.asarray(words.view(np.uint8).reshape(-1, 8).sum(axis=1, dtype=np.int64))
    if axis == 1:
        return np.asarray(np.count_nonzero(mask, axis=1), dtype=np.int64)
    found = np.zeros(mask.shape[1], dtype=np.int64)  # (columns,)
    for start in range(0, len(mask), _COUNTED_AT_ONCE):
        found += np.add.reduce(mask[start : start + _COUNTED_AT_ONCE].view(np.uint8), axis=0, dtype=np.uint8)
    return found
