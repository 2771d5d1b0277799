"""Which configuration to run, and why: the fastest by its curve, once timed in turns with the default."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from clip_eval.throughput.bench.results import Configuration, Recommendation
from clip_eval.throughput.clock import clock_of
from clip_eval.throughput.paired import Turns, measure, pilot
from clip_eval.throughput.ratio import Ratio
from clip_eval.throughput.sweep import Point
from clip_eval.throughput.trial import Trial
from clip_eval.verdict.budgets import SPEED_MARGIN_IN_RUN

__all__ = ["recommend"]

MakeTrial = Callable[[str, int], Trial]


def recommend(
    kind: str, configurations: Sequence[Configuration], trials: Mapping[str, MakeTrial], device: str
) -> Recommendation:
    """Return the fastest configuration whose outputs stay within budget, unless the default is as fast.

    Args:
        kind: one of `clip_eval.throughput.trial.KINDS`.
        configurations: all that were tried, the default first.
        trials: name of a configuration to what makes a trial of it.
        device: that all of them run on.
    """
    default = configurations[0]
    sound = [one for one in configurations if one.within_budget[kind]]
    reasons = [
        f"{one.name} is excluded: its outputs leave the budget of {one.dtype}."
        for one in configurations
        if not one.within_budget[kind]
    ]
    if not sound:
        return _advice(kind, default, ["No configuration stays within its budget: this is the default.", *reasons])
    fastest = max(sound, key=lambda one: one.best(kind).per_s)
    if fastest is default:
        return _advice(kind, default, [f"The default, {default.name}, is the fastest that was tried.", *reasons])
    rows = fastest.best(kind).rows
    ratio = _in_turns(trials[fastest.name](kind, rows), trials[default.name](kind, rows), device)
    compared = f"{fastest.name} takes {ratio} times as long as the default, {default.name}, in turns at {rows} rows"
    if default in sound and ratio.verdict(SPEED_MARGIN_IN_RUN) != "faster":
        return _advice(kind, default, [f"{compared}: too small a difference to change anything.", *reasons])
    return _advice(kind, fastest, [f"{compared}; its outputs stay within the budget of {fastest.dtype}.", *reasons])


def _in_turns(one: Trial, other: Trial, device: str) -> Ratio:
    seconds = clock_of(device).seconds
    pairs = pilot(Turns(one.subject, other.subject, seconds))
    return measure(Turns(one.subject, other.subject, seconds), pairs).ratio


def _advice(kind: str, chosen: Configuration, reasons: Sequence[str]) -> Recommendation:
    best = chosen.best(kind)
    return Recommendation(
        kind=kind,
        configuration=chosen.name,
        rows=best.rows,
        reasons=(*reasons, _on_rows(best, chosen.points(kind)), _on_ceiling(best)),
    )


def _on_rows(best: Point, points: Sequence[Point]) -> str:
    largest = max(point.rows for point in points)
    if best.rows == largest:
        return f"{best.rows} rows are the most that were tried; throughput was still growing."
    return f"Batches of more than {best.rows} rows bring less than 5 % more throughput, and take longer."


def _on_ceiling(best: Point) -> str:
    return (
        f"It reaches {best.share:.0%} of what the machine's rate of {best.binds} allows, and {1 / best.ratio.value:.0%}"
        " of the speed of the same forward in plain torch."
    )
