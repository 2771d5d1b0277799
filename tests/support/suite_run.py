"""Run a part of the suite as a user's own pytest would, in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.forked import run_pytest

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
    asked = ("--pyargs", "clip_eval.suite", "-q", "-k", keyword, *_WITHOUT, "--clip-model", str(model))
    done = run_pytest(out.parent, *asked, "--clip-out", str(out), *options)
    assert done.ret == 10, (done.outlines, done.errlines)
    record: dict[str, Any] = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return record
