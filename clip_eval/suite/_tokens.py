"""Comparison of rows of token ids, or of their texts: one measurement if all are right, else the first wrong row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from clip_eval.verdict.compare import Compare

__all__ = ["compare_rows", "plain_rows"]


def compare_rows(
    compare: Compare, observed: Sequence[Any], expected: Sequence[Any], *, texts: Sequence[str], what: str
) -> None:
    """Assert that all rows are equal, and name the text of the first that is not.

    Args:
        compare: of the check.
        observed: a row each text, plain values.
        expected: the same.
        texts: the input of each row.
        what: what a row holds, and which class made it.
    """
    __tracebackhide__ = True
    compare.equal(len(observed), len(expected), name=f"number of rows of {what}")
    rows = list(zip(texts, observed, expected, strict=True))
    for text, row, right in rows:
        if row != right:
            compare.equal(row, right, name=f"{what} for {text!r}")
    right_rows = sum(row == right for _, row, right in rows)
    compare.equal(right_rows, len(rows), name=f"right rows of {len(rows)}: {what}")


def plain_rows(rows: Iterable[Iterable[int]]) -> list[list[int]]:
    """Return rows as lists, whatever type the tokenizer returned."""
    return [list(row) for row in rows]
