"""The Markdown summary says what a person in a hurry needs, and nothing in a record breaks its tables."""

from __future__ import annotations

import dataclasses

from support import sample_records as sample

from clip_eval.report import render_markdown
from clip_eval.report.failure_text import failure_lines
from clip_eval.verdict.acceptances import draft


def table_rows(text: str, heading: str) -> list[str]:
    """The body rows of the table under a heading."""
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("|")][2:]


def test_a_pass_is_short() -> None:
    """A passing run has its headline first, its scope, its tables and no failures."""
    record = sample.passing_record()
    text = render_markdown(record)
    assert record.headline in text.splitlines()[0]
    assert "## Failing checks" not in text
    assert len(table_rows(text, "Scope")) == 4
    assert "13 checks" not in text
    assert "1 deviation, 1 not applicable, 11 passed" in text


def test_a_fail_has_the_five_lines_of_each_failure() -> None:
    """Every failing check and every error has its section with its lines."""
    record = sample.failing_record()
    text = render_markdown(record)
    told = {change.check for change in record.surface_changes}
    broken = [one for one in record.checks if one.outcome in ("failed", "error") and one.id not in told]
    assert text.count("\n### `") == len(broken)
    for check in broken:
        section = text.partition(f"### `{check.name}`")[2].partition("\n### ")[0]
        assert [f"**{line.label}**" in section for line in failure_lines(check)] == [True] * len(failure_lines(check))


def test_what_follows_from_a_failure_is_a_line_in_a_fold() -> None:
    """One cause is one section; the first forty of what may follow from it have a line each, the rest is counted."""
    root = sample.failed_check()
    followers = tuple(sample.check(f"a.follower_{number}", outcome="failed", because=root.name) for number in range(45))
    text = render_markdown(dataclasses.replace(sample.failing_record(), checks=(*followers, root)))
    section = text.partition("## Failing checks\n")[2].partition("\n## ")[0]
    assert section.count("\n### `") == 1
    assert "<summary>45 more checks failed, and may follow from it</summary>" in section
    assert section.count("\n- `a.follower_") == 40
    assert "- and 5 more, in report.html" in section


def test_reasons_are_listed() -> None:
    """Each reason is one item."""
    record = sample.inconclusive_record()
    items = [line for line in render_markdown(record).splitlines() if line.startswith("- ")]
    assert len(items) == len(record.reasons)


def test_changes_tasks_and_speed_are_tables() -> None:
    """Every change has a row, in a fold; accepted changes stand apart with their reasons; tasks and timings follow."""
    text = render_markdown(sample.failing_record())
    changes = text.partition("## What changed\n")[2].partition("\n## ")[0]
    assert "### Types or fields differ (1)\n\n- **others** (1)" in changes
    assert "### Accepted\n\n- **others: types or fields differ** (1): merges re-sorted, no id changed" in changes
    folded = changes.partition("All 2 changes")[2]
    assert f"| {sample.change().id} | {sample.change().before} |" in folded
    assert "| fingerprint.tokenizer |" in folded
    assert "0.883 to 0.934" in table_rows(text, "Tasks")[0]
    assert "1.064 to 1.103" in table_rows(text, "Throughput")[1]


def test_a_draft_accepts_what_is_open() -> None:
    """The summary holds the text of a file of acceptances that lacks nothing but the reasons."""
    text = render_markdown(sample.record(surface_changes=(sample.change(after="a ``` b"), sample.change(accepted="x"))))
    _, fence, rest = text.partition("````toml\n")
    assert fence
    assert rest.partition("````")[0] == draft([sample.change(after="a ``` b")])


def test_provenance_names_both_subjects() -> None:
    """Candidate and baseline are there with dtype and weights; unknown facts are left out."""
    text = render_markdown(sample.passing_record())
    assert "checkpoints/candidate-2025-06 (float32, cpu, sdpa; weights sha256:6f0c3a54f" in text
    assert "| baseline | baselines/vit-b-32" in text
    assert "| gpu |" not in text
    assert "| baseline |" not in render_markdown(sample.inconclusive_record())


def test_many_failures_are_cut_with_a_count() -> None:
    """A run with very many failures stays within a job summary and says how many are left out."""
    checks = [sample.failed_check(case=str(number)) for number in range(45)]
    text = render_markdown(sample.record(checks=checks))
    assert text.count("\n### ") == 40
    assert "5 more are in report.html." in text


def test_it_fits_into_a_comment() -> None:
    """Whatever a run holds, the summary has less than 65,000 characters, and says where the rest is."""
    checks = [sample.failed_check(case=str(number), reason="x" * 5000, measurements=()) for number in range(300)]
    changes = [sample.change(id=f"CLIPModel().{number}", before="y" * 9000) for number in range(400)]
    text = render_markdown(sample.record(checks=checks, surface_changes=changes))
    assert len(text) < 65_000
    assert text.count("more are in report.html.") == 1
    assert "outputs and calls** (400)" in text
    assert "All 400 changes" not in text
    short = [sample.change(id=f"CLIPModel().{number}") for number in range(50)]
    assert "All 50 changes" in render_markdown(sample.record(surface_changes=short))


def test_hostile_text_stays_text() -> None:
    """Pipes, line breaks, HTML and Markdown in a record are shown as they are."""
    hostile = "a|b\n<img src=x> `c` *d* [e](f) _g_"
    record = sample.record(surface_changes=(sample.change(before=hostile),), tasks=(sample.task(reason=hostile),))
    rows = table_rows(render_markdown(record), "What changed")
    assert len(rows) == 1
    assert r"a\|b &lt;img src=x&gt; \`c\` \*d\* \[e\](f) \_g\_" in rows[0]


def test_identifiers_stay_readable() -> None:
    """An underscore inside a word needs no escape."""
    made = sample.record(checks=(sample.check("contrastive_head.unit_norm", outcome="not_run", reason="no_tokenizer"),))
    assert "contrastive_head.unit_norm" in render_markdown(made)


def test_an_empty_run_says_so() -> None:
    """A run without checks says that none ran, and backticks in a name are held."""
    assert "No check ran." in render_markdown(sample.record(checks=()))
    odd = dataclasses.replace(sample.failed_check(), case="a`b")
    assert "`` reference_values.hidden_states[a`b] ``" in render_markdown(sample.record(checks=(odd,)))
