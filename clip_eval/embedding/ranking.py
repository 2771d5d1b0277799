"""Exact ranks of what belongs to a query among everything that could be retrieved, without the matrix of all scores."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rank", "first_hits"]

_ROWS_AT_ONCE = 256  # more fall out of the cache, and are slower
_SCORES_AT_ONCE = 2**22


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

    Scores are dot products in the arrays' own dtype: a lower one ties and swaps near neighbours, a higher one would
    double time and memory. Blocks hold whole rows, so that an own item's score and those of its rivals come out of one
    matrix product: another product may differ in the last bit, and then an item would lose against itself.

    A block has at most 256 queries and 2**22 scores (but one query at least): beside the inputs 36 MiB in float64, or
    nine bytes an item where there are more items than that.

    Args:
        queries: (queries, width).
        gallery: (items, width), in the same dtype.
        own: for each query the items that are right, at least one, each once.
    """
    at_once = max(1, min(_ROWS_AT_ONCE, _SCORES_AT_ONCE // len(gallery)))
    ranks = [
        _ranks(_scores(queries[start : start + at_once], gallery), own[start : start + at_once])
        for start in range(0, len(queries), at_once)
    ]
    return np.concatenate(ranks)


def _scores(queries: NDArray[np.floating[Any]], gallery: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    return np.asarray(queries @ gallery.T)  # (queries, items)


def _ranks(scores: NDArray[np.floating[Any]], own: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """The ranks in one block of scores, (queries, items)."""
    counts = np.array([len(items) for items in own])  # (queries,)
    starts = np.cumsum(counts) - counts  # (queries,)
    rows, columns = np.repeat(np.arange(len(own)), counts), np.fromiter(chain(*own), dtype=np.intp)  # (own items,)
    mine = scores[rows, columns]  # (own items,)
    best = np.fmax.reduceat(mine, starts)  # (queries,), NaN only where every own score is
    # row by row, which NumPy does in a quarter of the time that it needs along an axis
    as_high = np.array([np.count_nonzero(row) for row in scores >= best[:, None]])  # (queries,)
    rivals = as_high - np.add.reduceat(mine >= best[rows], starts, dtype=np.intp)  # (queries,)
    return np.where(np.isnan(best), np.nan, 1.0 + rivals)
