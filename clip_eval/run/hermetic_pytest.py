"""The hermetic gate: pytest in a child process that sees nothing of the user's pytest configuration."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, NoReturn

from clip_eval.checkpoint.changes import identities
from clip_eval.errors import CheckpointError, OutputError, ProcessError, UsageError
from clip_eval.files.folder_lock import Lease, clear, owned
from clip_eval.files.read_write import writable_directory
from clip_eval.processes import child_environment, memory_file, record_with, run_to_the_end, said
from clip_eval.progress import HandedOn, handed_on, say
from clip_eval.run.declared_checks import SUITE
from clip_eval.run.session import Session
from clip_eval.run.settings import REPORTS, Settings

__all__ = ["DEFAULT_OUT", "run_gate"]

DEFAULT_OUT = Path("reports/latest")
RECORDED = "baseline"
"""The pack that another interpreter records for a gate, beside the reports."""

_PLUGINS = ("clip_eval.plugin", "pytest_benchmark.plugin")
_CONFIGURATION = SUITE / "gate.ini"
_INTERRUPTED, _USAGE_ERROR = 2, 4
_DECIDED = (0, 1, 10)


def run_gate(
    settings: Settings, *, keyword: str | None = None, quiet: bool = False, progress: bool | None = None
) -> int:
    """Run the suite on a checkpoint, write the reports, return the exit code.

    The child runs in an empty directory with its own configuration file and root directory, without conftest files,
    without any of pytest's environment variables, and loads only its own plugins: nothing in the user's working
    directory can turn checks off. Reports of an earlier run are removed first, so that a run that dies leaves none.

    Args:
        settings: what to gate; `out` defaults to reports/latest under the working directory.
        keyword: run only checks that match this pytest -k expression; the verdict is then inconclusive at best.
        quiet: print nothing unless the run broke down: for a caller whose verdict is another than the gate's.
        progress: say on stderr what is being done and how far it is; by default unless `quiet`.

    Returns:
        0 pass, 1 fail, 10 inconclusive, else pytest's: 2 interrupted (what there is was written), 3 internal error.

    Raises:
        ClipEvalError: something that the user named cannot be read or written; nothing was run.
        UsageError: the child refused its options.
        ProcessError: the child died, or ended without a run record.
    """
    out = writable_directory(settings.out or DEFAULT_OUT)
    with owned(out, *([] if settings.repro is None else [settings.repro])) as lease:
        clear(out, REPORTS)
        try:
            shown = not quiet if progress is None else progress
            return _gate(settings, out, lease, keyword=keyword, quiet=quiet, progress=shown)
        finally:
            if not (out / "run.json").exists():
                clear(out, REPORTS)  # run.json comes last: without it the others are of a run that broke down


def _gate(settings: Settings, out: Path, lease: Lease, *, keyword: str | None, quiet: bool, progress: bool) -> int:
    session = Session(settings)
    session.look()
    before = identities(session.candidate.checkpoint)
    with handed_on(progress) as stream:
        settings = _with_recorded_baseline(settings, out, stream)
        with _scratch() as scratch:
            ended = run_to_the_end(
                _command(settings, out, keyword),
                environment={**_environment(), **lease.environment(), **stream.environment()},
                errors=scratch.errors,
                output=scratch.kept if quiet else None,
                directory=scratch.empty,
                descriptors=(*lease.descriptors, *stream.descriptors),
            )
            complaint, held_back = said(scratch.errors), said(scratch.kept)
    code = _INTERRUPTED if ended.interrupted and ended.code < 0 else ended.code
    if held_back and code not in _DECIDED:
        sys.stdout.write(f"{held_back}\n")
    if code == _USAGE_ERROR:
        raise UsageError(complaint.removeprefix("ERROR: "))
    if complaint and code != _INTERRUPTED:
        sys.stderr.write(f"{complaint}\n")
    if code < 0 and identities(session.candidate.checkpoint) != before:  # such as SIGBUS, of a file that was cut short
        _refuse_changed(code, settings)
    _require_record(code, settings, out)
    return code


@dataclass(frozen=True, slots=True)
class _Scratch:
    """What a child needs for its time: an empty directory, and files for what it says."""

    empty: str
    errors: IO[bytes]
    kept: IO[bytes]


@contextlib.contextmanager
def _scratch() -> Iterator[_Scratch]:
    with contextlib.ExitStack() as stack:
        try:
            empty = stack.enter_context(tempfile.TemporaryDirectory(prefix="clip-eval-", ignore_cleanup_errors=True))
            errors, kept = (stack.enter_context(memory_file()) for _ in range(2))
        except OSError as problem:
            what = f"no temporary file can be made ({(problem.strerror or str(problem)).lower()})"
            raise OutputError(what, where=problem.filename, fix="Make room there, or set TMPDIR") from problem
        yield _Scratch(empty, errors, kept)


def _with_recorded_baseline(settings: Settings, out: Path, stream: HandedOn) -> Settings:
    """Where another interpreter is the baseline and no pack is named, let it record one: that says what it does."""
    if settings.baseline_python is None or settings.baseline is not None:
        return settings
    pack = out / RECORDED
    if (pack / "pack.json").exists():
        shutil.rmtree(pack)
    named = {"--attn": settings.attention, "--device": settings.device, "--dataset": settings.dataset}
    options = [part for name, value in named.items() if value is not None for part in (name, value)]
    if stream.descriptors:
        say(f"recording the baseline with {settings.baseline_python}, then judging")
    record_with(settings.baseline_python, settings.model, pack, *options, stream=stream)
    return replace(settings, baseline=str(pack))


def _refuse_changed(code: int, settings: Settings) -> NoReturn:
    raise CheckpointError(
        f"the checkpoint changed while it was judged, and the test process died of {signal.Signals(-code).name}",
        where=settings.model,
        fix="Leave it alone and gate it again",
    )


def _require_record(code: int, settings: Settings, out: Path) -> None:
    if code < 0:
        raise ProcessError(
            f"the test process died of signal {signal.Signals(-code).name} before it could decide",
            where=settings.model,
            fix="Nothing was judged and no report was written; its output above shows how far it came",
        )
    if code in _DECIDED and not (out / "run.json").exists():
        raise ProcessError(
            f"the test process ended with {code} and wrote no run record", where=out, fix="Report this as a bug"
        )


def _command(settings: Settings, out: Path, keyword: str | None) -> list[str]:
    plugins = [part for plugin in _PLUGINS for part in ("-p", plugin)]
    return [
        sys.executable, "-m", "pytest", str(SUITE), "-c", str(_CONFIGURATION), "--rootdir", str(SUITE.parent.parent),
        "--noconftest", "--import-mode=importlib", "-p", "no:cacheprovider", *plugins,
        "--clip-model", _absolute(settings.model), *_absolute_options(settings), "--clip-out", str(out),
        *([] if keyword is None else ["-k", keyword]),
    ]  # fmt: skip


def _absolute(name: str) -> str:
    """A path that exists becomes absolute, since the child runs elsewhere; a hub id stays."""
    return str(Path(name).absolute()) if Path(name).exists() else name


def _absolute_options(settings: Settings) -> list[str]:
    paths = {settings.baseline, settings.accepted, settings.dataset, settings.policy, settings.repro} - {None}
    python = settings.baseline_python  # a path, or a name that is looked up
    options = [str(Path(part).absolute()) if part in paths else part for part in settings.options("--clip-")]
    return [_absolute(part) if part == python else part for part in options]


def _environment() -> dict[str, str]:
    return {**child_environment(), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
