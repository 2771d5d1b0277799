"""A user's pytest run in a child of its own that costs no start-up: it is forked from a process which has torch and
transformers loaded, and nothing of pytest or of this package.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from pathlib import Path

import pytest

__all__ = ["run_pytest"]

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["torch", "scipy.stats", "transformers.models.clip.modeling_clip"])
# transformers loads anyio, whose pytest plugin would else have been rewritten.
_LOADED = ("-W", "ignore::pytest.PytestAssertRewriteWarning")


def run_pytest(directory: Path, *arguments: str) -> pytest.RunResult:
    """Run `python -m pytest` in a directory, with this process's environment but for pytest's own variables. The
    files stdout and stderr are left there.
    """
    begin = time.monotonic()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    child = _SERVER.Process(target=_main, args=(directory, [*arguments, *_LOADED], environment))
    child.start()
    child.join()
    out, err = ((directory / name).read_text(encoding="utf-8").splitlines() for name in ("stdout", "stderr"))
    return pytest.RunResult(child.exitcode or 0, out, err, time.monotonic() - begin)


def _main(directory: Path, arguments: list[str], environment: dict[str, str]) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment, COLUMNS="80")
    sys.argv, sys.path[:0] = ["pytest", *arguments], [str(directory)]
    sys.exit(pytest.main(arguments))
