"""The bench itself: each configuration over batch sizes and text lengths, advice, comparison with the other side."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.processes import require_clip_eval
from clip_eval.progress import seconds_left
from clip_eval.subject import require_attention, require_device
from clip_eval.subject.candidate import Candidate
from clip_eval.subject.environment import provenance as provenance_of
from clip_eval.throughput.bench.comparison import compare_sides
from clip_eval.throughput.bench.many_devices import compute_at_once
from clip_eval.throughput.bench.options import Options
from clip_eval.throughput.bench.recommend import recommend
from clip_eval.throughput.bench.results import Bench, Compiled, Configuration
from clip_eval.throughput.clock import clock_of, torch_threads
from clip_eval.throughput.cuda import energy_meter, finish
from clip_eval.throughput.paired import IN_ONE_RUN, Turns, measure, pilot
from clip_eval.throughput.roofline import ceilings
from clip_eval.throughput.sweep import batch_sweep, lengths, stays_within_budget
from clip_eval.throughput.trial import Trial, kinds_of, make_trial

__all__ = ["run_bench"]

_ENERGY_S = 2.0  # of calls: the meters are read some ten times a second
_NO_ENERGY = "energy was not read: on a CPU, or without pynvml, nothing says it"
_NO_GPU = "CUDA graphs, CUDA events and the allocator's peak were not used: the device is a CPU"


@dataclass(frozen=True, slots=True)
class Tried:
    """A configuration with the candidate that it was measured in, to be timed again."""

    candidate: Candidate
    configuration: Configuration

    def trial(self, kind: str, rows: int, through: Callable[..., object] | None = None) -> Trial:
        """Return a trial of this configuration."""
        return make_trial(kind, self.candidate.subject, self.candidate.batch, rows=rows, through=through)


def run_bench(options: Options, say: Callable[[str], None] = lambda _: None) -> Bench:
    """Run the bench.

    Args:
        options: what the user asked for.
        say: called with a line on each step.

    Raises:
        ClipEvalError: something that the user named cannot be read, or the device cannot be used.
    """
    started, start = datetime.now(tz=timezone.utc), time.perf_counter()
    _open_inputs(options)
    with torch_threads(options.threads):
        tried = list(_tried(options, say))
        first = tried[0].candidate
        trials = {one.configuration.name: one.trial for one in tried}
        say("comparing the fastest with the default, in turns")
        advice = tuple(
            recommend(kind, [one.configuration for one in tried], trials, options.device)
            for kind in tried[0].configuration.kinds
        )
        notes: list[str] = [] if options.device.startswith("cuda") else [_NO_GPU]
        if not any(one.configuration.joules_per_row for one in tried):
            notes.append(_NO_ENERGY)
        compiled = tuple(_compiled(options, tried, {one.kind: one.configuration for one in advice}, say, notes))
        against, comparisons = compare_sides(options, [(one.candidate, one.configuration) for one in tried], say)
        at_once = tuple(compute_at_once(options, advice, {one.configuration.name: one.candidate for one in tried}, say))
        provenance = {**provenance_of(first), "threads": options.threads, "clock": clock_of(options.device).name}
    return Bench(
        started=started.isoformat(timespec="seconds"),
        duration_s=round(time.perf_counter() - start, 1),
        arguments=options.arguments(),
        provenance=provenance,
        source=first.checkpoint.source,
        configurations=tuple(one.configuration for one in tried),
        compiled=compiled,
        recommendations=advice,
        against=against,
        comparisons=comparisons,
        at_once=at_once,
        notes=tuple(notes),
    )


def _open_inputs(options: Options) -> None:
    """Open everything the user named, before anything is measured. Raises ClipEvalError."""
    open_checkpoint(options.model, variant=options.variant)
    if options.against is not None:
        open_checkpoint(options.against)
    if options.against_python is not None:
        require_clip_eval(options.against_python)
    for device in options.devices:
        require_device(device)
    for attention in options.attentions:
        require_attention(attention)


def _tried(options: Options, say: Callable[[str], None]) -> Iterator[Tried]:
    """Every configuration, the default first, without those that differ in name only."""
    stored = Candidate(options.model, device=options.device, variant=options.variant).dtype
    dtypes = options.dtypes or tuple(dict.fromkeys((stored, "bfloat16")))
    attentions = options.attentions or (None, "eager")
    oracles: dict[str, Oracle] = {}
    known: set[str] = set()
    start, total = time.perf_counter(), len(dtypes) * len(attentions)
    for done, (dtype, attention) in enumerate(itertools.product(dtypes, attentions)):
        left = seconds_left(done, total, time.perf_counter() - start)
        named = f"{dtype} {attention or 'with the default attention'}"
        say(f"{named}: configuration {done + 1} of {total}{f', {left}' if left else ''}")
        candidate = Candidate(options.model, dtype, options.device, attention, variant=options.variant)
        if (name := f"{dtype} {candidate.clip.attention}") not in known:
            known.add(name)
            oracles.setdefault(dtype, candidate.oracle)
            yield Tried(candidate, _configuration(candidate, oracles[dtype], options, say))


def _configuration(candidate: Candidate, oracle: Oracle, options: Options, say: Callable[[str], None]) -> Configuration:
    subject, clip = candidate.subject, candidate.clip
    name = f"{clip.dtype} {clip.attention}"
    limits = ceilings(clip.dtype, options.device, clock_of(options.device).seconds)
    batches = []
    kinds = kinds_of(candidate.checkpoint.holds)
    for kind in kinds:
        for point in batch_sweep(kind, subject, candidate.batch, limits, most=options.most_rows):
            say(f"{name}: {kind} by {point.rows}: {point.per_s:,.0f}/s")
            batches.append(point)
    configuration = Configuration(
        dtype=clip.dtype,
        attention=clip.attention,
        within_budget={
            kind: stays_within_budget(
                make_trial(kind, subject, candidate.batch, rows=len(candidate.batch.input_ids)), oracle
            )
            for kind in kinds
        },
        batches=tuple(batches),
        lengths=(),
        ceilings=limits,
        joules_per_row={},
    )
    return replace(
        configuration,
        lengths=tuple(lengths(subject, candidate.batch, limits, configuration.best("texts").rows))
        if "texts" in kinds
        else (),
        joules_per_row=dict(_energy(candidate, configuration)),
    )


def _energy(candidate: Candidate, configuration: Configuration) -> Iterator[tuple[str, float]]:
    """The joules of a row of each kind, at its saturated batch."""
    meter = energy_meter(candidate.device)
    if meter is None:
        return
    for kind in configuration.kinds:
        trial = make_trial(kind, candidate.subject, candidate.batch, rows=configuration.best(kind).rows)
        trial.subject()
        finish(candidate.device)
        before, start, calls = meter(), time.perf_counter(), 0
        while time.perf_counter() - start < _ENERGY_S:
            trial.subject()
            finish(candidate.device)
            calls += 1
        yield kind, (meter() - before) / (calls * trial.rows)


def _compiled(
    options: Options, tried: list[Tried], chosen: dict[str, str], say: Callable[[str], None], notes: list[str]
) -> Iterator[Compiled]:
    """The effect of torch.compile on each kind, in the configuration recommended for it."""
    for kind, name in chosen.items() if options.compiled else ():
        one = next(one for one in tried if one.configuration.name == name)
        say(f"{name}: compiling {kind}")
        try:
            yield _compile(one, kind, options.device)
        except RuntimeError as problem:  # torch's compiler raises subclasses of it, also if there is no C++ compiler
            notes.append(f"{kind} could not be compiled: {str(problem).strip().splitlines()[0]}")


def _compile(one: Tried, kind: str, device: str) -> Compiled:
    import torch

    rows = one.configuration.best(kind).rows
    plain = one.trial(kind, rows)
    compiled = one.trial(kind, rows, torch.compile)
    start = time.perf_counter()
    compiled.subject()
    compile_s = time.perf_counter() - start
    seconds = clock_of(device).seconds
    pairs = pilot(Turns(compiled.subject, plain.subject, seconds), IN_ONE_RUN)
    measured = measure(Turns(compiled.subject, plain.subject, seconds), pairs)
    saved_s = statistics.median(measured.reference_s) - statistics.median(measured.subject_s)
    pays = measured.ratio.verdict(0.0) == "faster" and saved_s > 0
    return Compiled(
        kind=kind,
        rows=rows,
        compile_s=compile_s,
        ratio=measured.ratio,
        break_even=round(compile_s / saved_s * rows) if pays else None,
        within_budget=stays_within_budget(compiled, one.candidate.oracle),
    )
