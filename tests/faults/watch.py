"""Applies a fault, runs the suite, and says which checks saw it and where they found it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from support.lone_towers import write_part
from support.open_clip import write_original

from clip_eval.baseline.write_pack import write_pack
from clip_eval.families.roles import WHOLE
from clip_eval.run.approval import build_pack
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings
from clip_eval.verdict.measurement import Measurement
from clip_eval.verdict.run_record import CheckResult, RunRecord
from faults.fault import Fault
from faults.runner import Runner

__all__ = ["CHECKPOINT", "Sighting", "Watch", "largest_ratios"]

CHECKPOINT = Path(__file__).parents[2] / "fixtures" / "shapes-clip"


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a run under a fault showed.

    Attributes:
        fault: what was wrong.
        record: the run's record.
        exit_code: what the run ended with.
        parts: the checks that were run, or the chapters.
    """

    fault: Fault
    record: RunRecord
    exit_code: int
    parts: frozenset[str]

    @property
    def failed(self) -> Mapping[str, tuple[CheckResult, ...]]:
        """The failed results by check id."""
        found: dict[str, tuple[CheckResult, ...]] = {}
        for check in self.record.checks:
            if check.outcome == "failed":
                found[check.id] = (*found.get(check.id, ()), check)
        return found

    @property
    def blind(self) -> tuple[str, ...]:
        """The checks that should have seen the fault and did not."""
        return tuple(check for check in self.fault.seen_by if check not in self.failed)

    @property
    def named(self) -> tuple[str, ...]:
        """The modules that the checks which should see the fault named as the first that diverges, sorted."""
        results = (result for check in self.fault.seen_by for result in self.failed.get(check, ()))
        return tuple(sorted({result.diverges_at for result in results if result.diverges_at}))

    @property
    def misplaced(self) -> tuple[str, ...]:
        """The modules named that are not where the fault is."""
        return tuple(module for module in self.named if not self.fault.places(module))

    @property
    def margin(self) -> float | None:
        """Error over bound at the worst element that the checks which should see the fault measured; None without
        a number.
        """
        results = (result for check in self.fault.seen_by for result in self.failed.get(check, ()))
        ratios = [m.ratio for result in results for m in result.measurements if not m.passed and m.ratio is not None]
        return max(ratios, default=None)


@dataclass(slots=True)
class Watch:
    """Makes each sighting once.

    Args:
        directory: an empty directory for changed copies of the checkpoint, and for a pack of the unchanged one.
        runner: runs the suite.
    """

    directory: Path
    runner: Runner = field(default_factory=Runner)
    _sightings: dict[tuple[str, frozenset[str]], Sighting] = field(default_factory=dict, repr=False)

    def sight(self, fault: Fault, chapters: frozenset[str] = frozenset()) -> Sighting:
        """Run the suite under a fault: those chapters, or the checks that must see it.

        What a fault keeps from one call for the next can take the calls of other checks to be seen: where a check by
        itself is blind, the whole chapters of those checks are run.
        """
        if chapters:
            return self._sighted(fault, chapters)
        alone = self._sighted(fault, frozenset(fault.seen_by))
        return self._sighted(fault, fault.chapters) if alone.blind else alone

    def _sighted(self, fault: Fault, parts: frozenset[str]) -> Sighting:
        key = (fault.id, parts)
        if key not in self._sightings:
            options = (
                *fault.options,
                *(("--clip-baseline", str(self.pack())) if fault.baseline else ()),
                *(("--clip-converted-from", str(self.original())) if fault.converted else ()),
            )
            run = self.runner.run(self.checkpoint(fault), *options, parts=parts, during=fault.patch)
            self._sightings[key] = Sighting(fault, run.record, run.exit_code, parts)
        return self._sightings[key]

    def checkpoint(self, fault: Fault) -> Path:
        """The checkpoint that the fault is shown on: the shipped one, a part of it, or a copy whose files it edited."""
        sound = self._sound(fault.on)
        if fault.edit is None:
            return sound
        copy = self.directory / fault.id
        if not copy.exists():
            shutil.copytree(sound, copy)
            fault.edit(copy)
        return copy

    def _sound(self, part: str) -> Path:
        if part == WHOLE:
            return CHECKPOINT
        alone = self.directory / part
        return alone if alone.exists() else write_part(alone, part)

    def pack(self) -> Path:
        """A baseline pack of the shipped checkpoint, recorded in this environment."""
        path = self.directory / "pack"
        if not path.exists():
            write_pack(path, build_pack(Session(Settings(model=str(CHECKPOINT), dtype="float32"))))
        return path

    def original(self) -> Path:
        """A checkpoint of open_clip of which the shipped one is the conversion."""
        path = self.directory / "original"
        return path if path.exists() else write_original(CHECKPOINT, path)


def largest_ratios(records: Iterable[RunRecord]) -> dict[str, tuple[float, str]]:
    """Budget to the largest error over bound that any passed measurement under it has, and the check that measured
    it.
    """
    largest: dict[str, tuple[float, str]] = {}
    for record in records:
        for check in record.checks:
            for measurement in check.measurements:
                _keep(largest, measurement, f"{check.id}[{check.case}] {measurement.name}")
    return largest


def _keep(largest: dict[str, tuple[float, str]], measurement: Measurement, where: str) -> None:
    ratio = measurement.ratio
    if ratio is not None and ratio > largest.get(measurement.budget, (0.0, ""))[0]:
        largest[measurement.budget] = (ratio, where)
