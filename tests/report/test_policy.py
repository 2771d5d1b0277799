"""A policy in the reports: its rules are printed, and what it lets warn is told and blocks nothing."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

import pytest
from support import sample_records as sample

from clip_eval.report import render_html, render_junit, render_markdown
from clip_eval.report.summary import next_steps, why
from clip_eval.report.text import policy_rules
from clip_eval.verdict.policy_info import PolicyInfo
from clip_eval.verdict.run_record import RunRecord, dump, load

INFO = PolicyInfo(
    source="/repo/pyproject.toml, [tool.clip-eval]",
    rules={
        "require": ["tasks"],
        "tasks": {"zero_shot_top1": {"least": 0.9}},
        "warned": [{"check": "a.b", "reason": "<b>known</b>"}],
    },
)


@pytest.fixture
def softened() -> RunRecord:
    """A pass in which everything that may warn does."""
    record = sample.record(
        checks=(*sample.healthy_checks(), *sample.baseline_checks(), sample.failed_check(outcome="warned")),
        surface_changes=(sample.change(accepted="the policy only warns of the surface", warned=True),),
        tasks=(sample.task(outcome="warned", policy="warned"),),
        throughput=(sample.timing(outcome="warned"),),
    )
    return dataclasses.replace(record, policy=INFO, notes=("Warning: Throughput image_tower failed: slow.",))


def test_rules_are_lines() -> None:
    """Keys of tables stand before a dot, entries have their number, values are as in JSON."""
    assert policy_rules(INFO) == [
        'require = ["tasks"]',
        "tasks.zero_shot_top1.least = 0.9",
        'warned[1].check = "a.b"',
        'warned[1].reason = "<b>known</b>"',
    ]


def test_the_policy_is_printed(softened: RunRecord) -> None:
    """Page and summary show file and rules, as text; the record keeps both."""
    page, summary = render_html(softened), render_markdown(softened)
    assert "/repo/pyproject.toml, [tool.clip-eval]" in page
    assert "tasks.zero_shot_top1.least = 0.9" in page
    assert "<b>known</b>" not in page
    assert "`tasks.zero_shot_top1.least = 0.9`" in summary
    assert load(dump(softened)).policy == INFO


def test_warnings_are_told(softened: RunRecord) -> None:
    """The verdict passes and says what it does not block on, in headline, sentence, next step, page and summary."""
    assert softened.verdict == "pass"
    assert "contract (1 check failed, which only warns)" in softened.headline
    sentence = why(softened)
    assert sentence.startswith("Everything that blocks is as it should be")
    for name in ("reference_values.hidden_states[vision]", "1 surface change", "zero_shot_top1"):
        assert name in sentence
    assert next_steps(softened)[0].text.startswith("See to what only warns")
    for text in (render_html(softened), render_markdown(softened)):
        assert "Warning: Throughput image_tower failed: slow." in text
        assert "passed, with warnings" in text


def test_a_check_that_only_warns_has_its_lines(softened: RunRecord) -> None:
    """It has a card as a failure has, apart from them, and the sentences that name it lead there."""
    page, name = render_html(softened), sample.failed_check().name
    warnings = page.partition('<h2 id="warned">')[2].partition("</section>")[0]
    assert f'<article class="failure softer" id="check-{name}"' in warnings
    assert "observed 1.284071" in warnings
    assert 'id="failing"' not in page


def test_a_warning_is_no_failed_test_case(softened: RunRecord) -> None:
    """JUnit has it as skipped, with what failed."""
    root = ElementTree.fromstring(render_junit(softened))
    assert (root.get("failures"), root.get("errors")) == ("0", "0")
    (case,) = [case for case in root.iter("testcase") if case.get("name") == "hidden_states[vision]"
               and case.find("skipped") is not None]  # fmt: skip
    message = case.find("skipped")
    assert message is not None
    assert str(message.get("message")).startswith("failed, which only warns")
