"""`summary.md`: the run for a CI job's summary page, in GitHub-flavoured Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from clip_eval.report.failure_text import failure_lines
from clip_eval.report.text import OUTCOME_WORDS, clip, count_outcomes, scope_words, title
from clip_eval.verdict.acceptances import draft
from clip_eval.verdict.changes import grouped
from clip_eval.verdict.measurement import format_number
from clip_eval.verdict.reasons import by_cause
from clip_eval.verdict.run_record import CheckResult, RunRecord, SubjectInfo, SurfaceChange

__all__ = ["render_markdown", "table"]

# A job summary holds 1 MiB; the other reports hold every failure.
_SHOWN_FAILURES = 40
_SIGNS = {"pass": "\N{WHITE HEAVY CHECK MARK}", "fail": "\N{CROSS MARK}", "inconclusive": "\N{WARNING SIGN}"}
# An underscore inside a word is literal in GitHub's Markdown, and escaping it would hurt every identifier.
_MARKS = re.compile(r"[\\`*\[\]~]|(?<![^\W_])_|_(?![^\W_])")
_VERSIONS = ("clip_eval", "transformers", "torch", "python", "platform", "cpu", "gpu")


def render_markdown(record: RunRecord) -> str:
    """The run in Markdown: headline, reasons, scope, failing checks, changes, tasks, speed, provenance."""
    sections = (
        [f"# {_SIGNS[record.verdict]} {_text(record.headline)}"],
        [f"- {_text(reason, limit=1000)}" for reason in record.reasons],
        [f"- Note: {_text(note, limit=1000)}" for note in record.notes],
        _scope(record),
        _failures(record),
        _open_changes([change for change in record.surface_changes if change.accepted is None]),
        _accepted_changes([change for change in record.surface_changes if change.accepted is not None]),
        _tasks(record),
        _throughput(record),
        _checks(record),
        _provenance(record),
    )
    return "\n".join("\n".join(lines) + "\n" for lines in sections if lines)


def _scope(record: RunRecord) -> list[str]:
    rows = ((title(entry.name), scope_words(record, entry).text, entry.reason or "") for entry in record.scope)
    return ["## Scope", "", *table(("scope", "status", "what came out"), rows)]


def _failures(record: RunRecord) -> list[str]:
    broken = by_cause(record.checks)
    if not broken:
        return []
    lines = ["## Failing checks", ""]
    for check in broken[:_SHOWN_FAILURES]:
        lines += _failure(check)
    if len(broken) > _SHOWN_FAILURES:
        lines += [f"{len(broken) - _SHOWN_FAILURES} more are in report.html."]
    return lines


def _failure(check: CheckResult) -> list[str]:
    heading = f"### {_code(check.name)} {OUTCOME_WORDS[check.outcome]}"
    as_code = ("diverges", "rerun")
    lines = failure_lines(check)
    shown = [f"- **{line.label}**: {_code(line.text) if line.label in as_code else _long(line.text)}" for line in lines]
    return [heading, "", *shown, ""]


def _open_changes(changes: Sequence[SurfaceChange]) -> list[str]:
    """Changes without an acceptance, and a draft of the acceptances without reasons."""
    if not changes:
        return []
    text = draft(changes)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return [
        *("## Surface changes", "", *_by_area(changes)),
        *("<details><summary>A draft of the file that accepts them with --accepted: write the reasons</summary>", ""),
        *(f"{fence}toml", text + fence, "", "</details>"),
    ]


def _by_area(changes: Sequence[SurfaceChange]) -> list[str]:
    lines = []
    for name, group in {group.name: group.changes for group in grouped(changes)}.items():
        rows = ((change.id, change.what, change.before, change.after) for change in group)
        lines += [f"### {title(name)} ({len(group)})", "", *table(("id", "what", "before", "after"), rows), ""]
    return lines


def _accepted_changes(changes: Sequence[SurfaceChange]) -> list[str]:
    if not changes:
        return []
    rows = ((change.id, change.accepted or "", change.before, change.after) for change in changes)
    return ["## Accepted surface changes", "", *table(("id", "accepted because", "before", "after"), rows)]


def _tasks(record: RunRecord) -> list[str]:
    if not record.tasks:
        return []
    rows = (
        (
            task.name,
            task.outcome.replace("_", " "),
            format_number(task.score, digits=4),
            _interval(task.interval_low, task.interval_high),
            format_number(task.reference, digits=4),
            str(task.count),
            task.reason or "",
        )
        for task in record.tasks
    )
    columns = ("task", "outcome", "score", "interval", "baseline", "records", "reason")
    return ["## Tasks", "", *table(columns, rows)]


def _throughput(record: RunRecord) -> list[str]:
    if not record.throughput:
        return []
    rows = (
        (
            timing.name,
            timing.outcome.replace("_", " "),
            format_number(timing.ratio, digits=4),
            _interval(timing.interval_low, timing.interval_high),
            timing.reference or "none",
            timing.reason or "",
        )
        for timing in record.throughput
    )
    columns = ("timing", "outcome", "time ratio", "interval", "against", "reason")
    return ["## Throughput", "", *table(columns, rows)]


def _checks(record: RunRecord) -> list[str]:
    counts = count_outcomes(record.checks)
    if not counts:
        return ["## Checks", "", "No check ran."]
    return ["## Checks", "", ", ".join(f"{count} {OUTCOME_WORDS[outcome]}" for outcome, count in counts.items())]


def _provenance(record: RunRecord) -> list[str]:
    subjects = [("candidate", _subject(record.candidate))]
    if record.baseline is not None:
        subjects.append(("baseline", _subject(record.baseline)))
    versions = [(key, str(record.provenance[key])) for key in _VERSIONS if record.provenance.get(key) is not None]
    started = [("started", record.started), ("duration", f"{record.duration_s:.1f} s")]
    return ["## Provenance", "", *table(("", ""), [*subjects, *started, *versions])]


def _subject(subject: SubjectInfo) -> str:
    weights = subject.fingerprints.get("weights") or "none"
    loaded = ", ".join(part for part in (subject.dtype, subject.device, subject.attention) if part)
    revision = f" at {subject.revision}" if subject.revision else ""
    return f"{subject.source}{revision} ({loaded or 'not loaded'}; weights {weights[:16]})"


def _interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "none"
    return f"{format_number(low, digits=4)} to {format_number(high, digits=4)}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in lines, its cells as literal text: no HTML, no emphasis, no links."""
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return [*head, *("| " + " | ".join(_cell(value) for value in row) + " |" for row in rows)]


def _cell(value: str) -> str:
    return _text(value).replace("|", r"\|")


def _text(value: str, *, limit: int = 400) -> str:
    """The value as literal text: no HTML, no emphasis, no links."""
    return _MARKS.sub(r"\\\g<0>", html.escape(clip(value, limit=limit), quote=False))


def _long(value: str) -> str:
    return _text(value, limit=1000)


def _code(value: str) -> str:
    """The value as code, in double backticks if it has single ones."""
    value = clip(value, limit=2000)
    return f"`` {value} ``" if "`" in value else f"`{value}`"
