"""The hermetic gate: pytest in a child process, isolated from the user's pytest configuration."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from clip_eval.checkpoint.changes import identities
from clip_eval.errors import CheckpointError, OutputError, ProcessError, UsageError
from clip_eval.files.folder_lock import Lease, clear, owned
from clip_eval.files.read_write import writable_directory
from clip_eval.processes import child_environment, memory_file, output_of, record_with, run_to_the_end
from clip_eval.progress import HandedOn, handed_on, say
from clip_eval.run.declared_checks import SUITE
from clip_eval.run.session import Session
from clip_eval.run.settings import DEFAULT_OUT, OPTIONS, REPORTS, RecordOptions, Settings

__all__ = ["run_gate"]

RECORDED = "baseline"
"""The pack that another interpreter records for a gate, beside the reports."""

_PLUGINS = ("clip_eval.plugin", "pytest_benchmark.plugin")
_CONFIGURATION = SUITE / "gate.ini"
_INTERRUPTED, _USAGE_ERROR = 2, 4
_DECIDED = (0, 1, 10)


def run_gate(
    settings: Settings,
    *,
    keyword: str | None = None,
    quiet: bool = False,
    verbose: bool = False,
    progress: bool | None = None,
    opened: Callable[[], None] = lambda: None,
) -> int:
    """Run the suite on a checkpoint, write the reports, return the exit code.

    The child runs in an empty directory with its own configuration file and root directory, without conftest files,
    without any of pytest's environment variables, and loads only its own plugins: nothing in the user's working
    directory can turn checks off. A policy there is read by the command, and the report prints it. Reports of an
    earlier run are removed first, so that a run that dies leaves none.

    Args:
        settings: what to gate; `out` defaults to reports/latest under the working directory.
        keyword: run only checks that match this pytest -k expression; the verdict is then inconclusive at best.
        quiet: print nothing unless the run breaks down, for callers with a verdict of their own.
        verbose: print a line for each check as it ends, instead of progress.
        progress: show progress on stderr; by default unless `quiet` or `verbose`.
        opened: called once everything that the user named has been opened.

    Returns:
        0 pass, 1 fail, 10 inconclusive, else pytest's: 2 interrupted (the results so far were written), 3 internal
        error.

    Raises:
        ClipEvalError: something that the user named cannot be read or written; nothing was run.
        UsageError: the child refused its options.
        ProcessError: the child died, or ended without a run record.
    """
    out = writable_directory(settings.out or DEFAULT_OUT)
    with owned(out, *([] if settings.repro is None else [settings.repro])) as lease:
        clear(out, REPORTS)
        try:
            session = Session(replace(settings, out=out).absolute())
            session.open_inputs()
            opened()
            shown = not (quiet or verbose) if progress is None else progress
            return _gate(session, lease, keyword, quiet=quiet, verbose=verbose, progress=shown)
        finally:
            if not (out / "run.json").exists():
                clear(out, REPORTS)  # run.json is written last: without it the run broke down


def _gate(session: Session, lease: Lease, keyword: str | None, *, quiet: bool, verbose: bool, progress: bool) -> int:
    with handed_on(progress) as stream:
        _record_baseline(session, stream)
        with _scratch() as scratch:
            ended = run_to_the_end(
                _command(_handed_over(session, scratch), keyword, verbose),
                environment={**_environment(), **lease.environment(), **stream.environment()},
                errors=scratch.errors,
                output=scratch.output if quiet else None,
                directory=scratch.empty,
                descriptors=(*lease.descriptors, *stream.descriptors),
            )
            errors, output = output_of(scratch.errors), output_of(scratch.output)
    code = _INTERRUPTED if ended.interrupted and ended.code < 0 else ended.code
    if output and code not in _DECIDED:
        sys.stdout.write(f"{output}\n")
    if code == _USAGE_ERROR:
        raise UsageError(errors.removeprefix("ERROR: "))
    if errors and code != _INTERRUPTED:
        sys.stderr.write(f"{errors}\n")
    _require_record(code, session)
    return code


@dataclass(frozen=True, slots=True)
class _Scratch:
    """What a child needs while it runs: a directory for its settings, an empty one, and files for its output."""

    directory: Path
    empty: str
    errors: IO[bytes]
    output: IO[bytes]


@contextlib.contextmanager
def _scratch() -> Iterator[_Scratch]:
    with contextlib.ExitStack() as stack:
        with _disk_space():
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix="clip-eval-", ignore_cleanup_errors=True))
            (empty := Path(name) / "empty").mkdir()
            errors, output = (stack.enter_context(memory_file()) for _ in range(2))
        yield _Scratch(Path(name), str(empty), errors, output)


@contextlib.contextmanager
def _disk_space() -> Iterator[None]:
    """A temporary file that cannot be written is an OutputError."""
    try:
        yield
    except OSError as problem:
        what = f"no temporary file can be made ({(problem.strerror or str(problem)).lower()})"
        raise OutputError(what, where=problem.filename, fix="Make room there, or set TMPDIR") from problem


def _handed_over(session: Session, scratch: _Scratch) -> Path:
    with _disk_space():
        return session.hand_over(scratch.directory)


def _record_baseline(session: Session, stream: HandedOn) -> None:
    """Record a pack with the baseline interpreter, if one is given and no pack is."""
    settings = session.settings
    if settings.baseline_python is None or settings.baseline is not None:
        return
    assert settings.out is not None
    pack = settings.out / RECORDED
    if (pack / "pack.json").exists():
        shutil.rmtree(pack)
    if stream.descriptors:
        say(f"recording the baseline with {settings.baseline_python}, then judging")
    arguments = [
        word for name in RecordOptions.__annotations__ for word in OPTIONS[name].words(getattr(settings, name), "--")
    ]
    record_with(settings.baseline_python, settings.model, pack, *arguments, stream=stream)
    session.compare_with(pack)


def _require_record(code: int, session: Session) -> None:
    """Raise if a child ended without deciding. A signal such as SIGBUS can mean that a file was truncated."""
    name = signal.Signals(-code).name if code < 0 else ""
    if code < 0 and identities(session.candidate.checkpoint) != session.watched.before:
        raise CheckpointError(
            f"the checkpoint changed while it was judged, and the test process died of {name}",
            where=session.settings.model,
            fix="Gate it again once nothing changes it",
        )
    if code < 0:
        raise ProcessError(
            f"the test process died of signal {name} before it could decide",
            where=session.settings.model,
            fix="Nothing was judged and no report was written; its output above shows how far it came",
        )
    out = session.settings.out
    if code in _DECIDED and not (out is not None and (out / "run.json").exists()):
        raise ProcessError(
            f"the test process ended with {code} and wrote no run record", where=out, fix="Report this as a bug"
        )


def _command(settings_file: Path, keyword: str | None, verbose: bool = False) -> list[str]:
    plugins = [part for plugin in _PLUGINS for part in ("-p", plugin)]
    loud = ["-vv"] if verbose else []  # gate.ini has one -q, so that this is pytest's -v
    return [
        sys.executable, "-m", "pytest", str(SUITE), "-c", str(_CONFIGURATION), "--rootdir", str(SUITE.parent.parent),
        "--noconftest", "--import-mode=importlib", "-p", "no:cacheprovider", *plugins,
        "--clip-settings", str(settings_file), *loud, *([] if keyword is None else ["-k", keyword]),
    ]  # fmt: skip


def _environment() -> dict[str, str]:
    return {**child_environment(), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
