"""The kill matrix, fault by check, and what it says: rates, faults that hang on one check, margins of numerical
faults.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from faults.watch import Sighting, largest_ratios

from clip_eval.run.declared_checks import declared_checks
from clip_eval.verdict.run_record import RunRecord

__all__ = ["Matrix", "render_csv", "render_markdown"]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Sightings of faults, and healthy runs by name."""

    sightings: Sequence[Sighting]
    healthy: Mapping[str, RunRecord]

    @property
    def killed(self) -> list[Sighting]:
        """Faults that failed the gate by every check that should see them."""
        return [s for s in self.sightings if s.record.verdict == "fail" and not s.blind]

    @property
    def numerical(self) -> list[Sighting]:
        """Faults that lie in a module which the gate has to name."""
        return [sighting for sighting in self.sightings if sighting.fault.diverges_at]

    @property
    def placed(self) -> list[Sighting]:
        """Numerical faults whose module was named, and no other."""
        return [sighting for sighting in self.numerical if sighting.named and not sighting.misplaced]

    @property
    def alarms(self) -> list[str]:
        """Healthy runs in which a check failed."""
        return [
            name
            for name, record in self.healthy.items()
            if any(check.outcome in ("failed", "error") for check in record.checks)
        ]

    @property
    def seen_under(self) -> dict[str, list[str]]:
        """Each deviation in force here, with the faults that a check sees which asserts it and must see them."""
        records = [*self.healthy.values(), *(sighting.record for sighting in self.sightings)]
        found: dict[str, list[str]] = {
            check.deviation: [] for record in records for check in record.checks if check.deviation is not None
        }
        for sighting in self.sightings:
            results = (result for check in sighting.fault.seen_by for result in sighting.failed.get(check, ()))
            for name in dict.fromkeys(result.deviation for result in results if result.deviation is not None):
                found[name].append(sighting.fault.id)
        return dict(sorted(found.items()))

    @property
    def lone(self) -> dict[str, str]:
        """Faults that exactly one check sees, with that check."""
        return {s.fault.id: next(iter(s.failed)) for s in self.sightings if len(s.failed) == 1}

    @property
    def superfluous(self) -> list[str]:
        """Checks of contract and baseline without which every fault would still be seen by another."""
        needed = set(self.lone.values())
        return [check for check in _checks() if check not in needed]


def render_csv(matrix: Matrix) -> str:
    """One line a fault, one column a check: x for failed, X where the fault must be seen by it, - where it was not
    asked, as a fault of an image processor says nothing of a model, and empty otherwise.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["fault", "diverges at", *_checks()])
    for sighting in matrix.sightings:
        cells = [_cell(sighting, check) for check in _checks()]
        writer.writerow([sighting.fault.id, " ".join(sighting.named), *cells])
    return text.getvalue()


def render_markdown(matrix: Matrix) -> str:
    """The rates, what is to be questioned, and a line for each fault."""
    parts = (_rates, _questions, _deviations, _margins, _faults)
    return "\n".join(line for part in parts for line in (*part(matrix), ""))


def _rates(matrix: Matrix) -> list[str]:
    return [
        "# Detection",
        "",
        f"- killed: {_share(len(matrix.killed), len(matrix.sightings))} faults",
        f"- localised: {_share(len(matrix.placed), len(matrix.numerical))} numerical faults",
        f"- false alarms: {_share(len(matrix.alarms), len(matrix.healthy))} healthy runs{_names(matrix.alarms)}",
    ]


def _questions(matrix: Matrix) -> list[str]:
    return [
        f"Seen by one check alone: {len(matrix.lone)} faults.",
        "",
        f"Checks that see nothing alone: {', '.join(matrix.superfluous) or 'none'}.",
    ]


def _deviations(matrix: Matrix) -> list[str]:
    rows = [f"| {name} | {len(faults)} | {', '.join(faults[:3])} |" for name, faults in matrix.seen_under.items()]
    return ["| declared deviation | faults that checks which assert it still see | such as |", "|---|---|---|", *rows]


def _margins(matrix: Matrix) -> list[str]:
    margins = sorted((s.margin, s.fault.id) for s in matrix.numerical if s.margin is not None)
    largest = largest_ratios(matrix.healthy.values())
    return [
        "| healthy: largest error over bound | budget | where |",
        "|---|---|---|",
        *(f"| {ratio:.3f} | {budget} | {where} |" for budget, (ratio, where) in sorted(largest.items())),
        "",
        "| faults: smallest error over bound | fault |",
        "|---|---|",
        *(f"| {margin:.3g} | {fault} |" for margin, fault in margins[:10]),
    ]


def _faults(matrix: Matrix) -> list[str]:
    rows = [
        f"| {s.fault.id} | {s.fault.what} | {', '.join(s.fault.seen_by)} | {len(s.failed)} | {', '.join(s.named)} |"
        for s in matrix.sightings
    ]
    return ["| fault | what is wrong | must be seen by | checks that failed | named |", "|---|---|---|---|---|", *rows]


def _checks() -> list[str]:
    return [check.id for check in declared_checks() if check.scope in ("contract", "baseline")]


def _cell(sighting: Sighting, check: str) -> str:
    if check in sighting.failed:
        return "X" if check in sighting.fault.seen_by else "x"
    if check in sighting.fault.seen_by:
        return "MISSED"
    return "" if check.partition(".")[0] in sighting.parts else "-"


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole}"


def _names(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})" if names else ""
