"""What takes long to make is made once a run: the first xdist worker that needs it makes it, the others wait."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from clip_eval.files.folder_lock import owned

__all__ = ["made_once"]


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return the directory of that name which all workers share, empty when `make` was given it to fill.

    Nobody may change what is in there. Without xdist it is this process's own.
    """
    base = factory.getbasetemp()
    run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # a worker's base is a directory in the run's
    directory, done = run / "shared" / name, run / "shared" / f"{name} is made"
    with owned(run / "shared" / f"making {name}", patience_s=600):
        if not done.exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            make(directory)
            done.touch()
    return directory
