"""Approximate ranks: the exact ones where one list holds all, and near them where it does not."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from clip_eval.embedding.approximate import approximate_first_hits
from clip_eval.embedding.ranking import first_hits
from clip_eval.errors import UsageError


def test_without_faiss_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UsageError, match=r"clip-eval\[faiss\]"):
        approximate_first_hits(np.ones((1, 2)), np.ones((1, 2)), [[0]])


def test_few_items_are_searched_exactly() -> None:
    """Ranks up to ten are the exact ones, and others infinite; NaN where there is nothing to rank."""
    pytest.importorskip("faiss", reason="the extra clip-eval[faiss] is not installed")
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(30, 8)), rng.normal(size=(60, 8))
    queries[3, 0] = gallery[9, 0] = np.nan
    own = [[place, place + 30] if place != 9 else [9] for place in range(30)]
    exact = first_hits(queries, gallery, own)
    np.testing.assert_array_equal(approximate_first_hits(queries, gallery, own), np.where(exact > 10, np.inf, exact))


def test_near_neighbours_are_mostly_found() -> None:
    """With many lists the recall of close pairs stays near the exact one."""
    pytest.importorskip("faiss", reason="the extra clip-eval[faiss] is not installed")
    rng = np.random.default_rng(1)
    gallery = rng.normal(size=(3000, 16))
    queries = gallery[:300] + 0.1 * rng.normal(size=(300, 16))
    ranks = approximate_first_hits(queries, gallery, [[place] for place in range(300)])
    assert (ranks <= 5).mean() > 0.9
