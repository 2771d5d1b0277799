"""Measure an approved release's speed here, for its pack."""

from __future__ import annotations

from datetime import datetime, timezone

from clip_eval.subject.observations import Clip
from clip_eval.throughput.clock import clock_of, torch_threads
from clip_eval.throughput.conditions import THREADS, conditions_of
from clip_eval.throughput.paired import Turns, measure, pilot
from clip_eval.throughput.ratio import Ratio, Speed
from clip_eval.throughput.trial import Trial, kinds_of, make_trial

__all__ = ["measured_speed", "timed"]


def measured_speed(clip: Clip) -> Speed:
    """Time every kind of trial that there is in turns with the plain forward and return the entry for this machine."""
    trials = (make_trial(kind, clip.subject, clip.batch) for kind in kinds_of(clip.holds))
    return Speed(
        conditions=conditions_of(clip),
        transformers=str(clip.release),
        recorded=datetime.now(tz=timezone.utc).isoformat(timespec="seconds"),
        ratios={trial.name: timed(trial, clip.subject.device) for trial in trials},
    )


def timed(trial: Trial, device: str) -> Ratio:
    """Return the subject's time over the plain forward's, as the gate measures it."""
    clock = clock_of(device)

    def turns() -> Turns:
        return Turns(trial.subject, trial.floor, clock.seconds)

    with torch_threads(THREADS):
        return measure(turns(), pilot(turns())).ratio
