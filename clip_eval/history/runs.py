"""One run in a history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["KINDS", "Measured", "Run"]

KINDS = ("score", "margin", "ratio")
"""Kinds of numbers: a task's score, a check's largest error over bound, a time over the reference's."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One number of a run, with its interval if it has one; None for NaN."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run.

    Attributes:
        number: its place in the history, from 1; 0 before it is there.
        started: ISO 8601 with a time zone.
        model: the last part of its path, or its hub id without a revision.
        dtype: None where the checkpoint was never loaded.
        device: kind of device, such as cuda; None as above.
        verdict: pass, fail or inconclusive.
        headline: the verdict in a line.
        duration_s: seconds.
        weights: fingerprint; None without one.
        transformers: release.
        torch: release.
        clip_eval: release.
        measured: kind, one of `KINDS`, and name to number.
    """

    number: int = 0
    started: str
    model: str
    dtype: str | None
    device: str | None
    verdict: str
    headline: str
    duration_s: float
    weights: str | None
    transformers: str | None
    torch: str | None
    clip_eval: str | None
    measured: Mapping[tuple[str, str], Measured] = field(default_factory=dict)

    @property
    def subject(self) -> tuple[str, str | None, str | None]:
        """What runs of one trend have in common."""
        return self.model, self.dtype, self.device

    def of(self, kind: str) -> dict[str, Measured]:
        """Return the numbers of one kind, by name."""
        return {name: number for (each, name), number in self.measured.items() if each == kind}

    def largest(self, kind: str) -> float | None:
        """Return the largest number of a kind, such as the margin that is nearest to its bound; None without any."""
        return max((number.value for number in self.of(kind).values() if number.value is not None), default=None)
