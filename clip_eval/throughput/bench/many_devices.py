"""Several devices at once: a worker process each, as a service that spreads its batches over them would run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from clip_eval.errors import ProcessError
from clip_eval.subject.candidate import Candidate
from clip_eval.throughput.bench.options import Options
from clip_eval.throughput.bench.results import AtOnce, Recommendation
from clip_eval.throughput.trial import make_trial
from clip_eval.throughput.worker_client import WorkerClient, rates_at_once

__all__ = ["compute_at_once"]


def compute_at_once(
    options: Options, advice: Sequence[Recommendation], candidates: Mapping[str, Candidate], say: Callable[[str], None]
) -> Iterator[AtOnce]:
    """Yield how many rows a second all devices compute at once, of each kind as it is recommended.

    If a worker fails or dies, that is reported in the last one yielded.

    Args:
        options: what the user asked for.
        advice: the recommendations.
        candidates: name of a configuration to the candidate that it was measured in.
        say: called with a line on each step.
    """
    if len(options.devices) < 2:
        return
    with ExitStack() as stack:
        workers = [stack.enter_context(WorkerClient(sys.executable)) for _ in options.devices]
        for one in advice:
            say(f"{one.configuration}: {one.kind} on {len(workers)} devices at once")
            result = _at_once(options, one, candidates[one.configuration], workers)
            yield result
            if result.reason:  # the other workers may still have to answer
                return


def _at_once(options: Options, one: Recommendation, candidate: Candidate, workers: Sequence[WorkerClient]) -> AtOnce:
    plain = AtOnce(
        kind=one.kind, configuration=one.configuration, rows=one.rows, devices=options.devices, alone_per_s=(),
        per_s=(), reason="",
    )  # fmt: skip
    trial = make_trial(one.kind, candidate.subject, candidate.batch, rows=one.rows)
    try:
        for worker, device in zip(workers, options.devices, strict=True):
            worker.load(
                checkpoint=str(candidate.checkpoint.path),
                dtype=candidate.dtype,
                device=device,
                attention=candidate.asked_attention,
                threads=options.threads,
                variant=candidate.variant,
            )
            worker.prepare(trial)
        alone = tuple(rates_at_once([worker])[0] for worker in workers)
        return replace(plain, alone_per_s=alone, per_s=rates_at_once(workers))
    except ProcessError as problem:
        return replace(plain, reason=str(problem))
