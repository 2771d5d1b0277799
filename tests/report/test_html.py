"""The HTML report is one file that holds what a person needs to decide, safely and accessibly."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from support import sample_records as sample

from clip_eval.report import render_html
from clip_eval.verdict.deviations import declared_deviation
from clip_eval.verdict.measurement import EXACT_RULE
from clip_eval.verdict.reasons import of_changes, of_scope
from clip_eval.verdict.run_record import CheckResult, RunRecord

RECORDS = [sample.passing_record, sample.failing_record, sample.inconclusive_record]
OWN_SCRIPTS = [("script", {"type": "application/json", "id": "data"}), ("script", {})]
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """What a reader of the page meets: tags in order with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag, and that it is open unless it never closes."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that closes itself."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Close the tag, which must be the one opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note the text outside of the style sheet."""
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        """All text, in single spaces."""
        return " ".join(" ".join(self.words).split())

    def all(self, *names: str) -> list[tuple[str, dict[str, str | None]]]:
        """The tags of these names, in order."""
        return [(tag, attributes) for tag, attributes in self.tags if tag in names]


@pytest.fixture(params=RECORDS, ids=lambda make: make.__name__)
def record(request: pytest.FixtureRequest) -> RunRecord:
    """A record of each verdict."""
    make: Callable[[], RunRecord] = request.param
    return make()


def test_same_record_same_page(record: RunRecord) -> None:
    """Rendering is pure."""
    assert render_html(record) == render_html(record)


def test_every_tag_is_closed(record: RunRecord) -> None:
    """The page is well formed."""
    assert Page(render_html(record)).open == []


def test_nothing_is_fetched_or_run(record: RunRecord) -> None:
    """No style sheet, image or font from elsewhere, no script but the page's own; a policy in it forbids others."""
    text = render_html(record)
    page = Page(text)
    assert not page.all("link", "img", "iframe", "object", "embed", "form")
    assert page.all("script") == OWN_SCRIPTS
    script = text.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert any(f"script-src 'sha256-{digest}'" in (attributes.get("content") or "") for _, attributes in page.tags)
    assert not re.search(r"url\(|@import|src=", text)
    assert not re.search(r"innerHTML|insertAdjacent|document\.write|fetch\(|XMLHttpRequest|eval\(", script)
    away = [attributes for _, attributes in page.all("a") if not (attributes["href"] or "").startswith("#")]
    assert all(attributes.get("rel") == "noreferrer" for attributes in away)
    assert any("default-src 'none'" in (attributes.get("content") or "") for _, attributes in page.all("meta"))


def test_is_accessible(record: RunRecord) -> None:
    """A language, a title, headings in order, a caption for each table, headers with a scope, ids only once."""
    page = Page(render_html(record))
    levels = [int(tag[1]) for tag, _ in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert page.all("html")[0][1]["lang"] == "en"
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(attributes.get("scope") in ("row", "col", "colgroup") for _, attributes in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.all("svg"):
        assert attributes.get("role") == "img"
        assert {*(attributes["aria-labelledby"] or "").split()} <= {*ids}
    assert len(page.all("figcaption")) == len(page.all("figure")) == len(page.all("svg"))


def test_links_lead_somewhere() -> None:
    """Every link of the page has its target in it."""
    page = Page(render_html(sample.failing_record()))
    ids = {attributes.get("id") for _, attributes in page.tags}
    links = [attributes["href"] or "" for _, attributes in page.all("a") if "rel" not in attributes]
    assert links
    assert {link.removeprefix("#") for link in links} <= ids


def test_a_declared_deviation_is_explained() -> None:
    """The report tells the contract, what is asserted instead, and where upstream speaks of it."""
    known = declared_deviation("nested-states-missing")
    assert known is not None
    text = render_html(sample.failing_record())
    assert known.contract in text
    assert known.instead in text
    assert f'href="{known.upstream}"' in text


def test_says_the_verdict_and_its_reasons(record: RunRecord) -> None:
    """Verdict, headline, every reason, every scope with its reason are in the text, or what they are told as."""
    page = Page(render_html(record))
    assert page.text.startswith(record.headline)  # the title
    cards = tuple(f"{check.name} failed: " for check in record.checks)
    for reason in record.reasons:
        deviations = "eclared deviation" in reason[:30]
        told = "".join(reason.split()) in "".join(page.text.split())  # names in it are links
        assert told or reason.startswith(cards) or of_changes(reason) or of_scope(reason) or deviations
    for entry in record.scope:
        assert (entry.reason or "not asked") in page.text


def test_every_check_is_in_the_data(record: RunRecord) -> None:
    """The rows that the script makes have every check with its promise, and every measurement with its numbers."""
    data = page_data_of(render_html(record))
    rows = [row for chapter in data["chapters"] for row in chapter]
    for check, row in zip(sorted(record.checks, key=lambda one: order(record, one)), rows, strict=True):
        assert row["name"] == check.name
        assert data["promises"][row["promise"]] == check.promise
        assert row["outcome"] == check.outcome
        assert len(row["measured"]) == len(check.measurements)


def order(record: RunRecord, check: CheckResult) -> int:
    """The place of a check's chapter in the record."""
    return list(dict.fromkeys(one.chapter for one in record.checks)).index(check.chapter)


def page_data_of(text: str) -> Any:
    """The data of a page."""
    return json.loads(text.partition('id="data">')[2].partition("</script>")[0])


def test_a_large_run_is_a_small_page() -> None:
    """A check that passed adds no element to the page as it opens, and a measurement hardly more than its name."""
    many = tuple(
        sample.check(
            "weights.values",
            case=str(case),
            measurements=tuple(
                sample.measurement(name=f"weight {number}", error=0.0, bound=0.0, required=0.0, budget=EXACT_RULE)
                for number in range(50)
            ),
        )
        for case in range(200)
    )
    text = render_html(sample.record(checks=many))
    assert len(Page(text).tags) < 300
    assert len(text) < 10_000 * len("weight 10") * 2.5


def test_a_failure_is_open_with_its_five_lines() -> None:
    """The five lines of a failure are in no fold, and its traceback is in one."""
    text = render_html(sample.failing_record())
    article = text[text.index("<article") : text.index("</article>")]
    before_folds = Page(article.partition("<details")[0]).text
    for words in ("Promise", "Worst element", "Error", "Diverges first at", "Run again", "observed 1.284071"):
        assert words in before_folds
    assert "test_hidden_states(clip" in article.partition("<details")[2]


def test_a_consequence_leads_to_its_cause() -> None:
    """What may follow from a failure, and what was not run because of one, link to it; causes come first."""
    root, shown = sample.failed_check(), "May follow from"
    follower = sample.check("a.follower", outcome="failed", because=root.name)
    unasked = sample.check("b.unasked", outcome="not_run", because=root.name, reason="not loaded", measurements=())
    lost = sample.check("c.lost", outcome="not_run", because="no.such[check]", reason="not loaded", measurements=())
    record = dataclasses.replace(sample.failing_record(), checks=(follower, unasked, lost, root))
    text = render_html(record)
    page = Page(text)
    ids = {attributes.get("id") for _, attributes in page.tags}
    links = [attributes["href"] or "" for _, attributes in page.all("a") if "rel" not in attributes]
    assert {link.removeprefix("#") for link in links} <= ids
    assert f'<a href="#check-{root.name}"><code>{root.name}</code></a>' in text
    assert shown in text
    rows = {row["name"]: row for chapter in page_data_of(text)["chapters"] for row in chapter}
    assert [rows[name].get("because") for name in (follower.name, unasked.name)] == [root.name, root.name]
    assert rows[follower.name]["because_anchor"] == f"check-{root.name}"
    assert rows[lost.name]["because"] == "no.such[check]"
    assert text.index(f"<code>{root.name}</code> <span") < text.index(f"<code>{follower.name}</code> <span")


def test_what_follows_from_a_failure_is_folded_below_it() -> None:
    """One cause is one card: the others lie in a fold that counts them, those that follow from one of them, too."""
    root = sample.failed_check()
    first = sample.check("a.first", outcome="failed", because=root.name)
    second = sample.check("a.second", outcome="failed", because=first.name)
    apart = sample.check("b.apart", outcome="error", because="no.such[check]")
    record = dataclasses.replace(sample.failing_record(), checks=(second, apart, first, root))
    section = render_html(record).partition('<h2 id="failing">')[2].partition("</section>")[0]
    assert f"2 more checks failed, and may follow from <code>{root.name}</code>" in section
    outside = re.sub(r'<details class="fold">.*?</article>\s*</details>', "", section, flags=re.DOTALL)
    assert [name for name in (root.name, apart.name) if f'id="check-{name}"' in outside] == [root.name, apart.name]
    assert [name for name in (first.name, second.name) if f'id="check-{name}"' in outside] == []


def test_causes_that_lead_in_a_circle_are_shown() -> None:
    """A record that was edited can say that two failures follow from each other: both have their cards."""
    pair = (
        sample.check("a.first", outcome="failed", because="a.second"),
        sample.check("a.second", outcome="failed", because="a.first"),
    )
    text = render_html(dataclasses.replace(sample.failing_record(), checks=pair))
    assert all(text.count(f'<article class="failure" id="check-{one.name}"') == 1 for one in pair)


def test_a_failed_scope_is_not_shown_as_passed() -> None:
    """A scope that was judged and failed says failed; one with gaps says that it was not judged in full."""
    text = Page(render_html(sample.failing_record())).text
    covers = text[text.index("What the verdict covers") : text.index("Failing checks")]
    assert "failed, not judged in full" in covers
    assert "✓" not in covers
    inconclusive = Page(render_html(sample.inconclusive_record())).text
    assert "not judged in full" in inconclusive


def test_numbers_of_tasks_and_timings_are_shown() -> None:
    """Scores, intervals, references and ratios are in the tables."""
    text = Page(render_html(sample.failing_record())).text
    for words in ("0.883 to 0.934", "0.9833", "480", "1.064 to 1.103", "against plain torch forward"):
        assert words in text


def test_surface_changes_show_both_sides() -> None:
    """A change shows what was, what is, who saw it and whether it is accepted, unaccepted ones first."""
    text = Page(render_html(sample.failing_record())).text
    changes = text[text.index("Differences of values") :]
    assert "Accepted: merges re-sorted" in changes
    assert changes.index("Types or fields differ 1") < changes.index("merges re-sorted")
    for words in (sample.change().before, sample.change().after, sample.change().check):
        assert words in changes


def test_fingerprints_are_compared() -> None:
    """A part with another fingerprint than the baseline's says that it differs."""
    made = sample.passing_record()
    assert made.baseline is not None
    other = dataclasses.replace(made.baseline, fingerprints={**made.baseline.fingerprints, "weights": "sha256:00"})
    text = Page(render_html(dataclasses.replace(made, baseline=other))).text
    assert "Weights differs" in text
    assert "Config same" in text


def test_hostile_text_stays_text() -> None:
    """Markup in a record is shown, not obeyed, and control characters are dropped."""
    hostile = "<script>alert(1)</script>\x00\x1b[31m&amp;"
    check = sample.failed_check(promise=hostile, detail=hostile, diverges_at='"><img src=x>')
    text = render_html(sample.record(checks=(check,), surface_changes=(sample.change(before=hostile),)))
    assert Page(text).all("script", "img") == OWN_SCRIPTS
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;" in text
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", text)


def test_a_run_without_checks_says_so() -> None:
    """An empty run renders and says that no check ran."""
    assert "No check ran." in render_html(sample.record(checks=()))


def test_non_finite_numbers_render() -> None:
    """A NaN score, an unknown interval and an infinite ratio are words, and have no drawing."""
    made = sample.record(
        tasks=(sample.task(score=float("nan"), interval_low=None, count=None, reference=None),),
        throughput=(sample.timing(ratio=float("inf"), rounds=None),),
    )
    text = render_html(made)
    assert "nan" in text
    assert 'id="throughput"' in text
    assert "Scores with their intervals</title>" not in text
    assert "Times over the reference's</title>" not in text
