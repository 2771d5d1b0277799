"""A history on a terminal: its runs as a table, and what moved between two of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clip_eval.errors import UsageError
from clip_eval.history.runs import KINDS, Run
from clip_eval.report.text import clip
from clip_eval.verdict.measurement import format_number

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Moved", "moved", "moved_table", "run_of_number", "runs_table", "when"]

_MARGINS = 10  # of two runs, those that moved most


@dataclass(frozen=True, slots=True)
class Moved:
    """One number in two runs; None where a run has none."""

    kind: str
    name: str
    before: float | None
    after: float | None

    @property
    def factor(self) -> float:
        """How many times the later number is the earlier one, or the other way round; infinite where one is missing."""
        if not self.before or not self.after:
            return 1.0 if self.before == self.after else math.inf
        return max(self.after / self.before, self.before / self.after)


def when(run: Run) -> str:
    """The day and minute at which a run started."""
    return clip(run.started, limit=60)[:16].replace("T", " ")


def runs_table(runs: Sequence[Run]) -> Table:
    """Return the runs, one a row; it fits 80 columns."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_edge=False)
    for name in ("run", "started", "model", "verdict", "transformers", "margin", "time"):
        table.add_column(
            name, justify="right" if name in ("run", "margin", "time") else "left", no_wrap=name != "model",
            overflow="fold",
        )  # fmt: skip
    for run in runs:
        margin, time = (format_number(run.largest(kind), digits=3) for kind in ("margin", "ratio"))
        how = ", ".join(part for part in (run.dtype, run.device) if part)
        cells = (
            str(run.number),
            when(run),
            f"{run.model} {how}".strip(),
            run.verdict,
            run.transformers or "",
            margin,
            time,
        )
        table.add_row(*(Text(clip(cell, limit=200)) for cell in cells))
    return table


def run_of_number(runs: Sequence[Run], number: int) -> Run:
    """Return the run of a number. Raises UsageError with the numbers that there are."""
    found = next((run for run in runs if run.number == number), None)
    if found is None:
        numbers = [run.number for run in runs]
        fix = f"There are runs {min(numbers)} to {max(numbers)}" if numbers else "The history has no runs"
        raise UsageError(f"the history has no run {number}", fix=fix)
    return found


def moved(before: Run, after: Run) -> list[Moved]:
    """What differs between two runs: scores, then ratios, then the margins that moved most."""
    keys = sorted({*before.measured, *after.measured}, key=lambda key: (KINDS.index(key[0]), key[1]))
    values = {run.number: {key: one.value for key, one in run.measured.items()} for run in (before, after)}
    found = [Moved(*key, values[before.number].get(key), values[after.number].get(key)) for key in keys]
    found = [one for one in found if one.before != one.after]
    margins = sorted((one for one in found if one.kind == "margin"), key=lambda one: -one.factor)[:_MARGINS]
    return [*(one for kind in ("score", "ratio") for one in found if one.kind == kind), *margins]


def moved_table(before: Run, after: Run) -> Table:
    """Return what moved, one number a row; it fits 80 columns."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_edge=False)
    table.add_column("kind", no_wrap=True)
    table.add_column("name", overflow="fold")
    for number in (before.number, after.number):
        table.add_column(f"run {number}", justify="right", no_wrap=True)
    for one in moved(before, after):
        values = (format_number(value, digits=4) for value in (one.before, one.after))
        table.add_row(one.kind, Text(clip(one.name)), *values)
    return table
