"""Run a part of the suite as a user's own pytest would, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["run_suite"]

# Plugins of this project's tests, not of the suite: the cache would write here, hypothesis takes a second to load.
_WITHOUT = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")


def run_suite(model: Path, out: Path, *options: str, keyword: str) -> dict[str, Any]:
    """Run the checks that match `keyword`, which leaves the verdict inconclusive, and return the run record.

    Args:
        model: a checkpoint.
        out: where the reports go.
        options: of pytest.
        keyword: for -k.
    """
    command = [sys.executable, "-m", "pytest", "--pyargs", "clip_eval.suite", "-q", "-k", keyword, *_WITHOUT]
    command += ["--clip-model", str(model), "--clip-out", str(out), *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=out.parent, env=environment, check=False)
    assert done.returncode == 10, done.stdout + done.stderr
    record: dict[str, Any] = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return record
