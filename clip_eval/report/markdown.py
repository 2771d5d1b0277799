"""`summary.md`: the run for a CI job's summary page, in GitHub-flavoured Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from itertools import accumulate

from clip_eval.report import summary, trials
from clip_eval.report.failure_text import failure_lines
from clip_eval.report.text import OUTCOME_WORDS, clip, count_outcomes, noted, policy_rules, scope_words, title
from clip_eval.verdict.acceptances import draft
from clip_eval.verdict.changes import CONSEQUENCES, ChangeGroup, by_consequence, grouped
from clip_eval.verdict.measurement import format_number
from clip_eval.verdict.reasons import findings, of_changes, of_merits
from clip_eval.verdict.run_record import CheckResult, RunRecord, SubjectInfo, SurfaceChange

__all__ = ["changes_in_full", "literal", "render_markdown", "table"]

# GitHub takes 65,536 characters in a comment; what does not fit is in report.html.
_MOST = 65_000
_ROOM_FOR_FAILURES, _ROOM_FOR_REASONS, _ROOM_FOR_DRAFT = 24_000, 8_000, 12_000
_SHOWN_FAILURES = 40
_SIGNS = {"pass": "\N{WHITE HEAVY CHECK MARK}", "fail": "\N{CROSS MARK}", "inconclusive": "\N{WARNING SIGN}"}
# An underscore inside a word is literal in GitHub's Markdown, and escaping it would hurt every identifier.
_MARKS = re.compile(r"[\\`*\[\]~]|(?<![^\W_])_|_(?![^\W_])")
_VERSIONS = ("clip_eval", "transformers", "torch", "python", "platform", "cpu", "gpu")


def render_markdown(record: RunRecord) -> str:
    """The run in Markdown, in less than 65,000 characters: what decides first, then what changed, details folded."""
    last = [*_scope(record), "", *_checks(record), "", *_merits(record), "", *_provenance(record)]
    sections = [
        [f"# {_SIGNS[record.verdict]} {literal(record.headline, limit=1000)}"],
        [_long(summary.why(record)), "", _long(summary.compared(record))],
        _next_steps(record),
        _reasons(record),
        _failures(record),
        _changes(record),
        _tasks(record),
        _throughput(record),
        last,
    ]
    text = _joined(sections)
    full = ["", *_folded(f"All {len(record.surface_changes)} changes", changes_in_full(record.surface_changes))]
    if not record.surface_changes or len(text) + len("\n".join(full)) > _MOST:
        return text
    sections[5] = [*sections[5], *full]
    return _joined(sections)


def changes_in_full(changes: Sequence[SurfaceChange], *, level: int = 4) -> list[str]:
    """Every change in lines: a heading and a table for each declared cause or area.

    Args:
        changes: as the record has them.
        level: of the headings.
    """
    lines: list[str] = []
    for group in grouped(changes):
        rows = ((change.id, change.before, change.after, change.accepted or "") for change in group.changes)
        accepted = any(change.accepted for change in group.changes)
        columns = ("id", "before", "after", "accepted because")[: 4 if accepted else 3]
        lines += [f"{'#' * level} {literal(group.name)} ({len(group.changes)})", ""]
        lines += [*([_long(group.sentence), ""] if group.sentence else [])]
        lines += [*table(columns, (row[: len(columns)] for row in rows)), ""]
    return lines


def _joined(sections: Iterable[Sequence[str]]) -> str:
    return "\n".join("\n".join(lines) + "\n" for lines in sections if lines)


def _folded(title: str, lines: Sequence[str]) -> list[str]:
    return [f"<details><summary>{title}</summary>", "", *lines, "", "</details>"]


def _next_steps(record: RunRecord) -> list[str]:
    lines = ["## What to do next", ""]
    for number, step in enumerate(summary.next_steps(record), start=1):
        lines += [f"{number}. {_long(step.text)}"]
        lines += [f"   {_code(step.command)}"] if step.command else []
    return lines


def _reasons(record: RunRecord) -> list[str]:
    """The reasons that no other section tells, and the notes."""
    found = [f"- {_long(one)}" for one in record.reasons if not of_changes(one) and not of_merits(one)]
    found += [f"- {_long(noted(note))}" for note in record.notes]
    kept = _within(found, _ROOM_FOR_REASONS)
    left = [f"- {len(found) - len(kept)} more are in report.html."] if len(kept) < len(found) else []
    return ["## Reasons", "", *kept, *left] if found else []


def _within(texts: Sequence[str], room: int) -> list[str]:
    """The first of the texts that fit into `room` characters together."""
    sizes = accumulate(len(text) + 1 for text in texts)
    return [text for text, size in zip(texts, sizes, strict=True) if size <= room]


def _merits(record: RunRecord) -> list[str]:
    """What passed and what is excused, which decides nothing."""
    found = [f"- {_long(one)}" for one in record.reasons if of_merits(one)]
    return _folded("What passed, and declared deviations", found) if found else []


def _scope(record: RunRecord) -> list[str]:
    rows = ((title(entry.name), scope_words(record, entry).text, entry.reason or "") for entry in record.scope)
    return ["## Scope", "", *table(("scope", "status", "what came out"), rows)]


def _failures(record: RunRecord) -> list[str]:
    counting = summary.counting(record)
    found = findings(check for check in record.checks if check not in counting)
    if not found:
        return []
    sections = ["\n".join([*_failure(lead), *_followers(others)]) for lead, others in found[:_SHOWN_FAILURES]]
    kept = _within(sections, _ROOM_FOR_FAILURES)
    left = [f"{len(found) - len(kept)} more are in report.html."] if len(kept) < len(found) else []
    return ["## Failing checks", "", *kept, *left]


def _followers(checks: Sequence[CheckResult]) -> list[str]:
    if not checks:
        return []
    heading = f"{len(checks)} more {'check' if len(checks) == 1 else 'checks'} failed, and may follow from it"
    shown = [_in_a_line(check) for check in checks[:_SHOWN_FAILURES]]
    left = [f"- and {len(checks) - len(shown)} more, in report.html"] if len(shown) < len(checks) else []
    return [*_folded(heading, [*shown, *left]), ""]


def _in_a_line(check: CheckResult) -> str:
    wrong = next((line.text for line in failure_lines(check) if line.label in ("cause", "error")), "")
    return f"- {_code(check.name)}{': ' if wrong else ''}{_long(wrong)}"


def _failure(check: CheckResult) -> list[str]:
    heading = f"### {_code(check.name)} {OUTCOME_WORDS[check.outcome]}"
    as_code = ("diverges", "rerun")
    lines = failure_lines(check)
    shown = [f"- **{line.label}**: {_code(line.text) if line.label in as_code else _long(line.text)}" for line in lines]
    return [heading, "", *shown, ""]


def _changes(record: RunRecord) -> list[str]:
    """What changed, by what it means: an item for each cause, one change of each kind with both sides, a draft."""
    if not record.surface_changes:
        return []
    groups = grouped(record.surface_changes)
    seen = [f"Seen by {_code(check.name)}; rerun: {_code(check.rerun or 'none')}" for check in summary.counting(record)]
    lines = ["## What changed", "", *seen, *([""] if seen else [])]
    for kind, members in by_consequence([group for group in groups if group.open]).items():
        lines += [f"### {title(CONSEQUENCES[kind])} ({sum(len(group.open) for group in members)})", ""]
        lines += [_group(group) for group in members]
        lines += ["", *_both_sides(members[0].worst), ""]
    accepted = [group for group in groups if any(change.accepted for change in group.changes)]
    if accepted:
        lines += ["### Accepted", "", *map(_accepted, accepted), ""]
    return lines + _draft(record.surface_changes)


def _group(group: ChangeGroup) -> str:
    upstream = f" ([upstream]({group.upstream}))" if group.upstream else ""
    sentence = f": {_long(group.sentence)}" if group.sentence else ""
    return f"- **{literal(group.label)}** ({len(group.open)}){upstream}{sentence}"


def _accepted(group: ChangeGroup) -> str:
    reasons = dict.fromkeys(change.accepted for change in group.changes if change.accepted)
    count = sum(change.accepted is not None for change in group.changes)
    return f"- **{literal(group.name)}** ({count}): {literal('; '.join(map(str, reasons)))}"


def _both_sides(change: SurfaceChange) -> list[str]:
    return [f"Such as {_code(clip(change.id))}: before {_code(clip(change.before))}, after {_code(clip(change.after))}"]


def _draft(changes: Sequence[SurfaceChange]) -> list[str]:
    if all(change.accepted is not None for change in changes):
        return []
    text = draft(changes)
    if len(text) > _ROOM_FOR_DRAFT:
        return ["A draft of the file that accepts them is in report.html."]
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    heading = "A draft of the file that accepts them with --accepted: write the reasons"
    return _folded(heading, [f"{fence}toml", text + fence])


def _tasks(record: RunRecord) -> list[str]:
    if not record.tasks:
        return []
    rows = (
        (
            task.name,
            trials.outcome_words(task),
            format_number(task.score, digits=4),
            _interval(task.interval_low, task.interval_high),
            format_number(task.reference, digits=4),
            str(task.count),
            task.reason or "",
        )
        for task in record.tasks
    )
    columns = ("task", "outcome", "score", "interval", "baseline", "records", "reason")
    return ["## Tasks", "", *table(columns, rows), *_worst_classes(record)]


def _worst_classes(record: RunRecord) -> list[str]:
    """Such as "yellow triangle 8 of 11, most often taken for yellow star", a line for each task that has them."""
    lines: list[str] = []
    for task in record.tasks:
        told = [
            f"{one.name} {one.hits} of {one.images} (taken for {one.taken_for})" for one in trials.worst_classes(task)
        ]
        lines += ["", f"Recognised least often in {_code(task.name)}: {_long(', '.join(told))}."] if told else []
    return lines


def _throughput(record: RunRecord) -> list[str]:
    if not record.throughput:
        return []
    rows = (
        (
            timing.name,
            trials.outcome_words(timing),
            format_number(timing.ratio, digits=4),
            _interval(timing.interval_low, timing.interval_high),
            timing.reference or "none",
            ", ".join(f"{fact.label} {fact.text}" for fact in trials.speed_facts(timing)),
            timing.reason or "",
        )
        for timing in record.throughput
    )
    columns = ("timing", "outcome", "time ratio", "interval", "against", "measured", "reason")
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
    policy = [] if record.policy is None else [("policy", record.policy.source)]
    rules = [] if record.policy is None else ["", *(f"- {_code(rule)}" for rule in policy_rules(record.policy))]
    return _folded("Provenance", [*table(("", ""), [*subjects, *policy, *started, *versions]), *rules])


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
    return literal(value).replace("|", r"\|")


def literal(value: str, *, limit: int = 400) -> str:
    """Return the value as literal text: no HTML, no emphasis, no links."""
    return _MARKS.sub(r"\\\g<0>", html.escape(clip(value, limit=limit), quote=False))


def _long(value: str) -> str:
    return literal(value, limit=1000)


def _code(value: str) -> str:
    """The value as code, in double backticks if it has single ones."""
    value = clip(value, limit=2000)
    return f"`` {value} ``" if "`" in value else f"`{value}`"
