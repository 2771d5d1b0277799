"""Text that every renderer needs: lines of 80 columns, characters that XML and terminals take, chapters, numbers."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from clip_eval.errors import UsageError
from clip_eval.verdict.measurement import EXACT_RULE, Measurement, format_number, worst
from clip_eval.verdict.plain_values import Json
from clip_eval.verdict.policy_info import PolicyInfo
from clip_eval.verdict.run_record import (
    CheckOutcome,
    CheckResult,
    RunRecord,
    Scope,
    ScopeEntry,
    TaskResult,
    ThroughputResult,
)

__all__ = [
    "OUTCOME_WORDS",
    "Chapter",
    "ScopeWords",
    "aligned",
    "bullets",
    "by_chapter",
    "clean",
    "clip",
    "count_outcomes",
    "epoch_ms",
    "error_against_bound",
    "index_text",
    "noted",
    "paragraph",
    "policy_rules",
    "scope_words",
    "times_over",
    "title",
    "warned",
]

OUTCOME_WORDS: dict[CheckOutcome, str] = {
    "failed": "failed",
    "error": "error",
    "warned": "warning only",
    "not_run": "not run",
    "deviation": "deviation",
    "not_applicable": "not applicable",
    "passed": "passed",
}

_ESCAPE_SEQUENCES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")

# The complement of production [2] Char in XML 1.0 (fifth edition), https://www.w3.org/TR/xml/#charsets.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """The results of one chapter, in the order of the record."""

    name: str
    checks: tuple[CheckResult, ...]

    @property
    def worst(self) -> Measurement | None:
        """The chapter's worst measurement with a number; None without one."""
        return worst(
            measurement for check in self.checks for measurement in check.measurements if measurement.ratio is not None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeWords:
    """A scope's result in words, with the outcome whose sign is shown beside it."""

    sign: str
    text: str


def by_chapter(checks: Sequence[CheckResult]) -> tuple[Chapter, ...]:
    """The chapters in order of appearance."""
    chapters: dict[str, list[CheckResult]] = {}
    for check in checks:
        chapters.setdefault(check.chapter, []).append(check)
    return tuple(Chapter(name=name, checks=tuple(members)) for name, members in chapters.items())


def count_outcomes(checks: Sequence[CheckResult]) -> dict[CheckOutcome, int]:
    """The number of checks by outcome, worst outcome first, without outcomes that did not occur."""
    counts = {outcome: sum(check.outcome == outcome for check in checks) for outcome in OUTCOME_WORDS}
    return {outcome: count for outcome, count in counts.items() if count}


def scope_words(record: RunRecord, entry: ScopeEntry) -> ScopeWords:
    """A scope's result: whether it was judged, and if so whether anything in it failed."""
    failed = _has_failure(record, entry.name)
    if entry.status == "not_asked":
        return ScopeWords(sign="not_asked", text="not judged" if entry.reason else "not asked")
    if entry.status == "judged":
        if not failed and warned(record, entry.name):
            return ScopeWords(sign="warned", text="passed, with warnings")
        return ScopeWords(sign="failed", text="failed") if failed else ScopeWords(sign="passed", text="passed")
    if failed:
        return ScopeWords(sign="failed", text="failed, not judged in full")
    judged = any(check.scope == entry.name and check.outcome in ("passed", "deviation") for check in record.checks)
    return ScopeWords(sign="could_not", text="not judged in full" if judged else "could not be judged")


def _has_failure(record: RunRecord, scope: Scope) -> bool:
    open_changes = scope == "baseline" and any(change.accepted is None for change in record.surface_changes)
    return open_changes or "failed" in _outcomes(record, scope)


def warned(record: RunRecord, scope: Scope) -> list[str]:
    """What a policy lets warn in a scope: names of checks, scores and timings, and how many surface changes."""
    trials = _trials(record, scope)
    checks = [check.name for check in record.checks if check.scope == scope and check.outcome == "warned"]
    changes = sum(change.warned for change in record.surface_changes) if scope == "baseline" else 0
    told = [f"{changes} surface change{'' if changes == 1 else 's'}"] if changes else []
    return [*checks, *(trial.name for trial in trials if trial.outcome == "warned"), *told]


def noted(note: str, *, word: str = "Note") -> str:
    """A note of a record after this word, a warning as it is."""
    return note if note.startswith("Warning: ") else f"{word}: {note}"


def policy_rules(policy: PolicyInfo) -> list[str]:
    """A policy's rules, one a line as `key = value`, the keys of tables before a dot."""
    return list(_rules("", policy.rules))


def _rules(name: str, value: Json) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _rules(f"{name}.{key}" if name else key, item)
    elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
        for place, item in enumerate(value, start=1):
            yield from _rules(f"{name}[{place}]", item)
    else:
        yield f"{name} = {json.dumps(value, ensure_ascii=False)}"


def _outcomes(record: RunRecord, scope: Scope) -> list[str]:
    checks = [check.outcome for check in record.checks if check.scope == scope]
    return [*checks, *(trial.outcome for trial in _trials(record, scope))]


def _trials(record: RunRecord, scope: Scope) -> Sequence[TaskResult | ThroughputResult]:
    if scope == "tasks":
        return record.tasks
    return record.throughput if scope == "throughput" else ()


def clean(text: str) -> str:
    """The text without terminal escape sequences and without characters that XML 1.0 forbids."""
    return _NOT_XML.sub("", _ESCAPE_SEQUENCES.sub("", text))


def clip(text: str, *, limit: int = 240) -> str:
    """The cleaned text in one line of at most `limit` characters."""
    line = " ".join(clean(text).split())
    return line if len(line) <= limit else f"{line[: limit - 4]} ..."


def paragraph(text: str, *, first: str = "", rest: str = "", width: int = 80, breaks_words: bool = False) -> str:
    """The text in lines of `width` columns, the first after `first`, each other one after `rest`.

    A path, an id or a command wider than that stays whole, so that it can be copied, unless `breaks_words`.
    """
    return textwrap.fill(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=breaks_words, break_on_hyphens=False
    )


def bullets(texts: Iterable[str]) -> list[str]:
    """Each text as a paragraph after a dash, in lines."""
    return [line for text in texts for line in paragraph(text, first="- ", rest="  ").splitlines()]


def aligned(rows: Sequence[Sequence[str]], *, words: Sequence[int]) -> list[str]:
    """A table for a terminal: columns of words to the left, of numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        " ".join(
            cell.ljust(width) if column in words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def title(identifier: str) -> str:
    """A chapter or scope name for a heading: `contrastive_head` becomes "Contrastive head"."""
    words = identifier.replace("_", " ")
    return words[:1].upper() + words[1:]


def index_text(index: tuple[int, ...] | None) -> str:
    """An index such as "[0, 3]"; empty for a scalar and without an element."""
    return f"[{', '.join(map(str, index))}]" if index else ""


def times_over(measurement: Measurement) -> str:
    """Error over bound in words, such as "3,200 times the bound" or "0.16 of the bound"; empty without a number."""
    ratio = measurement.ratio
    if ratio is None:
        return ""
    if measurement.bound == 0:
        return "exact" if ratio == 0 else "should be exact"
    if not math.isfinite(ratio):
        return "not comparable"
    rounded = float(format_number(ratio, digits=2))
    if rounded <= 1:
        return f"{format_number(rounded)} of the bound"
    return f"{rounded:,.{0 if rounded >= 10 else 1}f} times the bound"


def error_against_bound(measurement: Measurement) -> str:
    """Such as "0.0421 against 1.2e-05, 3,500 times the bound (budget whole_model)"; without a number, the rule."""
    if measurement.error is None or measurement.bound is None:
        rule = measurement.budget
        return f"not numeric: must be {rule}" if rule == EXACT_RULE else f"not numeric (budget {rule})"
    unit = f" {measurement.unit}" if measurement.unit else ""
    error, bound = format_number(measurement.error), format_number(measurement.bound)
    return f"{error}{unit} against {bound}{unit}, {times_over(measurement)} (budget {measurement.budget})"


def epoch_ms(started: str) -> int:
    """The start of a run in milliseconds since 1970. Raises UsageError for an impossible time, such as month 13."""
    plain = re.sub(r"\.[0-9]+", "", started).replace("Z", "+00:00")  # all that Python 3.10 reads
    try:
        return round(datetime.fromisoformat(plain).timestamp() * 1000)
    except ValueError as problem:
        raise UsageError("the run record has no valid time of its start", where=started) from problem
