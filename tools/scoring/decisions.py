"""How often two equal models are called worse, and how often a loss that is there is seen, or taken for the same.

`PYTHONPATH=tools python -m scoring.decisions --out reports/tasks/decisions.md` draws pairs of runs, 1,000 a line (300
of samples in groups), and has `evaluate --against` and the gate's rule against a pack decide each. It takes minutes.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clip_eval.evaluation.comparison import compare_score
from clip_eval.tasks.judgement import against_reference
from clip_eval.tasks.task import Score, Scored

EVALUATE = ("better", "same", "no_worse", "inconclusive", "worse")
GATE = ("passed", "inconclusive", "failed")
HITS = 0.8  # of the other model
ALIKE = 0.5  # of groups, in which every sample has the same answer of both models


@dataclass(frozen=True, slots=True)
class Cell:
    """One line of the report.

    Attributes:
        samples: of the dataset.
        group: samples that belong together; 1 where all are independent.
        changed: share of answers that differ between the models.
        loss: share that is lost, net.
    """

    samples: int
    group: int
    changed: float
    loss: float


CELLS = [
    *(Cell(n, 1, 0.05, loss) for n in (100, 500, 2_000, 5_000) for loss in (0.0, 0.01, 0.02, 0.05)),
    *(Cell(n, 1, 0.02, 0.02) for n in (50, 100, 500)),
    *(Cell(n, 5, 0.05, loss) for n in (500, 2_000) for loss in (0.0, 0.02, 0.05)),
]


def drawn(cell: Cell, runs: int) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield the answers of the other model and of the candidate, (samples,) each, right or wrong."""
    generator = np.random.default_rng(cell.samples)
    lost, gained = (cell.changed + cell.loss) / 2, (cell.changed - cell.loss) / 2
    ways = np.array([lost, gained, HITS - lost, 1 - HITS - gained])  # lost, gained, both right, both wrong
    groups = cell.samples // cell.group
    for _ in range(runs):
        each = generator.choice(4, size=(groups, cell.group), p=ways)  # (groups, samples of each)
        alike = generator.random((groups, 1)) < ALIKE  # (groups, 1)
        states = np.where(alike, each[:, :1], each).ravel()  # (samples,)
        yield np.isin(states, (0, 2)), np.isin(states, (1, 2))


def scored(hits: NDArray[np.bool_], group: int) -> Scored:
    """Return answers, (samples,), as the scores of a task."""
    names = tuple(map(str, range(len(hits))))
    groups = {name: str(place // group) for place, name in enumerate(names)} if group > 1 else {}
    score = Score(name="top1", values=hits.astype(np.float64), chance=0.1)
    return Scored(
        task="simulated", dataset="", samples=names, scores=(score,), details={}, unreadable=(), groups=groups
    )


@cache
def decided_by_counts(samples: int, lost: int, gained: int) -> tuple[str, str]:
    """Return what is decided of independent samples: their order does not matter."""
    states = np.repeat([0, 1, 2], [lost, gained, samples - lost - gained])  # (samples,)
    return decided(np.isin(states, (0, 2)), np.isin(states, (1, 2)), 1)


def decided(other: NDArray[np.bool_], candidate: NDArray[np.bool_], group: int) -> tuple[str, str]:
    """Return the outcomes of `evaluate --against` and of the gate's rule."""
    one, two = scored(candidate, group), scored(other, group)
    return compare_score(one, one.primary, two).outcome, against_reference(one, two).outcome


def row(cell: Cell, runs: int) -> str:
    """Return a line of the table."""
    found = [
        decided_by_counts(cell.samples, int((other & ~candidate).sum()), int((candidate & ~other).sum()))
        if cell.group == 1
        else decided(other, candidate, cell.group)
        for other, candidate in drawn(cell, runs)
    ]
    counts = [Counter(outcomes) for outcomes in zip(*found, strict=True)]
    shares = [counts[0][name] / runs for name in EVALUATE] + [counts[1][name] / runs for name in GATE]
    of = f"{cell.samples:,}" if cell.group == 1 else f"{cell.samples:,} in {cell.samples // cell.group:,} groups"
    cells = [of, f"{cell.changed:.0%}", f"{cell.loss:.0%}", str(runs), *(f"{share:.1%}" for share in shares)]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Draw, decide, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the report, a Markdown file")
    parser.add_argument("--runs", type=int, default=1_000, help="pairs of runs a line; three in ten of them in groups")
    options = parser.parse_args()
    names = ("samples", "changed", "net loss", "runs", *(name.replace("_", " ") for name in EVALUATE))
    columns = (*names, *(f"gate: {name}" for name in GATE))
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for cell in CELLS:
        lines.append(row(cell, options.runs if cell.group == 1 else options.runs * 3 // 10))
        print(lines[-1], flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(PAGE + "\n".join(lines) + "\n", encoding="utf-8")


PAGE = """# False alarms and power of paired comparisons

Pairs of runs are drawn: a share of the answers differs between the two models, and so much of it is a net loss. The
other model has 80 % right; margin 0.01. In groups of five, half of the groups have one answer in common. First what
`evaluate --against` says, then the rule of a gate against a pack. Where the net loss is 0, *worse* and *failed* are
false alarms, at most 1 % by the significance level. Where it is more than 1 %, they are the power, and *better*,
*same*, *no worse* and *passed* are wrong: 2.5 % at most are to be. A loss of 1 % is the margin itself.

"""


if __name__ == "__main__":
    main()
