"""The hermetic gate: pytest in a child process that sees nothing of the user's pytest configuration."""

from __future__ import annotations

import os
import signal
import site
import subprocess
import sys
import tempfile
from pathlib import Path

from clip_eval.checks import SUITE
from clip_eval.errors import ClipEvalError
from clip_eval.files import writable_directory
from clip_eval.settings import Settings

__all__ = ["DEFAULT_OUT", "run_gate"]

DEFAULT_OUT = Path("reports/latest")
_PLUGINS = ("clip_eval.plugin", "pytest_benchmark.plugin")
_CONFIGURATION = SUITE / "gate.ini"


def run_gate(settings: Settings, *, keyword: str | None = None) -> int:
    """Run the suite on a checkpoint, write the reports, return the exit code.

    The child runs in an empty directory with its own configuration file and root directory, without conftest files,
    without `PYTEST_ADDOPTS` and `PYTEST_PLUGINS`, and loads only its own plugins: nothing in the user's working
    directory can turn checks off.

    Args:
        settings: what to gate; `out` defaults to reports/latest under the working directory.
        keyword: run only checks that match this pytest -k expression; the verdict is then inconclusive at best.

    Returns:
        0 pass, 1 fail, 4 usage error, 10 inconclusive, else pytest's.

    Raises:
        ClipEvalError: the reports cannot be written, or the test process died.
    """
    out = writable_directory(settings.out or DEFAULT_OUT)
    before = _stamp(out)
    with tempfile.TemporaryDirectory(prefix="clip-eval-") as empty:
        code = _run(_command(settings, out, keyword), cwd=empty)
    if code < 0:
        raise ClipEvalError(
            f"the test process died of signal {signal.Signals(-code).name} before it could decide",
            where=settings.model,
            fix="Nothing was judged and no report was written; its output above shows the check that was running",
        )
    if code in (0, 1, 10) and _stamp(out) == before:
        raise ClipEvalError(
            f"the test process ended with {code} and wrote no run record", where=out, fix="Report this as a bug"
        )
    return code


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
    return str(Path(name).absolute()) if Path(name).exists() or name.startswith((".", "/", "~")) else name


def _absolute_options(settings: Settings) -> list[str]:
    paths = {settings.baseline, settings.library} - {None}
    return [str(Path(part).absolute()) if part in paths else part for part in settings.options("--clip-")]


def _run(command: list[str], *, cwd: str) -> int:
    """Run the child and wait for it through Ctrl-C: it gets the same signal, writes what it has and ends by itself."""
    with subprocess.Popen(command, cwd=cwd, env=_environment()) as child:
        while (code := _wait(child)) is None:
            pass
        return code


def _wait(child: subprocess.Popen[bytes]) -> int | None:
    try:
        return child.wait()
    except KeyboardInterrupt:
        return None


def _environment() -> dict[str, str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    here = str(SUITE.parent.parent)
    if here not in (*site.getsitepackages(), site.getusersitepackages()):  # run from a source tree
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    return environment


def _stamp(out: Path) -> int | None:
    record = out / "run.json"
    return record.stat().st_mtime_ns if record.exists() else None
