"""Markup, scripts, control characters, right-to-left text and very long words are shown as text in every format."""

from __future__ import annotations

import dataclasses
import json
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from support import sample_records as sample

from clip_eval.report import render_ctrf, render_html, render_junit, render_markdown
from clip_eval.report.moved_pages import render_moved_html, render_moved_markdown
from clip_eval.report.text import clip
from clip_eval.verdict.run_record import RunRecord

TEXTS = {
    "script": "</script><script>alert(1)</script><!--",
    "tags": "<img src=x onerror=alert(1)> <b>bold</b> &amp;",
    "markdown": "a|b `c` ``d`` *e* _f_ [g](h) ~~i~~ <details> \\| # j",
    "right to left": "\u202egnp.exe\u202c \u05d0\u05d1\u05d2",
    "terminal": "\x1b[31mred\x1b[0m \x00\x07\r\n| new | row |",
    "long": "x" * 10_000,
}


def hostile(text: str) -> RunRecord:
    """A failing run that has the text wherever a record has one."""
    broken = sample.failed_measurement(name=text, observed=text, expected=text)
    check = sample.failed_check(case=text, promise=text, reason=text, detail=text, rerun=text, measurements=(broken,))
    record = sample.record(
        checks=(check,),
        surface_changes=(
            sample.change(id=text, what=text, before=text, after=text),
            sample.change(id=f"{text} too", accepted=text),
        ),
        tasks=(sample.task(name=text, reason=text, outcome="failed"),),
        throughput=(sample.timing(name=text, reason=text, reference=text, outcome="failed"),),
    )
    subject = sample.subject(source=f"/models/{text}", revision=text)
    return dataclasses.replace(record, candidate=subject, notes=(text,), headline=f"fail: {text}")


class Tags(HTMLParser):
    """The tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        assert not any(name.startswith("on") for name, _ in attrs)
        self.names.append(tag)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_html(text: str) -> None:
    """A page has the tags that it has for a plain text."""
    assert Tags(render_html(hostile(text))).names == Tags(render_html(hostile("plain"))).names
    other = sample.passing_record()
    moved = Tags(render_moved_html(other, hostile(text))).names
    assert moved == Tags(render_moved_html(other, hostile("plain"))).names


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_markdown(text: str) -> None:
    """No tag of the text is one in Markdown outside of code, no row of a table has another number of cells."""
    for page in (render_markdown(hostile(text)), render_moved_markdown(sample.passing_record(), hostile(text))):
        assert len(page) < 65_000
        assert "\x1b" not in page
        for block in page.split("\n\n"):
            rows = [line.replace(r"\|", "") for line in block.splitlines() if line.startswith("|")]
            assert len({row.count("|") for row in rows}) <= 1
            assert not any("<" in row for row in rows)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_machines(text: str) -> None:
    """JUnit and CTRF parse, and hold the text as it is but for control characters and its length."""
    record = hostile(text)
    junit = next(iter(ET.fromstring(render_junit(record)).iter("failure")))
    ctrf = json.loads(render_ctrf(record))["results"]["tests"][0]
    assert junit.get("message") == ctrf["message"] == clip(record.headline, limit=500)
    assert "\x1b" not in f"{junit.text}{ctrf['trace']}"
