"""A worker program that times a checkpoint in its own process: one JSON line a request, one a reply.

`worker_client` starts it and sends requests: "load" a checkpoint, make a "trial", "time" one call of it, or measure a
"rate". Between requests it blocks in a read and uses no CPU. What libraries print goes to stderr.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import IO, Any

from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.probes.batches import make_batch
from clip_eval.subject import Subject
from clip_eval.subject.observations import Clip
from clip_eval.throughput.clock import clock_of, hold_heap, undisturbed
from clip_eval.throughput.cuda import finish
from clip_eval.throughput.trial import Trial, make_trial
from clip_eval.version import __version__

__all__ = ["Worker", "inputs_digest", "serve"]

_RATE_S, _WARM_UPS, _LEAST_CALLS = 2.0, 2, 5  # long compared with the differences between the workers' start and stop


class Worker:
    """The requests: each public method is one, by its name."""

    def __init__(self) -> None:
        self._clip: Clip | None = None
        self._trial: Trial | None = None

    def load(
        self,
        *,
        checkpoint: str,
        dtype: str,
        device: str,
        attention: str | None,
        threads: int,
        variant: str | None = None,
    ) -> dict[str, object]:
        """Load a checkpoint, set torch's number of threads, and return the versions that it runs with."""
        import torch

        torch.set_num_threads(threads)
        hold_heap()
        opened = open_checkpoint(checkpoint, variant=variant)
        self._clip = Clip(Subject(opened, dtype, device, attention), make_batch(opened.config))
        return {
            "clip_eval": __version__,
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "transformers": str(self._clip.release),
            "attention": self._clip.attention,
            "threads": torch.get_num_threads(),
        }

    def trial(self, *, kind: str, rows: int, tokens: int | None = None) -> dict[str, object]:
        """Make a trial, call it once, and return the digest of its inputs."""
        if self._clip is None:
            raise ValueError("nothing is loaded")
        self._trial = make_trial(kind, self._clip.subject, self._clip.batch, rows=rows, tokens=tokens)
        self._trial.subject()
        return {"inputs": inputs_digest(self._trial)}

    def time(self) -> dict[str, object]:
        """Time one call of the trial."""
        if self._clip is None or self._trial is None:
            raise ValueError("there is no trial")
        seconds = clock_of(self._clip.subject.device).seconds
        with undisturbed():
            return {"seconds": seconds(self._trial.subject)}

    def rate(self) -> dict[str, object]:
        """Call the trial repeatedly for some seconds and return the rows a second."""
        if self._clip is None or self._trial is None:
            raise ValueError("there is no trial")
        device, calls = self._clip.subject.device, 0
        with undisturbed():
            for _ in range(_WARM_UPS):
                self._trial.subject()
            finish(device)
            start = time.perf_counter()
            while (elapsed_s := time.perf_counter() - start) < _RATE_S or calls < _LEAST_CALLS:
                self._trial.subject()
                finish(device)
                calls += 1
        return {"rows_per_s": calls * self._trial.rows / elapsed_s}


def inputs_digest(trial: Trial) -> str:
    """Return the sha256 of a trial's inputs: names, shapes, dtypes and values."""
    digest = hashlib.sha256()
    for name in sorted(trial.inputs):
        values = trial.inputs[name]
        digest.update(f"{name} {values.shape} {values.dtype}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer requests until there are no more; a request that fails is answered with its error."""
    worker = Worker()
    actions: dict[str, Callable[..., dict[str, object]]] = {
        "load": worker.load, "trial": worker.trial, "time": worker.time, "rate": worker.rate
    }  # fmt: skip
    for line in requests:
        request: dict[str, Any] = json.loads(line)
        try:
            answer = actions[request.pop("do")](**request)
        except Exception as error:  # reported to the other side, whatever it is
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> None:
    """Serve on the standard streams; what else is printed goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
