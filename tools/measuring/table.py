"""The table of measured errors: each budget with the largest share of it that a healthy subject used, and where."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from measuring.process import Reading

__all__ = ["Measured", "render"]

MOST_ROOM = 4.0
"""A budget that is more than this many times the worst healthy error is wider than it has to be."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured with one interpreter.

    Attributes:
        release: transformers and image backend in words.
        gates: readings of full gates, one for each budget, attention and dtype.
        process: readings of the measuring process.
        failed: the checks that failed in gates, as "gate: check".
        count: how many gates there were.
    """

    release: str
    gates: Sequence[Reading]
    process: Sequence[Reading]
    failed: Sequence[str]
    count: int


def render(everything: Sequence[Measured]) -> str:
    """The page: what was run, the false alarms, and a line for each budget."""
    gates, failed = sum(m.count for m in everything), [line for m in everything for line in m.failed]
    outside = [f"{m.release}: {r.where}: {r.output}" for m in everything for r in m.process if not r.passed]
    runs = sum(len({r.where for r in m.process}) for m in everything)
    what = (
        f"Healthy subjects only, under {', '.join(m.release for m in everything)}: {gates} gates of "
        "`fixtures/shapes-clip` (eager and sdpa; float32, bfloat16, float16), and in one measuring process a release "
        f"{runs} runs: that checkpoint, the same with planted outlier channels, and random towers, wide ones and ones "
        "with many heads; batch sizes 1 to 32, 1 and 2 threads. Pictures by Pillow and, where installed, torchvision. "
        "Bounds are elementwise; what counts here is the worst element of all."
    )
    return "\n".join(
        [
            "# Budgets and measured errors",
            "",
            *textwrap.wrap(what, 120),
            "",
            f"- false alarms in gates: {len(failed)} of {gates}{_listed(failed)}",
            f"- measurements outside their bound in the processes: {len(outside)} of {runs} runs{_listed(outside)}",
            "",
            "| budget | worst error / bound | room | where |",
            "|---|---|---|---|",
            *_lines(everything),
            "",
            f"Room is bound over worst error; more than {MOST_ROOM:g} would be wider than healthy subjects need.",
            "",
        ]
    )


def _lines(everything: Sequence[Measured]) -> list[str]:
    worst: dict[str, tuple[Reading, str]] = {}
    for measured in everything:
        for reading in (*measured.gates, *measured.process):
            if reading.budget not in worst or reading.ratio > worst[reading.budget][0].ratio:
                worst[reading.budget] = (reading, measured.release)
    return [
        f"| {budget} | {reading.ratio:.3f} | {_room(reading.ratio)} | {release}: {reading.where}: {reading.output} |"
        for budget, (reading, release) in sorted(worst.items())
    ]


def _room(ratio: float) -> str:
    if ratio == 0:
        return "no error seen"
    return f"{1 / ratio:.1f}{' **wide**' if 1 / ratio > MOST_ROOM else ''}"


def _listed(lines: Sequence[str]) -> str:
    return f" ({'; '.join(lines)})" if lines else ""
