"""Exact ranks of what belongs to a query among everything that could be retrieved, without the matrix of all scores."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from math import sqrt
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rank", "dots", "first_hits", "own_pairs"]

_ROWS_AT_ONCE = 256  # more fall out of the cache, and are slower
_SCORES_AT_ONCE = 2**25  # 128 MiB
_PAIRS_AT_ONCE = 4096
_CROWD = 1000
_UNIT_ROUNDOFF = 2.0**-24  # of float32


class Rank(Protocol):
    """Ranks of what belongs to each query; see `first_hits`."""

    def __call__(
        self, queries: NDArray[np.floating[Any]], gallery: NDArray[np.floating[Any]], own: Sequence[Sequence[int]], /
    ) -> NDArray[np.float64]:
        """Return the rank of each query's nearest own item, (queries,); infinite where it was not looked for."""


def first_hits(
    queries: NDArray[np.floating[Any]], gallery: NDArray[np.floating[Any]], own: Sequence[Sequence[int]]
) -> NDArray[np.float64]:
    """Return the rank of each query's nearest own item, (queries,): 1 where nothing else is as near.

    Its rank is 1 plus the count of items that are not the query's own and score as high or higher. A tie is thus lost,
    whatever the order of the items: a model that maps everything onto one point retrieves nothing. Own items do not
    compete with each other. An item that is not finite competes with nothing; the rank is NaN where the query is not
    finite, or none of its own items is.

    Scores are dot products, and ranks are those of float64. A block of products is computed in float32, in half the
    time, and settles all items but the few that are as near as the own one up to float32's rounding. Those are scored
    again in float64, pair by pair in the same way as the own items: a matrix product rounds equal items differently in
    the last bit, depending on where they stand in it, and an item could lose against itself or win over its copy. Where
    more than 1,000 items are that near to one query's own, all of them count as ties.

    Beside the inputs it takes a copy of those that are not float32, and a block of at most 2**25 scores with two bytes
    of comparisons each: 192 MiB (but one query at least).

    Args:
        queries: (queries, width), float32 or float64.
        gallery: (items, width), likewise.
        own: for each query the items that are right, at least one, each once.
    """
    narrow = gallery.astype(np.float32, copy=False)  # (items, width)
    lengths = np.linalg.norm(narrow, axis=1)  # (items,)
    longest = float(lengths.max(initial=0.0, where=np.isfinite(lengths)))
    at_once = max(1, min(_ROWS_AT_ONCE, _SCORES_AT_ONCE // len(gallery), len(queries)))
    scores = np.empty((at_once, len(gallery)), dtype=np.float32)  # reused: fresh pages cost as much as comparing
    ranks = []
    for start in range(0, len(queries), at_once):
        block = queries[start : start + at_once]  # (block, width)
        some = _scores(block.astype(np.float32, copy=False), narrow, scores[: len(block)])
        ranks.append(_ranks(some, block, gallery, own[start : start + at_once], longest))
    return np.concatenate(ranks)


def own_pairs(own: Sequence[Sequence[int]]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return query and item of each pair that belongs together, (pairs,), and where each query's begin, (queries,)."""
    counts = np.array([len(items) for items in own])  # (queries,)
    pairs = np.repeat(np.arange(len(own)), counts), np.fromiter(chain(*own), dtype=np.intp, count=int(counts.sum()))
    return *pairs, np.cumsum(counts) - counts


def dots(
    first: NDArray[np.floating[Any]],
    second: NDArray[np.floating[Any]],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
) -> NDArray[np.float64]:
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


def _scores(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], out: NDArray[np.float32]
) -> NDArray[np.float32]:
    return np.matmul(queries, gallery.T, out=out)  # (queries, items)


def _ranks(
    scores: NDArray[np.float32],
    queries: NDArray[np.floating[Any]],
    gallery: NDArray[np.floating[Any]],
    own: Sequence[Sequence[int]],
    longest: float,
) -> NDArray[np.float64]:
    """The ranks in one block of scores, (queries, items), which are overwritten where an item is the query's own."""
    rows, columns, starts = own_pairs(own)
    best = np.fmax.reduceat(dots(queries, gallery, rows, columns), starts)  # (queries,), NaN where every own score is
    scores[rows, columns] = -np.inf
    # Errors of a sum add up like a random walk, of as many steps as the vectors are wide; the factor 2 is for safety.
    doubt = 2 * sqrt(queries.shape[1]) * _UNIT_ROUNDOFF * longest * np.linalg.norm(queries, axis=1)  # (queries,)
    higher = scores > (best + doubt).astype(np.float32)[:, None]  # (queries, items)
    as_high = scores >= (best - doubt).astype(np.float32)[:, None]  # (queries, items)
    # row by row, which NumPy does in a quarter of the time that it needs along an axis
    certain, possible = (np.array([np.count_nonzero(row) for row in mask]) for mask in (higher, as_high))
    rivals = np.where(possible - certain > _CROWD, possible, certain)  # (queries,)
    near = np.flatnonzero((possible > certain) & (rivals == certain))  # (undecided,)
    undecided, items = np.nonzero(as_high[near] ^ higher[near])  # (pairs,) each
    undecided = near[undecided]
    lost = dots(queries, gallery, undecided, items) >= best[undecided]  # (pairs,)
    rivals = rivals + np.bincount(undecided[lost], minlength=len(rivals))
    return np.where(np.isnan(best), np.nan, 1.0 + rivals)
