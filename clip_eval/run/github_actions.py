"""What a gate leaves on GitHub Actions: the summary of the job, and an annotation for each cause of a failure."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from clip_eval.report import render_markdown
from clip_eval.report.summary import next_steps, roots, why
from clip_eval.report.text import clip
from clip_eval.verdict.reasons import cause
from clip_eval.verdict.run_record import RunRecord

__all__ = ["add_to_job_summary", "workflow_commands"]

_SUMMARY = "GITHUB_STEP_SUMMARY"
_WARNING = "Warning: "
_MOST = 10  # annotations that GitHub shows of one step


def workflow_commands(record: RunRecord, environment: Mapping[str, str]) -> Sequence[str]:
    """Workflow commands, one line each: the verdict first, then what failed, then what only warns; none outside GitHub
    Actions, and on a pass without warnings.

    Args:
        record: the run.
        environment: of this process.
    """
    if environment.get("GITHUB_ACTIONS") != "true":
        return []
    warnings = [note for note in record.notes if note.startswith(_WARNING)]
    softened = [f"::warning title=clip-eval::{_data(note.removeprefix(_WARNING))}" for note in warnings]
    if record.verdict == "pass":
        return softened[:_MOST]
    kind = "error" if record.verdict == "fail" else "warning"
    causes = [(check.name, f"{check.promise} {cause(check)} {_again(check.rerun)}") for check in roots(record)]
    steps = " ".join(step.text for step in next_steps(record))
    told = [(f"clip-eval: {record.verdict}", f"{why(record)} {steps}"), *causes]
    commands = [f"::{kind} title={_property(title)}::{_data(text)}" for title, text in told]
    return [*commands, *softened][:_MOST]


def add_to_job_summary(record: RunRecord, environment: Mapping[str, str]) -> None:
    """Append the Markdown report to the file that GitHub Actions names, if it names one; says so if it cannot."""
    file = environment.get(_SUMMARY)
    if not file:
        return
    try:
        with Path(file).open("a", encoding="utf-8") as stream:
            stream.write(render_markdown(record))
    except OSError as error:
        sys.stderr.write(f"WARNING: the job summary cannot be written ({error.strerror}): {file}\n")


def _again(command: str | None) -> str:
    return f"Run again: {command}" if command else ""


def _data(text: str) -> str:
    return clip(text, limit=2000).replace("%", "%25")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
