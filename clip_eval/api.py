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
    accepted: str | Path | None = None,
    new_weights: bool = False,
    library: str | Path | None = None,
    out: str | Path = DEFAULT_OUT,
    device: str = "cpu",
    dtype: str | None = None,
    attention: str | None = None,
    throughput: bool = True,
    compile: bool = False,
    policy: str | Path | None = None,
    baseline_python: str | Path | None = None,
    repro: str | Path | None = None,
) -> RunRecord:
    """Judge a CLIP checkpoint and return the run record; the reports are in `out`.

    Args:
        checkpoint: a directory, or a hub id with or without @revision.
        baseline: the pack of the last approved release.
        accepted: a file of acceptances, which excuse differences from the pack.
        new_weights: the weights differ from the pack's on purpose.
        library: an evaluation set for task scores.
        out: where run.json, report.html, summary.md and junit.xml go.
        device: a torch device.
        dtype: float32, bfloat16 or float16; by default the dtype the checkpoint is stored in.
        attention: an attention implementation; by default the library's.
        throughput: time the model.
        compile: judge the model under torch.compile, too; takes tens of seconds.
        policy: a file that says what is asked beyond the rules, such as scopes that must be judged.
        baseline_python: the interpreter of another environment with the same clip-eval: what the checkpoint does
            there is the baseline, where none is named, and the model is timed in turns with it.
        repro: leave a directory there for each failed check, with a script that shows it without pytest.

    Raises:
        ClipEvalError: something that was named cannot be read or written, or the test process died.
    """
    settings = Settings(
        model=str(checkpoint),
        baseline=None if baseline is None else str(baseline),
        accepted=None if accepted is None else str(accepted),
        library=None if library is None else str(library),
        dtype=dtype,
        device=device,
        attention=attention,
        new_weights=new_weights,
        throughput=throughput,
        compile=compile,
        policy=None if policy is None else str(policy),
        baseline_python=None if baseline_python is None else str(baseline_python),
        repro=None if repro is None else str(repro),
        out=Path(out),
    )
    run_gate(settings)
    record = Path(out) / "run.json"
    return load(read_text(record, error=OutputError), where=record)
