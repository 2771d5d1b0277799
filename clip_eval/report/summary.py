"""What a report says first: why the verdict is what it is, what was compared with what, and what to do next."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from clip_eval.report.text import clip, warned
from clip_eval.verdict.change_causes import Consequence
from clip_eval.verdict.changes import grouped
from clip_eval.verdict.reasons import by_cause, failed_names, listed
from clip_eval.verdict.run_record import CheckResult, RunRecord, SubjectInfo

__all__ = ["Step", "compared", "counting", "name_of", "next_steps", "roots", "short_digest", "why"]

_SHOWN = 3  # failures with a step of their own
_DIGEST_LENGTH = 12
_FINDING, _WORDS = 160, 4  # most characters and fewest words of a finding's first clause that says enough alone
_CHANGE_WORDS: dict[Consequence, str] = {
    "values": "values differ",
    "calls": "calls fail",
    "types": "types or fields differ",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to do, with the command that does it; None where there is none."""

    text: str
    command: str | None = None


def why(record: RunRecord) -> str:
    """Why the verdict is what it is, in one or two plain sentences, and what the policy only warns of."""
    warnings = [name for entry in record.scope for name in warned(record, entry.name)]
    told = f" The policy only warns of {listed(warnings)}." if warnings else ""
    return f"{_why(record, whole=not warnings)}{told}"


def _why(record: RunRecord, *, whole: bool) -> str:
    if record.verdict == "fail":
        return " ".join(_failures(record))
    unjudged = [entry for entry in record.scope if entry.status == "could_not"]
    if record.verdict == "inconclusive":
        gaps = "; ".join(f"{entry.name}: {entry.reason}" for entry in unjudged)
        what = "was judged" if whole else "blocks"
        return f"Nothing that {what} failed, but not everything asked for could be judged{gaps and f' ({gaps})'}."
    judged = [entry.name for entry in record.scope if entry.status == "judged"]
    rest = [entry for entry in record.scope if entry.status == "not_asked"]
    absent = ", ".join(entry.name for entry in rest if not entry.reason)
    measured = ", ".join(entry.name for entry in rest if entry.reason)
    return (
        f"Everything that {'was judged' if whole else 'blocks'} is as it should be: {', '.join(judged)}."
        f"{absent and f' Not asked: {absent}.'}{measured and f' Measured, not judged: {measured}.'}"
    )


def compared(record: RunRecord) -> str:
    """What was compared with what, in one sentence."""
    candidate, baseline = record.candidate, record.baseline
    how = ", ".join(part for part in (candidate.dtype, candidate.device, candidate.attention) if part)
    release = f"transformers {record.provenance['transformers']}"
    text = f"{name_of(candidate)} under {release} ({how or 'not loaded'}) against CLIP in float64"
    if baseline is None:
        return f"{text}; no approved release."
    surface = f", {baseline.surface}" if baseline.surface else ""
    return f"{text} and against the approved release {name_of(baseline)}{surface}."


def next_steps(record: RunRecord) -> Sequence[Step]:
    """What to do next, the most important first; at least one thing."""
    first: dict[str, CheckResult] = {}
    for check in roots(record):
        first.setdefault(check.diverges_at or check.id, check)  # cases of one check are mended together
    steps = [_look_at(check) for check in list(first.values())[:_SHOWN]]
    if any(change.accepted is None for change in record.surface_changes):
        steps.append(_accept(record))
    model = shlex.quote(record.candidate.source)
    if any(task.outcome == "failed" for task in record.tasks):
        steps.append(Step(text="Look at the answers that were lost, under Tasks."))
    if any(timing.outcome == "failed" for timing in record.throughput):
        steps.append(Step(text="Time it again, on a quiet machine.", command=f"clip-eval bench {model}"))
    if any(warned(record, entry.name) for entry in record.scope):
        steps.append(Step(text="See to what only warns, before it blocks: the notes name it."))
    if not steps and record.verdict == "inconclusive":
        steps.append(_settle(record))
    if not steps and record.baseline is None:
        text = "Record a pack, so that later releases are compared with this one."
        steps.append(Step(text=text, command=f"clip-eval record {model} --out PACK"))
    return steps or [Step(text="Nothing is left to do for what was asked.")]


def roots(record: RunRecord) -> list[CheckResult]:
    """Failed checks and errors that follow from no other, without those that only count surface changes."""
    names = failed_names(record.checks)
    told = counting(record)
    return [check for check in by_cause(record.checks) if check.because not in names and check not in told]


def counting(record: RunRecord) -> list[CheckResult]:
    """Failed checks that only count surface changes, which are told as such."""
    told = {change.check for change in record.surface_changes if change.accepted is None}
    return [check for check in by_cause(record.checks) if check.id in told]


def name_of(subject: SubjectInfo) -> str:
    """The last part of a path; a hub id in full."""
    path = PurePath(subject.source)
    return path.name if path.is_absolute() or len(path.parts) > 2 else subject.source


def short_digest(value: str | None) -> str:
    """The first digits of a fingerprint; empty without one."""
    return "" if value is None else value.removeprefix("sha256").lstrip(": ")[:_DIGEST_LENGTH]


def _failures(record: RunRecord) -> list[str]:
    causes = roots(record)
    failed = [check for check in causes if check.outcome == "failed"]
    sentences = []
    if failed:
        wrong = (check for check in failed if check.diverges_at and check.scope == "contract")
        module = next((check.diverges_at for check in wrong), None)
        place = f"What the model computes is wrong from {module} on" if module else _broken(failed[0])
        others = {check.id for check in failed} - {failed[0].id}
        sentences.append(f"{place}{_beside(len(others))}.")
    return [*sentences, *_changes(record, alone=not causes), *_trials(record)]


def _beside(count: int) -> str:
    if not count:
        return ""
    return f", and {count} other check{' fails' if count == 1 else 's fail'} that may have another cause"


def _broken(check: CheckResult) -> str:
    """What a finding says before it goes into details, else the promise that does not hold."""
    head = clip(check.reason or "", limit=_FINDING + 1).partition(": ")[0]
    if check.reason and len(head.split()) >= _WORDS and len(head) <= _FINDING:
        return head.rstrip(".")
    return f"This does not hold: {clip(check.promise, limit=200).rstrip('.')}"


def _changes(record: RunRecord, *, alone: bool) -> list[str]:
    groups = [group for group in grouped(record.surface_changes) if group.open]
    if not groups:
        return []
    kinds = Counter(group.consequence for group in groups for _ in group.open)
    told = [f"in {kinds[kind]} {what}" for kind, what in _CHANGE_WORDS.items() if kinds[kind]]
    count = sum(kinds.values())
    said = f"{count} difference{' is' if count == 1 else 's are'} not accepted{': ' if told else ''}{listed(told)}."
    if alone and _is_right(record):
        return [f"The numbers are those of the reference, but {said}"]
    return [f"Against the approved release {said}"]


def _is_right(record: RunRecord) -> bool:
    return any(entry.name == "contract" and entry.status == "judged" for entry in record.scope)


def _trials(record: RunRecord) -> list[str]:
    worse = [task.name for task in record.tasks if task.outcome == "failed"]
    slow = [timing.name for timing in record.throughput if timing.outcome == "failed"]
    return [
        *([f"It answers worse than the approved release: {listed(worse)}."] if worse else []),
        *([f"It is slower than allowed: {listed(slow)}."] if slow else []),
    ]


def _look_at(check: CheckResult) -> Step:
    if check.outcome == "error":
        return Step(text=f"See why {check.name} ended in an error.", command=check.rerun)
    if check.diverges_at:
        return Step(text=f"Look at {check.diverges_at}, where {check.name} differs first.", command=check.rerun)
    return Step(text=f"Mend what {check.name} found.", command=check.rerun)


def _settle(record: RunRecord) -> Step:
    if any(check.reason == "deselected" for check in record.checks):
        return Step(text="Gate again without -k, so that every check runs.")
    return Step(text="Settle what could not be judged: the reasons below name it. Then gate again.")


def _accept(record: RunRecord) -> Step:
    model, pack = (
        shlex.quote(record.candidate.source),
        shlex.quote(record.baseline.source if record.baseline else "PACK"),
    )
    text = (
        "Read what changed. Copy the draft below it to a file, write the reasons, delete what is not intended, and "
        "gate again."
    )
    return Step(text=text, command=f"clip-eval gate {model} --baseline {pack} --accepted FILE")
