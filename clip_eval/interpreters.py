"""Running this very package in another process, and in another interpreter."""

from __future__ import annotations

import os
import site
import subprocess
from pathlib import Path

import clip_eval
from clip_eval.errors import ProcessError, UsageError

__all__ = ["child_environment", "record_with"]

# Each makes the interpreter or the libraries behave in another way than the one that is judged.
_CLEARED = ("PYTHONWARNINGS", "PYTHONOPTIMIZE")


def child_environment() -> dict[str, str]:
    """Return the environment for a child that runs `-m clip_eval` in any working directory, quietly.

    Relative entries of PYTHONPATH become absolute. Where this package runs from a source tree, the tree comes first; an
    installed package is the business of the interpreter that runs the child. Idle threads of torch sleep, unless
    OMP_WAIT_POLICY says otherwise: where they spin, a gate beside one busy process takes three times as long.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_") and key not in _CLEARED}
    path = [str(Path(entry).absolute()) for entry in kept.get("PYTHONPATH", "").split(os.pathsep) if entry]
    here = str(Path(str(clip_eval.__file__)).parent.parent)
    if here not in (*site.getsitepackages(), site.getusersitepackages()):  # run from a source tree
        path.insert(0, here)
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    return {"OMP_WAIT_POLICY": "passive", **kept, **quiet, "PYTHONPATH": os.pathsep.join(path)}


def record_with(python: str, model: str, pack: Path, *options: str) -> None:
    """Record a pack with another interpreter: what the release in its environment does is the baseline then.

    Args:
        python: the interpreter's executable, in whose environment the same clip-eval is installed.
        model: a checkpoint directory or hub id.
        pack: a new directory.
        options: of `clip-eval record`.

    Raises:
        UsageError: the interpreter cannot be started.
        ProcessError: it recorded nothing; the message holds its last words.
    """
    command = [python, "-m", "clip_eval", "record", model, "--out", str(pack), *options]
    try:
        done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=False)
    except OSError as problem:
        fix = "Name the Python of an environment in which clip-eval is installed"
        raise UsageError(f"the interpreter cannot be started ({problem.strerror})", where=python, fix=fix) from problem
    if done.returncode:
        said = " ".join((done.stdout.strip() or done.stderr.strip()).split())
        raise ProcessError(f"the other interpreter recorded no baseline ({said[:600]})", where=python)
