"""Rebuilds the table of budgets: `PYTHONPATH=tests:tools python -m measuring DIRECTORY PYTHON [PYTHON ...]`.

Each PYTHON is an interpreter with clip-eval and one transformers release. Each runs six gates of the shipped checkpoint
and one measuring process. Ends with 1 where a healthy subject was outside a bound.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

from faults.watch import CHECKPOINT, largest_ratios

from clip_eval.user_values import DTYPES
from clip_eval.verdict.run_record import RunRecord, load
from measuring.process import ATTENTIONS, Reading
from measuring.table import Measured, render


def main(directory: Path, interpreters: list[str]) -> int:
    """Measure with each interpreter and write budgets.md."""
    with tempfile.TemporaryDirectory() as temporary:
        measured = [_measured(python, Path(temporary)) for python in interpreters]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "budgets.md").write_text(render(measured), encoding="utf-8")
    print(render(measured))
    return int(any(m.failed or not all(r.passed for r in m.process) for m in measured))


def _measured(python: str, temporary: Path) -> Measured:
    records = {
        f"{dtype}, {attention}": _gate(python, temporary, "--dtype", dtype, "--attn", attention)
        for dtype, attention in product(DTYPES, ATTENTIONS)
    }
    failed = [
        f"{name}: {check.id}"
        for name, record in records.items()
        for check in record.checks
        if check.outcome in ("failed", "error")
    ]
    return Measured(
        release=_release(records["float32, eager"]),
        gates=[reading for name, record in records.items() for reading in _readings(name, record)],
        process=_process(python, temporary),
        failed=failed,
        count=len(records),
    )


def _gate(python: str, temporary: Path, *options: str) -> RunRecord:
    out = temporary / "gate"
    asked = ("gate", str(CHECKPOINT), "--no-throughput", "--out", str(out), *options)
    subprocess.run([python, "-m", "clip_eval", *asked], capture_output=True, check=False, cwd=temporary)
    return load((out / "run.json").read_text(encoding="utf-8"))


def _readings(name: str, record: RunRecord) -> list[Reading]:
    largest = largest_ratios([record])
    return [Reading(f"gate, {name}", budget, ratio, where, ratio <= 1) for budget, (ratio, where) in largest.items()]


def _process(python: str, temporary: Path) -> list[Reading]:
    path = [
        *(str(Path(__file__).parents[2] / name) for name in ("tests", "tools")),
        *filter(None, [os.environ.get("PYTHONPATH")]),
    ]
    done = subprocess.run(
        [python, "-m", "measuring.process", str(temporary)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=temporary,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
    )
    return [Reading(**json.loads(line)) for line in done.stdout.splitlines()]


def _release(record: RunRecord) -> str:
    return f"transformers {record.provenance['transformers']}"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
