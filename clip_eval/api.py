"""The package from Python: what the commands do, as functions.

A problem that a user can mend is a `ClipEvalError`, with the nearest name where one is misspelt. A checkpoint that
fails is a return value, not an error.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clip_eval.errors import OutputError, UsageError
from clip_eval.files.read_write import read_text, writable_directory
from clip_eval.run.hermetic_pytest import DEFAULT_OUT, run_gate
from clip_eval.run.keywords import require_match
from clip_eval.run.settings import Settings
from clip_eval.user_values import named
from clip_eval.verdict.run_record import RunRecord, load

if TYPE_CHECKING:
    from clip_eval.run.approval import Approval
    from clip_eval.throughput.bench import Bench

__all__ = ["bench", "gate", "record"]


def gate(
    checkpoint: str | Path,
    *,
    baseline: str | Path | None = None,
    accepted: str | Path | None = None,
    new_weights: bool = False,
    dataset: str | Path | None = None,
    out: str | Path = DEFAULT_OUT,
    device: str = "cpu",
    dtype: str | None = None,
    attention: str | None = None,
    keyword: str | None = None,
    throughput: bool = True,
    compile: bool = False,
    policy: str | Path | None = None,
    baseline_python: str | Path | None = None,
    repro: str | Path | None = None,
    quiet: bool = False,
) -> RunRecord:
    """Judge a CLIP checkpoint and return the run record; the reports are in `out`.

    Args:
        checkpoint: a directory, or a hub id with or without @revision.
        baseline: the pack of the last approved release.
        accepted: a file of acceptances, which excuse differences from the pack.
        new_weights: the weights differ from the pack's on purpose.
        dataset: an evaluation set for task scores.
        out: where run.json, report.html, summary.md and junit.xml go.
        device: a torch device.
        dtype: float32, bfloat16 or float16; by default the dtype the checkpoint is stored in.
        attention: an attention implementation; by default the library's.
        keyword: only checks that match, by id or words, as -k takes them; the verdict is then inconclusive at best.
        throughput: time the model.
        compile: judge the model under torch.compile, too; takes tens of seconds.
        policy: a file that says what is asked beyond the rules, such as scopes that must be judged.
        baseline_python: the interpreter of another environment with the same clip-eval: what the checkpoint does
            there is the baseline, where none is named, and the model is timed in turns with it.
        repro: leave a directory there for each failed check, with a script that shows it without pytest.
        quiet: print nothing of the run, unless it breaks down.

    Returns:
        What is in run.json: `verdict` ("pass", "fail" or "inconclusive"), `headline`, `reasons` (most important first),
        `scope`, `checks` (each with `id`, `case`, `outcome`, `measurements`), `surface_changes`, `tasks`, `throughput`,
        `provenance`; see `clip_eval.verdict.run_record.RunRecord`.

    Raises:
        ClipEvalError: something that was named cannot be read, written or used here, or the test process died.
    """
    settings = Settings(
        model=named(checkpoint, "checkpoint"),
        baseline=_optional(baseline, "baseline"),
        accepted=_optional(accepted, "accepted"),
        dataset=_optional(dataset, "dataset"),
        dtype=dtype,
        device=named(device, "device"),
        attention=_optional(attention, "attention"),
        new_weights=new_weights,
        throughput=throughput,
        compile=compile,
        policy=_optional(policy, "policy"),
        baseline_python=_optional(baseline_python, "baseline_python"),
        repro=_optional(repro, "repro"),
        out=Path(named(out, "out")),
    )
    keyword = _optional(keyword, "keyword")
    require_match(keyword)
    run_gate(settings, keyword=keyword, quiet=quiet)
    found = Path(out) / "run.json"
    return load(read_text(found, error=OutputError), where=found)


def record(
    checkpoint: str | Path,
    *,
    out: str | Path | None = None,
    add_to: str | Path | None = None,
    dataset: str | Path | None = None,
    throughput: bool = False,
    device: str = "cpu",
    attention: str | None = None,
    report: str | Path | None = None,
    quiet: bool = False,
) -> Approval:
    """Run the suite on a checkpoint in float32 and, if it passes, write a pack, or add to one.

    Args:
        checkpoint: a directory, or a hub id with or without @revision.
        out: directory of a new pack. Exactly one of `out` and `add_to` is given.
        add_to: an existing pack, in which one more environment is approved.
        dataset: an evaluation set whose answers are recorded, too; with `out` only.
        throughput: record how fast the checkpoint is on this machine, too.
        device: a torch device.
        attention: an attention implementation; by default the library's.
        report: directory that keeps the reports of the suite.
        quiet: say nothing on stderr while it runs.

    Returns:
        `exit_code`: 0 where the release is approved; else the gate's, 1 or 10, and no pack was written. `message`: what
        happened, in a sentence. `reasons`: why it was not approved.

    Raises:
        ClipEvalError: something that was named cannot be read, written or used here, or the test process died.
    """
    from clip_eval.run.approval import record as approve

    settings = Settings(
        model=named(checkpoint, "checkpoint"),
        dataset=_optional(dataset, "dataset"),
        device=named(device, "device"),
        attention=_optional(attention, "attention"),
        throughput=False,
    )
    return approve(
        settings,
        out=_place(out, "out"),
        add_to=_place(add_to, "add_to"),
        reports=_place(report, "report"),
        speeds=throughput,
        say=_silent if quiet else _say,
    )


def bench(
    checkpoint: str | Path,
    *,
    against: str | Path | None = None,
    against_python: str | Path | None = None,
    devices: Sequence[str] = ("cpu",),
    dtypes: Sequence[str] = (),
    attentions: Sequence[str] = (),
    compile: bool = False,
    threads: int = 1,
    most_rows: int | None = None,
    out: str | Path = DEFAULT_OUT,
    quiet: bool = False,
) -> Bench:
    """Measure how fast a checkpoint is here, and what to run; bench.json, bench.md and bench.html are in `out`.

    Args:
        checkpoint: a directory, or a hub id with or without @revision.
        against: another checkpoint, timed in turns with it.
        against_python: the other side runs under this interpreter; by default itself.
        devices: torch devices; of several the first is measured, then all at once.
        dtypes: to be tried; by default the stored dtype and bfloat16.
        attentions: to be tried; by default the library's choice and eager.
        compile: try torch.compile on what is fastest without it.
        threads: of torch.
        most_rows: the largest batch; by default what the device can be expected to take.
        out: where the reports go.
        quiet: say nothing on stderr while it runs.

    Returns:
        What is in bench.json: `configurations`, `recommendations`, `comparisons`, `compiled`, `at_once`, `notes`,
        `provenance`; see `clip_eval.throughput.bench.Bench`.

    Raises:
        ClipEvalError: something that was named cannot be read, written or used here.
    """
    from clip_eval.throughput.bench import Options, run_bench, write_bench

    options = Options(
        model=named(checkpoint, "checkpoint"),
        against=_optional(against, "against"),
        against_python=_optional(against_python, "against_python"),
        devices=_several(devices, "devices"),
        dtypes=_several(dtypes, "dtypes"),
        attentions=_several(attentions, "attentions"),
        compiled=compile,
        threads=threads,
        most_rows=most_rows,
    )
    where = writable_directory(named(out, "out"))
    found = run_bench(options, say=_silent if quiet else _say)
    write_bench(found, where)
    return found


def _optional(value: object, option: str) -> str | None:
    return None if value is None else named(value, option)


def _place(value: object, option: str) -> Path | None:
    return None if value is None else Path(named(value, option))


def _several(values: object, option: str) -> tuple[str, ...]:
    """The names in a list; a text by itself is a list of letters to Python, and one name to whoever wrote it."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise UsageError(f"{option} takes a list of names", where=values, fix=f'Write it as {option}=["..."]')
    return tuple(named(value, option) for value in values)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _silent(line: str) -> None:
    """Take a line of progress and drop it."""
