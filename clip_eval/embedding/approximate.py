"""Approximate ranks by FAISS (Johnson et al. 2017), for galleries that an exact search takes too long for.

Needs the extra `clip-eval[faiss]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_eval.errors import UsageError

__all__ = ["approximate_first_hits", "approximate_first_hits_both", "require_faiss"]

_FIRST = 10  # the largest k of recall@k
_LEAST_A_LIST = 64  # FAISS warns below 39 items a centroid
_SHARE_SEARCHED = 8  # one list in so many is looked through


def require_faiss() -> Any:
    """Return the module of FAISS.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import faiss
    except ImportError as problem:
        fix = "Install clip-eval[faiss], or search exactly"
        raise UsageError("an approximate search needs FAISS", fix=fix) from problem
    return faiss


def approximate_first_hits_both(
    first: NDArray[np.floating[Any]], second: NDArray[np.floating[Any]], own: Sequence[Sequence[int]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ranks of both directions, (first,) and (second,), as `approximate_first_hits` gives each.

    Args:
        first: (first, width), float32 or float64.
        second: (second, width), likewise.
        own: for each of the first those of the second that belong to it, each once. Each belongs to at least one.
    """
    back: list[list[int]] = [[] for _ in range(len(second))]
    for place, items in enumerate(own):
        for item in items:
            back[item].append(place)
    return approximate_first_hits(first, second, own), approximate_first_hits(second, first, back)


def approximate_first_hits(
    queries: NDArray[np.floating[Any]], gallery: NDArray[np.floating[Any]], own: Sequence[Sequence[int]]
) -> NDArray[np.float64]:
    """Return the rank of each query's nearest own item among the ten nearest that were found, (queries,).

    It is infinite where no own item is among them, so that recall@1, 5 and 10 can be told and a median rank cannot.
    Items are found in an eighth of the lists of an inverted file index: an item in another list is missed, whether it
    is the query's own or a rival, so recall may be lower than the exact one, or higher. Products are float32's, and a
    tie is lost as far as the ten show it. NaN where the query is not finite, or none of its own items is.

    Args:
        queries: (queries, width), float32 or float64.
        gallery: (items, width), likewise.
        own: for each query the items that are right, at least one, each once.

    Raises:
        UsageError: FAISS is not installed.
    """
    faiss = require_faiss()
    items, asked = (np.ascontiguousarray(side, dtype=np.float32) for side in (gallery, queries))
    finite = np.flatnonzero(np.isfinite(items).all(axis=1))  # (finite,)
    lists = max(1, min(isqrt(len(finite)), len(finite) // _LEAST_A_LIST))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(items.shape[1]), items.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
    ranks = np.full(len(asked), np.nan)  # (queries,)
    known = np.flatnonzero(np.isfinite(asked).all(axis=1))  # (known,)
    if not len(finite) or not len(known):
        return ranks
    index.train(items[finite])
    index.add(items[finite])
    index.nprobe = -(-lists // _SHARE_SEARCHED)
    scores, places = index.search(asked[known], _FIRST)  # (known, 10) each, -1 where there are no more
    alive = set(finite.tolist())
    for row, found, near in zip(known.tolist(), scores, places, strict=True):
        if alive.isdisjoint(own[row]):
            continue
        right = np.isin(np.where(near < 0, -1, finite[near]), own[row])  # (10,)
        best = found[right].max(initial=-np.inf)
        rivals = np.count_nonzero((found >= best) & ~right & (near >= 0))
        ranks[row] = 1 + rivals if right.any() else np.inf
    return ranks
