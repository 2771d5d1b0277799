"""What moved between two runs: nothing is missed, nothing is told twice, and the sentence says what decides."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from support import sample_records as sample

from clip_eval.report.moved import Moved, compare_runs
from clip_eval.report.moved_pages import render_moved_html, render_moved_markdown
from clip_eval.report.moved_sections import sections, sentence
from clip_eval.verdict.run_record import RunRecord

SAME = "B is the same as A: verdict, checks, margins, surface, scores, speeds, checkpoint and environment."


def run(**changes: object) -> RunRecord:
    """A passing run, with changes to the arguments of the sample."""
    return sample.record(**changes)  # type: ignore[arg-type]


def named(moved: Moved, direction: str) -> list[str]:
    """The checks that moved in one direction."""
    return [check.name for check in moved.checks if check.direction == direction]


@pytest.mark.parametrize("make", [sample.passing_record, sample.inconclusive_record], ids=lambda make: make.__name__)
def test_a_run_is_the_same_as_itself(make: Callable[[], RunRecord]) -> None:
    """Whatever a run holds, NaN too, nothing moved."""
    record = make()
    record = dataclasses.replace(record, tasks=(*record.tasks, sample.task(name="odd", score=math.nan)))
    moved = compare_runs(record, record)
    assert sentence(moved) == SAME
    assert not any(speed.apart for speed in moved.speeds)
    assert [section.id for section in sections(moved) if section.id != "speed"] == ["runs"]


def test_the_verdict_is_the_first_thing_said() -> None:
    """Verdict, then what fails now, then the rest."""
    moved = compare_runs(sample.passing_record(), sample.failing_record())
    said = sentence(moved)
    assert said.startswith("B differs from A in the verdict (pass, now fail), 6 checks that fail now, 1 surface change")
    assert "1 score" in said


def test_outcomes_that_moved() -> None:
    """A check fails now, holds again, has another outcome, or is in one run only."""
    ids = ("a.fails", "a.mended", "a.other", "a.kept", "a.gone", "a.goneBad")
    outcomes = ("passed", "failed", "passed", "failed", "passed", "failed")
    first = [sample.check(name, outcome=outcome) for name, outcome in zip(ids, outcomes, strict=True)]
    second = [
        sample.check("a.fails", outcome="failed", reason="it broke", because="a.kept"),
        sample.check("a.mended"),
        sample.check("a.other", outcome="not_run", reason="no tokenizer", measurements=()),
        sample.check("a.kept", outcome="failed"),
        sample.check("a.new"),
        sample.check("a.unasked", outcome="not_run", reason="it broke", because="a.fails", measurements=()),
        sample.check("a.newBad", outcome="error", reason="died", measurements=()),
    ]
    moved = compare_runs(run(checks=first), run(checks=second))
    assert sorted(named(moved, "fails")) == ["a.fails", "a.newBad"]
    assert named(moved, "mended") == ["a.mended"]
    assert named(moved, "other") == ["a.other"]
    assert named(moved, "appeared") == ["a.new", "a.unasked"]
    assert named(moved, "gone") == ["a.gone", "a.goneBad"]
    reasons = {check.name: check.reason for check in moved.checks}
    assert reasons["a.fails"] == "it broke (may follow from a.kept)"
    assert reasons["a.other"] == "no tokenizer"
    assert reasons["a.unasked"] == "because of a.fails"  # whose reason is told once
    assert moved.checks[0].direction == "fails"


def test_a_check_that_counts_changes_refers_to_them() -> None:
    """What the changes say is not said again by the check that counts them."""
    moved = compare_runs(sample.passing_record(), sample.failing_record())
    reasons = {check.name: check.reason for check in moved.checks}
    assert reasons["surface.output_fields_are_unchanged"] == "surface changes that are not accepted"


def test_margins_are_in_units_of_the_bound_and_largest_first() -> None:
    """Margins of checks with the same outcome, not those that moved by a hundredth of the bound or less."""

    def checks(**errors: float) -> list[object]:
        return [
            sample.check(f"a.{name}", measurements=(sample.measurement(error=error, bound=2.0),))
            for name, error in errors.items()
        ]

    first = run(checks=checks(near=1.0, far=0.2, still=0.5, little=0.4))
    second = run(checks=checks(near=1.2, far=1.8, still=0.5, little=0.41))
    found = compare_runs(first, second).margins
    assert [(one.name, one.before, one.after) for one in found] == [("a.far", 0.1, 0.9), ("a.near", 0.5, 0.6)]


def test_a_margin_is_not_told_beside_its_check() -> None:
    """A check whose outcome moved tells its margins itself, an infinite one too."""
    wrong = sample.failed_measurement(error=math.nan)
    moved = compare_runs(
        run(checks=[sample.check("a.one")]),
        run(checks=[sample.check("a.one", outcome="failed", measurements=(wrong,))]),
    )
    assert moved.margins == ()
    assert moved.checks[0].margin_before == pytest.approx(0.1603, abs=1e-4)
    assert moved.checks[0].margin_after == math.inf


def test_scores_have_their_difference_and_its_meaning() -> None:
    """Which way is better follows from the score; one of other data is not compared."""
    first = run(tasks=(sample.task(score=0.9), sample.task(name="rank", score=3.0, higher_is_better=False)))
    second = run(
        tasks=(
            sample.task(score=0.8, outcome="failed"),
            sample.task(name="rank", score=2.0, higher_is_better=False),
            sample.task(name="new"),
        )
    )
    moved = compare_runs(first, second)
    (table,) = [section for section in sections(moved) if section.id == "scores"]
    assert [(row[0], row[3], row[4]) for row in table.rows] == [
        ("zero_shot_top1", "-0.1000", "worse"),
        ("rank", "-1.0000", "better"),
        ("new", "", "not there to passed"),
    ]
    assert "2 scores and 1 score that only B has" in sentence(moved) or "2 scores, 1 score" in sentence(moved)
    other = run(tasks=(sample.task(score=0.8, details={"dataset": "b"}),))
    moved = compare_runs(run(tasks=(sample.task(score=0.9, details={"dataset": "a"}),)), other)
    assert "not comparable" in render_moved_markdown(moved.before, moved.after)


def test_speeds_count_when_their_intervals_are_apart() -> None:
    """A ratio within the other's interval did not move; one against another reference is said to be that."""
    near, far = sample.timing(ratio=1.01), sample.timing(ratio=1.2, interval_low=1.15, interval_high=1.25)
    other = sample.timing(reference="the pack's")
    first = run(throughput=(sample.timing(),))
    assert not compare_runs(first, run(throughput=(near,))).speeds[0].apart
    moved = compare_runs(first, run(throughput=(far,)))
    assert moved.speeds[0].apart
    assert "1 speed" in sentence(moved)
    text = render_moved_markdown(moved.before, moved.after)
    assert "| 1.004 (0.996 to 1.013) | 1.2 (1.15 to 1.25) | 1.195 | intervals are apart |" in text
    assert "against plain torch forward, now the pack" in render_moved_markdown(first, run(throughput=(other,)))


def test_surface_changes_are_told_by_cause() -> None:
    """Changes that appeared, went, have another value, or are accepted now; the check that counts them is not told."""
    first = run(surface_changes=[sample.change(id=name) for name in ("a", "gone", "value", "accepted")])
    second = run(
        surface_changes=[
            sample.change(id="a"),
            sample.change(id="new"),
            sample.change(id="value", after="another"),
            sample.change(id="accepted", accepted="meant"),
        ]
    )
    moved = compare_runs(first, second)
    ids = {
        entry.direction: [change.id for group in entry.groups for change in group.changes] for entry in moved.changes
    }
    assert ids == {"appeared": ["new"], "differs": ["value"], "now accepted": ["accepted"], "gone": ["gone"]}


def test_what_was_run_is_compared() -> None:
    """Versions, arguments and fingerprints; paths of reports and what the candidate says are not told twice."""
    first = run()
    second = dataclasses.replace(
        first,
        provenance={**first.provenance, "torch": "2.14.0", "gpu": "H100"},
        arguments={**first.arguments, "compile": True, "out": "elsewhere"},
        candidate=sample.subject(fingerprints={**first.candidate.fingerprints, "weights": "f" * 64}),
        baseline=None,
    )
    moved = compare_runs(first, second)
    facts = {one.name: (one.before, one.after) for one in (*moved.environment, *moved.checkpoint)}
    assert facts == {
        "torch": ("2.13.0", "2.14.0"),
        "gpu": (None, "H100"),
        "argument compile": ("false", "true"),
        "weights": (first.candidate.fingerprints["weights"], "f" * 64),
        "pack": ("baselines/vit-b-32", None),
    }
    said = sentence(moved)
    assert said.endswith("the checkpoint (weights, pack) and the environment (torch, gpu, argument compile).")
    assert "ffffffffffff |" in render_moved_markdown(first, second)


HOSTILE = "a|b\n<script>alert(1)</script> `c` *d* [e](f) \u202egnp.exe" + "x" * 10_000


def hostile() -> RunRecord:
    """A run whose texts are markup, in every place that a comparison tells."""
    check = sample.failed_check(case=HOSTILE, reason=HOSTILE, measurements=())
    record = sample.record(
        checks=(check,),
        surface_changes=(sample.change(id=HOSTILE, before=HOSTILE, after=HOSTILE),),
        tasks=(sample.task(name=HOSTILE),),
        throughput=(sample.timing(name=HOSTILE, reference=HOSTILE),),
    )
    return dataclasses.replace(record, candidate=sample.subject(source=f"/m/{HOSTILE}", revision=HOSTILE))


class Page(HTMLParser):
    """The tags of a page, which must be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag, and that it is open unless it never closes."""
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the tag, which must be the one opened last."""
        assert self.open.pop() == tag


def test_the_page_is_whole_and_fetches_nothing() -> None:
    """Tags are closed, links lead somewhere, headers have a scope, tables a name, and nothing is fetched."""
    page = Page(render_moved_html(sample.passing_record(), sample.failing_record()))
    assert page.open == []
    assert not {"link", "img", "iframe"} & {tag for tag, _ in page.tags}
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 4
    named = [attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes]
    assert {*named, *(str(attributes["href"])[1:] for tag, attributes in page.tags if tag == "a")} == set(ids)
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in page.tags if tag == "th")


def test_hostile_text_stays_text() -> None:
    """Markup, bars, line breaks and very long words are shown as they are, and break no table."""
    page = render_moved_html(sample.passing_record(), hostile())
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    text = render_moved_markdown(sample.passing_record(), hostile())
    assert "<script" not in text
    assert len(text) < 65_000
    for table in text.split("\n## ")[1:]:
        rows = [line.replace(r"\|", "") for line in table.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) == 1


def test_markdown_fits_into_a_comment() -> None:
    """However much moved, there are fewer than 65,000 characters, and the rest is counted."""
    checks = [sample.failed_check(case=f"{number}" * 30, reason="y" * 900, measurements=()) for number in range(900)]
    changes = [sample.change(id=f"odd {number}", before="z" * 900) for number in range(900)]
    full = dataclasses.replace(run(), checks=tuple(checks), surface_changes=tuple(changes))
    text = render_moved_markdown(run(), full)
    assert len(text) < 65_000
    assert "## Checks that fail now (900)" in text
    assert "more rows are in the HTML page." in text
