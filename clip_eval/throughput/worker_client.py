"""The client of a worker process: the baseline in another interpreter, or one of several devices."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from clip_eval.errors import ProcessError, UsageError
from clip_eval.processes import child_environment
from clip_eval.throughput.trial import Trial
from clip_eval.throughput.worker import inputs_digest
from clip_eval.version import __version__

__all__ = ["WorkerClient", "rates_at_once"]

_LOAD_S, _CALL_S = 600.0, 120.0  # timeouts: a first load reads gigabytes, a call is one batch


class WorkerClient:
    """A worker process under an interpreter.

    Use it as a context manager; the worker ends with the block.

    Args:
        python: the interpreter's executable, in whose environment the same clip-eval is installed.

    Raises:
        UsageError: the interpreter cannot be started.
    """

    def __init__(self, python: str) -> None:
        self.python = python
        self._loaded: dict[str, dict[str, Any]] = {}
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        command = [python, "-m", "clip_eval.throughput.worker"]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=child_environment(python),
            )
        except OSError as problem:
            self._stderr.close()
            fix = "Name the Python of an environment in which clip-eval is installed"
            raise UsageError(f"the interpreter cannot be started ({problem.strerror})", where=python, fix=fix) from None

    def __enter__(self) -> WorkerClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    def close(self) -> None:
        """End the worker."""
        self._process.kill()
        self._process.communicate()
        self._stderr.close()

    def load(
        self,
        *,
        checkpoint: str,
        dtype: str,
        device: str,
        attention: str | None,
        threads: int,
        variant: str | None = None,
    ) -> dict[str, Any]:
        """Load a checkpoint in the worker, once, and return the versions that it runs with.

        Raises:
            ProcessError: the worker failed or died, or is another release of clip-eval.
        """
        arguments = {
            "checkpoint": checkpoint, "dtype": dtype, "device": device, "attention": attention, "threads": threads,
            "variant": variant,
        }  # fmt: skip
        if (known := self._loaded.get(str(arguments))) is not None:
            return known
        reply = self._ask("load", _LOAD_S, **arguments)
        if reply["clip_eval"] != __version__:
            raise ProcessError(
                f"the other interpreter has clip-eval {reply['clip_eval']}, and this is {__version__}",
                where=self.python,
                fix="Install the same release in both",
            )
        self._loaded = {str(arguments): reply}
        return reply

    def prepare(self, trial: Trial, *, same_inputs: bool = True) -> None:
        """Make the same trial in the worker.

        Args:
            trial: this side's.
            same_inputs: whether the inputs must be equal; false if the worker's checkpoint has another architecture.

        Raises:
            ProcessError: the worker failed or died, or its inputs differ.
        """
        reply = self._ask("trial", _LOAD_S, kind=trial.kind, rows=trial.rows, tokens=trial.tokens)
        if same_inputs and reply["inputs"] != inputs_digest(trial):
            raise ProcessError("the other interpreter makes other inputs from the same seed", where=self.python)

    def seconds(self) -> float:
        """Time one call in the worker and return its seconds; this process blocks in a read meanwhile.

        Raises:
            ProcessError: the worker failed or died.
        """
        return float(self._ask("time", _CALL_S)["seconds"])

    def begin_rate(self) -> None:
        """Start measuring the worker's rate, without waiting for it."""
        self._send("rate")

    def rate(self) -> float:
        """Wait for the worker and return the rows a second that it computed.

        Raises:
            ProcessError: the worker failed or died.
        """
        return float(self._receive(_LOAD_S)["rows_per_s"])

    def _ask(self, action: str, patience_s: float, **arguments: object) -> dict[str, Any]:
        self._send(action, **arguments)
        return self._receive(patience_s)

    def _send(self, action: str, **arguments: object) -> None:
        with contextlib.suppress(BrokenPipeError):  # a dead worker is reported when its reply is read
            self._write((json.dumps({"do": action, **arguments}) + "\n").encode())

    def _receive(self, patience_s: float) -> dict[str, Any]:
        answer = self._read(patience_s)
        if not answer:
            raise ProcessError(f"the worker process {self._end()}", where=self.python)
        reply: dict[str, Any] = json.loads(answer)
        if "error" in reply:
            raise ProcessError(f"the worker process failed ({reply['error']})", where=self.python)
        return reply

    def _write(self, line: bytes) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        pipe.write(line)
        pipe.flush()

    def _read(self, patience_s: float) -> bytes:
        """One line; only one is ever in flight. Windows has no timeout for pipes."""
        pipe = self._process.stdout
        assert pipe is not None
        if os.name == "posix" and not select.select([pipe], [], [], patience_s)[0]:
            raise ProcessError(f"the worker process gave no answer in {patience_s:g} s", where=self.python)
        return pipe.readline()

    def _end(self) -> str:
        """How the worker ended, with its last line on stderr."""
        code = self._process.wait()
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        how = f"died of signal {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{how}{f' ({lines[-1].strip()[:200]})' if lines else ''}"


def rates_at_once(workers: Sequence[WorkerClient]) -> tuple[float, ...]:
    """Measure all workers at the same time and return the rows a second of each.

    Raises:
        ProcessError: a worker failed or died.
    """
    for worker in workers:
        worker.begin_rate()
    return tuple(worker.rate() for worker in workers)
