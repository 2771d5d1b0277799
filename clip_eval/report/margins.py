"""How near each check of a run came to its bound."""

from __future__ import annotations

from clip_eval.verdict.run_record import RunRecord

__all__ = ["margins"]


def margins(record: RunRecord) -> dict[str, float]:
    """Return the largest error over bound of each check, by name; a check that measured none is left out."""
    found: dict[str, float] = {}
    for check in record.checks:
        ratios = [one.ratio for one in check.measurements if one.ratio is not None and one.bound != 0]
        if ratios:
            found[check.name] = max(ratios)
    return found
