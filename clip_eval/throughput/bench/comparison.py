"""The other side: another checkpoint in this process, or a checkpoint in another interpreter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.errors import ProcessError
from clip_eval.subject.candidate import Candidate
from clip_eval.throughput.bench.options import Options
from clip_eval.throughput.bench.results import Comparison, Configuration
from clip_eval.throughput.clock import Call, Stopwatch, clock_of
from clip_eval.throughput.paired import Turns, measure, pilot, reported_seconds
from clip_eval.throughput.ratio import in_one_run
from clip_eval.throughput.trial import kinds_of, make_trial
from clip_eval.throughput.worker_client import WorkerClient

__all__ = ["compare_sides"]

Side = tuple[Candidate, Configuration]


@dataclass(frozen=True, slots=True)
class _Other:
    """The other side's call, and its own stopwatch if it runs in another process."""

    call: Call
    seconds: Stopwatch | None
    reference: str


def compare_sides(
    options: Options, sides: Sequence[Side], say: Callable[[str], None]
) -> tuple[str | None, tuple[Comparison, ...]]:
    """Time each configuration in turns with the other side, at the batch where its throughput saturates.

    Returns:
        What the other side is, None if none was asked for; and the comparisons.
    """
    if options.against is None and options.against_python is None:
        return None, ()
    against = options.against or options.model
    where = f" under {options.against_python}" if options.against_python else ""
    comparisons = []
    with ExitStack() as stack:
        worker = stack.enter_context(WorkerClient(options.against_python)) if options.against_python else None
        for candidate, configuration in sides:
            for kind in kinds_of(candidate.checkpoint.holds):
                say(f"{configuration.name}: {kind} against {against}{where}")
                comparisons.append(_comparison(options, candidate, configuration, kind, worker))
    return f"{against}{where}", tuple(comparisons)


def _comparison(
    options: Options, candidate: Candidate, configuration: Configuration, kind: str, worker: WorkerClient | None
) -> Comparison:
    rows = configuration.best(kind).rows
    plain = Comparison(kind=kind, configuration=configuration.name, rows=rows, judgement=None, reason="")
    own = make_trial(kind, candidate.subject, candidate.batch, rows=rows)
    seconds = clock_of(options.device).seconds
    try:
        other = _other(options, candidate, configuration, kind, rows, worker)
        pairs = pilot(Turns(own.subject, other.call, seconds, other.seconds))
        measured = measure(Turns(own.subject, other.call, seconds, other.seconds), pairs)
    except ProcessError as problem:
        return replace(plain, reason=str(problem))
    return replace(plain, judgement=in_one_run(measured.ratio, other.reference))


def _other(
    options: Options,
    candidate: Candidate,
    configuration: Configuration,
    kind: str,
    rows: int,
    worker: WorkerClient | None,
) -> _Other:
    against = options.against or str(candidate.checkpoint.path)
    variant = options.variant if options.against is None else None
    if worker is None:
        other = replace(candidate, model=against, variant=variant)
        return _Other(make_trial(kind, other.subject, other.batch, rows=rows).subject, None, against)
    opened = open_checkpoint(against, variant=variant)
    ran = worker.load(
        checkpoint=str(opened.path),
        dtype=configuration.dtype,
        device=options.device,
        attention=candidate.asked_attention,
        threads=options.threads,
        variant=variant,
    )
    trial = make_trial(kind, candidate.subject, candidate.batch, rows=rows)
    worker.prepare(trial, same_inputs=opened.config == candidate.checkpoint.config)
    return _Other(
        worker.seconds, reported_seconds, f"{against}, transformers {ran['transformers']}, torch {ran['torch']}"
    )
