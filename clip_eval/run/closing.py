"""The end of a run on the terminal: what was decided and why, where the reports are, and what to do next."""

from __future__ import annotations

from pathlib import Path

from clip_eval.report.summary import next_steps
from clip_eval.report.text import noted, paragraph
from clip_eval.verdict.run_record import RunRecord

__all__ = ["closing_paragraphs", "next_lines"]


def closing_paragraphs(record: RunRecord, written_to: Path | None) -> list[str]:
    """Headline, reasons, notes, the policy, and the report's place: None where no reports were written."""
    reasons = [paragraph(reason, first="- ", rest="  ") for reason in record.reasons]
    notes = [paragraph(noted(note, word="note"), rest="  ") for note in record.notes]
    policy = [] if record.policy is None else [f"policy: {record.policy.source}"]
    reports = [] if written_to is None else [f"reports: {written_to / 'report.html'}"]
    return [paragraph(record.headline), *reasons, *notes, *policy, *reports]


def next_lines(record: RunRecord) -> list[str]:
    """What to do next, as the report says it; the commands are whole, to be copied. Nothing after a pass."""
    steps = next_steps(record) if record.verdict != "pass" else []
    texts = [(paragraph(step.text, first="next: ", rest="  "), step.command) for step in steps]
    return [line for text, command in texts for line in (text, *([f"  {command}"] if command else []))]
