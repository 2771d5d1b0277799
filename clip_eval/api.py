"""The package from Python: what the commands do, as functions."""

from __future__ import annotations

from pathlib import Path

from clip_eval.errors import OutputError
from clip_eval.files import read_text
from clip_eval.hermetic import DEFAULT_OUT, run_gate
from clip_eval.run_record import RunRecord, load
from clip_eval.settings import Settings

__all__ = ["gate"]


def gate(
    checkpoint: str | Path,
    *,
    baseline: str | Path | None = None,
    new_weights: bool = False,
    library: str | Path | None = None,
    out: str | Path = DEFAULT_OUT,
    device: str = "cpu",
    dtype: str | None = None,
    attention: str | None = None,
    throughput: bool = True,
) -> RunRecord:
    """Judge a CLIP checkpoint and return the run record; the reports are in `out`.

    Args:
        checkpoint: a directory, or a hub id with or without @revision.
        baseline: the pack of the last approved release.
        new_weights: the weights differ from the pack's on purpose.
        library: an evaluation set for task scores.
        out: where run.json, report.html, summary.md and junit.xml go.
        device: a torch device.
        dtype: float32, bfloat16 or float16; by default the dtype the checkpoint is stored in.
        attention: an attention implementation; by default the library's.
        throughput: time the model.

    Raises:
        ClipEvalError: something that was named cannot be read or written, or the test process died.
    """
    settings = Settings(
        model=str(checkpoint),
        baseline=None if baseline is None else str(baseline),
        library=None if library is None else str(library),
        dtype=dtype,
        device=device,
        attention=attention,
        new_weights=new_weights,
        throughput=throughput,
        out=Path(out),
    )
    run_gate(settings)
    record = Path(out) / "run.json"
    return load(read_text(record, error=OutputError), where=record)
