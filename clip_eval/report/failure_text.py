"""The five lines of a failure: promise, worst element, error against bound, first diverging module, rerun command."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from clip_eval.report.text import clip, error_against_bound, index_text, paragraph
from clip_eval.verdict.measurement import Measurement, format_number, worst
from clip_eval.verdict.reasons import cause
from clip_eval.verdict.run_record import CheckResult

__all__ = [
    "FailureLine",
    "failure_lines",
    "terminal_failure",
    "terminal_lines",
]

_LABEL_COLUMNS = 10
_WORDS = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*"|['"])+""")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureLine:
    """One line of a failure. Without a measurement, the cause replaces the worst element; a failure that may follow
    from another has one line more. What is no check has "where" for the module that diverges.
    """

    label: Literal["promise", "worst", "cause", "error", "diverges", "where", "because", "rerun"]
    text: str


def failure_lines(check: CheckResult) -> tuple[FailureLine, ...]:
    """The lines that apply to the check, in their fixed order."""
    measurement = worst(item for item in check.measurements if not item.passed)
    cause_line = [FailureLine(label="cause", text=clip(_cause(check), limit=600))]
    lines = (
        FailureLine(label="promise", text=_promise(check)),
        *(cause_line if measurement is None else _measured(measurement)),
        FailureLine(label="diverges", text=clip(check.diverges_at or "")),
        FailureLine(label="because", text=f"may follow from {clip(check.because)}" if check.because else ""),
        FailureLine(label="rerun", text=clip(check.rerun or "", limit=2000)),
    )
    return tuple(line for line in lines if line.text)


def terminal_failure(check: CheckResult, *, width: int = 80) -> str:
    """The five lines of a failed check for a terminal of `width` columns; a command is continued with backslashes.

    A module path, a file name or a quoted argument wider than the terminal stays whole, so that it can be copied.
    """
    return terminal_lines(failure_lines(check), width=width)


def terminal_lines(lines: Iterable[FailureLine], *, width: int = 80) -> str:
    """The same for lines."""
    return "\n".join(_wrapped(line, width=width) for line in lines)


def _cause(check: CheckResult) -> str:
    """The reason in full: it names file, field, values and remedy."""
    return check.reason or cause(check)


def _promise(check: CheckResult) -> str:
    instead = f" (asserted instead: declared deviation {check.deviation})" if check.deviation else ""
    return clip(f"{check.promise}{instead}", limit=400)


def _measured(measurement: Measurement) -> list[FailureLine]:
    element = f"{clip(measurement.name)}{index_text(measurement.worst_index)}"
    worst_text = f"{element}: observed {clip(measurement.observed)}, expected {clip(measurement.expected)}"
    return [FailureLine(label="worst", text=worst_text), FailureLine(label="error", text=_error(measurement))]


def _error(measurement: Measurement) -> str:
    if measurement.required is None or measurement.error is None:
        return error_against_bound(measurement)
    return f"{error_against_bound(measurement)}; a bound of {format_number(measurement.required)} would have passed"


def _wrapped(line: FailureLine, *, width: int) -> str:
    label, margin = f"{line.label:<{_LABEL_COLUMNS}}", " " * _LABEL_COLUMNS
    if line.label == "rerun":
        return label + f"\n{margin}".join(_command_rows(line.text, width=width - _LABEL_COLUMNS))
    breaks = line.label in ("worst", "cause", "where")
    return paragraph(line.text, first=label, rest=margin, width=width, breaks_words=breaks)


def _command_rows(command: str, *, width: int) -> list[str]:
    """The command cut between its arguments, never inside quotes."""
    rows: list[str] = []
    for word in _WORDS.findall(command):
        # Two columns are kept for the continuation mark.
        if rows and len(rows[-1]) + 1 + len(word) <= width - 2:
            rows[-1] += f" {word}"
        else:
            rows.append(word)
    return [f"{row} \\" for row in rows[:-1]] + rows[-1:]
