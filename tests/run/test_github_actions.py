"""On GitHub Actions a gate leaves a job summary and annotations; elsewhere nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from support import sample_records as sample

from clip_eval.report import render_markdown
from clip_eval.run.github_actions import add_to_job_summary, workflow_commands

ON_GITHUB = {"GITHUB_ACTIONS": "true"}


def test_failures_are_annotated() -> None:
    """The verdict and every cause have an error with the command that runs the check again."""
    lines = workflow_commands(sample.failing_record(), ON_GITHUB)
    assert lines[0].startswith("::error title=clip-eval%3A fail::What the model computes is wrong from ")
    assert any(sample.RERUN in line for line in lines)
    assert all(line.startswith("::error title=") for line in lines)


def test_what_could_not_be_judged_is_a_warning() -> None:
    """An inconclusive run is no error, and a pass says nothing."""
    assert workflow_commands(sample.inconclusive_record(), ON_GITHUB)[0].startswith("::warning title=")
    assert workflow_commands(sample.passing_record(), ON_GITHUB) == []
    assert workflow_commands(sample.failing_record(), {}) == []


def test_what_only_warns_is_annotated_as_that() -> None:
    """A pass with warnings has them, a failure has them after its errors; other notes are no annotations."""
    notes = ("Warning: Throughput image_tower failed: slow.", "The policy lets a.b warn: known.")
    softened = dataclasses.replace(sample.passing_record(), notes=notes)
    line = "::warning title=clip-eval::Throughput image_tower failed: slow."
    assert workflow_commands(softened, ON_GITHUB) == [line]
    assert workflow_commands(dataclasses.replace(sample.failing_record(), notes=notes), ON_GITHUB)[-1] == line


def test_a_text_starts_no_command_of_its_own() -> None:
    """Line breaks and per cent signs of a record stay within the annotation."""
    check = sample.failed_check(promise="100 %\n::warning::x", case="a,b:c")
    lines = workflow_commands(sample.record(checks=(check,)), ON_GITHUB)
    assert not any("\n" in line for line in lines)
    assert "title=reference_values.hidden_states[a%2Cb%3Ac]::100 %25 ::warning::x" in lines[1]


def test_the_summary_is_added_to_the_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The Markdown report comes after what other steps wrote; a file that cannot be written is said."""
    file = tmp_path / "summary.md"
    file.write_text("before\n", encoding="utf-8")
    record = sample.passing_record()
    add_to_job_summary(record, {"GITHUB_STEP_SUMMARY": str(file)})
    assert file.read_text(encoding="utf-8") == f"before\n{render_markdown(record)}"
    add_to_job_summary(record, {})
    add_to_job_summary(record, {"GITHUB_STEP_SUMMARY": str(tmp_path / "none" / "x")})
    assert "the job summary cannot be written" in capsys.readouterr().err
