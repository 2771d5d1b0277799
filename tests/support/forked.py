"""A user's pytest run, or another program, in a child of its own that costs no start-up: it is forked from a process
which has torch and transformers loaded, and nothing of pytest or of this package.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

__all__ = ["run_program", "run_pytest", "run_suite"]

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["torch", "scipy.stats", "transformers.models.clip.modeling_clip"])

_Target = Callable[[list[str], Path], None]

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
    done = _forked(_pytest, [*arguments, *_ALWAYS], directory, directory, environment)
    out, err = (text.decode().splitlines() for text in (done.stdout, done.stderr))
    return pytest.RunResult(done.returncode, out, err, time.monotonic() - begin)


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


def run_program(words: Sequence[str], *, directory: Path) -> subprocess.CompletedProcess[bytes]:
    """Run what `python WORDS` would, a file or `-m MODULE`, in a directory."""
    with tempfile.TemporaryDirectory() as kept:
        return _forked(_program, list(words), directory, Path(kept), dict(os.environ))


def _forked(
    target: _Target, words: list[str], directory: Path, kept: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[bytes]:
    """Run in a child that leaves its output in the files stdout and stderr in `kept`."""
    child = _SERVER.Process(target=_child, args=(target, words, directory, kept, environment))
    child.start()
    child.join()
    out, err = ((kept / name).read_bytes() for name in ("stdout", "stderr"))
    return subprocess.CompletedProcess(words, child.exitcode or 0, out, err)


def _child(target: _Target, words: list[str], directory: Path, kept: Path, environment: dict[str, str]) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(kept / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment, COLUMNS="80")
    target(words, directory)


def _pytest(words: list[str], directory: Path) -> None:
    sys.argv, sys.path[:0] = ["pytest", *words], [str(directory)]
    sys.exit(pytest.main(words))


def _program(words: list[str], _: Path) -> None:
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
