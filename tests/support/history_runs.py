"""A run for the tests of histories, and a process that adds some; it imports little, as several are started."""

from __future__ import annotations

import math
import os
from dataclasses import replace

from clip_eval.history.database import add
from clip_eval.history.runs import Measured, Run

__all__ = ["RUN", "add_runs"]

RUN = Run(
    started="2026-11-28T18:13:10+00:00",
    model="shapes-clip",
    dtype="float32",
    device="cpu",
    verdict="pass",
    headline="pass: contract",
    duration_s=87.5,
    weights="0e451cc9",
    transformers="5.23.0",
    torch="2.13.0",
    clip_eval="0.1.0",
    measured={
        ("score", "zero_shot_top1"): Measured(0.9, 0.85, 0.95),
        ("margin", "a.b[c]"): Measured(0.5),
        ("margin", "broken"): Measured(math.inf),
        ("ratio", "image_tower"): Measured(1.01, 0.99, 1.03),
    },
)


def add_runs(file: str, count: int) -> None:
    """Add so many runs, whose headlines are this process's number and theirs."""
    for number in range(count):
        add(file, replace(RUN, headline=f"{os.getpid()} {number}"))
