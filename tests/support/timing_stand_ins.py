"""Trials, ratios and conditions as values, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from clip_eval.throughput.paired import Paired
from clip_eval.throughput.ratio import Conditions, Ratio, Speed

__all__ = ["CONDITIONS", "Benchmark", "a_speed", "found"]

CONDITIONS = Conditions(
    cpu="Some CPU (6/1/2)", cores=2, gpu=None, torch="2.13.0+cpu", dtype="float32", attention="sdpa", threads=1, trial=1
)


def a_speed(transformers: str = "5.23.0", value: float = 1.2, **changes: Any) -> Speed:
    """Return a pack's entry in which every timing came out at `value`, within 1 %."""
    ratio = Ratio(value, 0.99 * value, 1.01 * value)
    return Speed(
        conditions=replace(CONDITIONS, **changes),
        transformers=transformers,
        recorded="2026-01-01T00:00:00+00:00",
        ratios=dict.fromkeys(("image_embeddings", "text_embeddings", "logits"), ratio),
    )


def found(value: float = 1.25, *, width: float = 0.05, seconds: float = 0.5) -> Paired:
    """Return forty pairs whose median ratio is `value`, with an interval of `width` to either side."""
    return Paired(
        ratio=Ratio(value, value - width, value + width),
        pairs=40,
        subject_s=(seconds,) * 40,
        reference_s=(seconds / value,) * 40,
    )


class Benchmark:
    """pytest-benchmark's fixture as far as the check uses it; `lost` rounds are made and not timed."""

    def __init__(self, lost: int = 0) -> None:
        self.lost = lost
        self.group = ""
        self.extra_info: dict[str, Any] = {}
        self.stats: Any = None

    def pedantic(self, target: Callable[[], None], *, setup: Callable[[], None], rounds: int) -> None:
        """Run setup and target in turns."""
        for _ in range(rounds):
            setup()
            target()
        self.stats = SimpleNamespace(stats=SimpleNamespace(data=[1.0] * (rounds - self.lost)))
