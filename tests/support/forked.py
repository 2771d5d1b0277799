"""A user's pytest run in a child of its own that costs no start-up: it is forked from a process which has torch and
transformers loaded, and nothing of pytest or of this package.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

__all__ = ["run_pytest", "run_suite"]

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["torch", "scipy.stats", "transformers.models.clip.modeling_clip"])

_ALWAYS = (
    "-W", "ignore::pytest.PytestAssertRewriteWarning",  # anyio has a pytest plugin, and transformers has loaded it
    "-p", "no:cacheprovider",
    "-p", "no:hypothesispytest",  # takes a second to load
)  # fmt: skip


def run_pytest(directory: Path, *arguments: str) -> pytest.RunResult:
    """Run `python -m pytest` in a directory, in 80 columns, with this process's environment but for pytest's variables.
    The files stdout and stderr are left there.
    """
    begin = time.monotonic()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    child = _SERVER.Process(target=_main, args=(directory, [*arguments, *_ALWAYS], environment))
    child.start()
    child.join()
    out, err = ((directory / name).read_text(encoding="utf-8").splitlines() for name in ("stdout", "stderr"))
    return pytest.RunResult(child.exitcode or 0, out, err, time.monotonic() - begin)


def run_suite(model: Path, out: Path, *options: str, keyword: str) -> dict[str, Any]:
    """Run the checks that match `keyword`, which leaves the verdict inconclusive, and return the run record.

    Args:
        model: a checkpoint.
        out: where the reports go.
        options: of pytest.
        keyword: for -k.
    """
    asked = ("--pyargs", "clip_eval.suite", "-q", "-k", keyword, "--clip-model", str(model), "--clip-out", str(out))
    done = run_pytest(out.parent, *asked, *options)
    assert done.ret == 10, (done.outlines, done.errlines)
    record: dict[str, Any] = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return record


def _main(directory: Path, arguments: list[str], environment: dict[str, str]) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment, COLUMNS="80")
    sys.argv, sys.path[:0] = ["pytest", *arguments], [str(directory)]
    sys.exit(pytest.main(arguments))
