"""How near each check of a run comes to its bound."""

from __future__ import annotations

from collections.abc import Sequence

from clip_eval.verdict.measurement import Measurement
from clip_eval.verdict.run_record import RunRecord

__all__ = ["margins", "with_margin"]


def with_margin(measurements: Sequence[Measurement]) -> Measurement | None:
    """The measurement with the largest error over its bound; None where no measurement has a bound above 0.

    What must be exactly equal has no margin that could shrink.
    """
    ratios = {place: one.ratio for place, one in enumerate(measurements) if one.bound and one.ratio is not None}
    return measurements[max(ratios, key=lambda place: ratios[place] or 0.0)] if ratios else None


def margins(record: RunRecord) -> dict[str, float]:
    """The largest error over bound of each check, by its name, in the order of the record.

    Up to 1 is inside of the bound; infinity stands for an error that is no finite number. A check without a bound above
    0 is left out.
    """
    worst = {check.name: with_margin(check.measurements) for check in record.checks}
    return {name: one.ratio for name, one in worst.items() if one is not None and one.ratio is not None}
