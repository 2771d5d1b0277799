"""The HTML report is one file that holds what a person needs to decide, safely and accessibly."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from support import sample_records as sample

from clip_eval.report import render_html
from clip_eval.report.bars import BOUND_PERCENT, error_bar, interval_bar
from clip_eval.verdict.deviations import declared_deviation
from clip_eval.verdict.run_record import RunRecord

RECORDS = [sample.passing_record, sample.failing_record, sample.inconclusive_record]
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
    """No script, no style sheet, image or font from elsewhere; a policy in the page forbids them."""
    text = render_html(record)
    page = Page(text)
    assert not page.all("script", "link", "img", "iframe", "object", "embed", "form")
    assert not re.search(r"url\(|@import|src=", text)
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
    assert all(attributes.get("aria-hidden") == "true" for _, attributes in page.all("svg"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


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
    """Verdict, headline, every reason, every scope with its reason, every check and its promise are in the text."""
    page = Page(render_html(record))
    assert page.text.startswith(record.headline)  # the title
    for reason in record.reasons:
        assert reason in page.text
    for entry in record.scope:
        assert (entry.reason or "not asked") in page.text
    for check in record.checks:
        assert check.promise in page.text
        assert check.id.partition(".")[2] in page.text


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
    assert text.count(f'<a href="#failed-3"><code>{root.name}</code></a>') == 3
    assert shown in text
    assert "because of no.such[check]" in page.text
    assert text.index(f"<code>{root.name}</code> <span") < text.index(f"<code>{follower.name}</code> <span")


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
    changes = text[text.index("Differences of types") :]
    assert "Accepted: merges re-sorted" in changes
    assert changes.index("not accepted") < changes.index("merges re-sorted")
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
    assert not Page(text).all("script", "img")
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
    assert 'class="bar interval' not in text


@pytest.mark.parametrize(
    ("error", "bound", "fill"),
    [
        (1.0, 1.0, BOUND_PERCENT),
        (0.0, 1.0, 1.5),
        (1e-9, 1.0, 1.5),
        (1e9, 1.0, 100.0),
        (1e-9, 0.0, 100.0),
        (0.0, 0.0, 1.5),
    ],
)
def test_error_bar_is_logarithmic(error: float, bound: float, fill: float) -> None:
    """The bound is at its mark, what lies outside the drawing is clamped to it."""
    bar = error_bar(sample.measurement(error=error, bound=bound, required=None, passed=error <= bound))
    assert bar is not None
    assert bar.fill == pytest.approx(fill, abs=0.05)
    assert error_bar(sample.measurement(error=None, bound=None)) is None


def test_interval_bar_fits_everything() -> None:
    """Interval, estimate and mark keep their order and lie inside of the drawing."""
    bar = interval_bar(low=0.9, value=0.92, high=0.95, mark=1.0)
    assert bar is not None
    assert bar.mark is not None
    assert 0 <= bar.low < bar.value < bar.high < bar.mark <= 100
    assert interval_bar(low=None, value=1.0, high=2.0, mark=None) is None
    assert interval_bar(low=1.0, value=1.0, high=1.0, mark=None) is not None
