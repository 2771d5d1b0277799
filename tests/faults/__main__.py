"""Runs the whole catalogue and the healthy runs, and writes the kill matrix: `PYTHONPATH=tests python -m faults
DIRECTORY`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from clip_eval.run_record import RunRecord
from clip_eval.settings import DTYPES
from clip_eval.subject import transformers_release
from faults.catalogue import FAULTS
from faults.healthy import VARIANTS
from faults.matrix import Matrix, render_csv, render_markdown
from faults.watch import CHECKPOINT, Watch


def main(directory: Path) -> int:
    """Write matrix.md and matrix.csv to a directory. Returns 1 where a fault was missed or a healthy run failed."""
    with tempfile.TemporaryDirectory() as temporary:
        watch = Watch(Path(temporary))
        faults = [fault for fault in FAULTS if fault.applies(transformers_release())]
        matrix = Matrix([watch.sight(fault) for fault in faults], _healthy(watch))
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "matrix.md").write_text(render_markdown(matrix), encoding="utf-8")
    (directory / "matrix.csv").write_text(render_csv(matrix), encoding="utf-8")
    print(render_markdown(matrix).partition("| fault | what")[0])
    whole = len(matrix.killed) == len(matrix.sightings) and len(matrix.placed) == len(matrix.numerical)
    return int(not whole or bool(matrix.alarms))


def _healthy(watch: Watch) -> dict[str, RunRecord]:
    records = {
        f"shapes-clip {dtype} {attention}": watch.runner.run(
            CHECKPOINT, "--clip-dtype", dtype, "--clip-attn", attention
        ).record
        for dtype in DTYPES
        for attention in ("eager", "sdpa")
    }
    for variant in VARIANTS:
        checkpoint = watch.directory / "healthy" / variant.id
        variant.make(checkpoint)
        records[variant.id] = watch.runner.run(checkpoint, *variant.options).record
    return records


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
