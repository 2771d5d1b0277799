"""Running the gate as users do, in processes of its own, and reading what it left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["SMALLEST", "Ended", "gate", "outcomes", "run_record"]

SMALLEST: dict[str, Any] = {"text_config": {"num_hidden_layers": 1}, "vision_config": {"num_hidden_layers": 1}}
"""One layer a tower: what a gate of it costs is what starting costs."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended, what it printed, and where its reports are."""

    code: int
    out: str
    err: str
    reports: Path


def gate(
    checkpoint: Path | str, *options: str, cwd: Path, reports: Path, environment: Mapping[str, str] | None = None
) -> Ended:
    """Run `clip-eval gate` in `cwd`, with variables on top of this process's environment."""
    program = str(Path(sys.executable).with_name("clip-eval"))
    done = subprocess.run(
        [program, "gate", str(checkpoint), "--out", str(reports), *options],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr, cwd / reports)


def run_record(reports: Path) -> dict[str, Any]:
    """The run record in a directory of reports."""
    record: dict[str, Any] = json.loads((reports / "run.json").read_text(encoding="utf-8"))
    return record


def outcomes(reports: Path) -> dict[tuple[str, str | None], str]:
    """(check id, case) to outcome, of a run."""
    checks = run_record(reports)["checks"]
    found = {(check["id"], check["case"]): str(check["outcome"]) for check in checks}
    assert len(found) == len(checks), "every check and case is there once"
    return found
