"""Every HTML page in a browser, opened from disk: quiet, accessible, narrow enough, and usable without a mouse."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from support.pages import HOSTILE, PAGES

from clip_eval.report.text import clean

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from .conftest import Opened

pytestmark = pytest.mark.browser

MOST_PRINTED = 12
"""Pages of A4."""

OPEN = """(most) => {
  for (const kind of [".chapter", "details:not(.chapter, .check)"]) {
    for (const fold of [...document.querySelectorAll(kind)].slice(0, most)) fold.open = true;
  }
  for (const chapter of document.querySelectorAll(".chapter")) {
    for (const check of [...chapter.querySelectorAll(".check")].slice(0, 3)) check.open = true;
  }
}"""
ALL, FEW = 1000, 6
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


def unfold(page: Page, most: int = ALL) -> None:
    """Open so many folds of each kind, and some checks of each chapter, which are made when it opens."""
    for _ in range(2):
        page.evaluate(OPEN, most)
        page.wait_for_timeout(50)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_is_accessible(opened: Opened, name: str, scheme: str) -> None:
    """Axe finds nothing serious or critical, with some of each kind of fold open."""
    from axe_playwright_python.sync_playwright import Axe

    page = opened(name, color_scheme=scheme)
    unfold(page, FEW)
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    told = [
        f"{one['id']}: {one['nodes'][0]['html'][:300]}" for one in found if one["impact"] in ("serious", "critical")
    ]
    assert told == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wider_than_the_page(opened: Opened, name: str, width: int) -> None:
    """No page scrolls sideways, unfolded or not."""
    page = opened(name, width=width)
    assert page.evaluate(OVERFLOW) <= 0
    unfold(page)
    assert page.evaluate(OVERFLOW) <= 0


def column(page: Page, table: int, place: int) -> list[str]:
    """The texts of a column of a sortable table, without the rows that are hidden."""
    rows = page.locator("table:has(thead.sorts)").nth(table).locator("tbody tr:visible")
    return [row.locator("th, td").nth(place).inner_text().strip() for row in rows.all()]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(
    ("name", "heading", "place"), [("pass", "Score", 2), ("bench", "A second", 2), ("evaluate", "Value", 1)]
)
def test_a_table_sorts_by_keyboard(opened: Opened, name: str, heading: str, place: int, width: int) -> None:
    """Enter on a column's name sorts up, Space then down, Enter gives the first order back; a reader is told."""
    page = opened(name, width=width)
    before = column(page, 0, place)
    head = page.locator("table:has(thead.sorts)").first.locator("thead th", has_text=heading)
    head.get_by_role("button").focus()
    seen = []
    for key in ("Enter", "Space", "Enter"):
        page.keyboard.press(key)
        seen.append((head.get_attribute("aria-sort"), column(page, 0, place)))
    up = sorted(before, key=lambda text: float(text.split()[-1].replace(",", "")))
    assert up != before
    assert seen == [("ascending", up), ("descending", seen[1][1]), (None, before)]
    assert [text.split()[-1] for text in seen[1][1]] == [text.split()[-1] for text in reversed(up)]


def test_a_table_filters_by_keyboard(opened: Opened) -> None:
    """Words in the field above a long table leave the rows that have them, and their number is told."""
    page = opened("bench")
    page.get_by_label("Only rows with").focus()
    page.keyboard.type("bfloat16 texts")
    assert {text.split("\n")[0] for text in column(page, 0, 0)} == {"bfloat16 sdpa"}
    assert page.get_by_role("status").inner_text() == "5 of 20"


def test_checks_are_found_and_ordered_by_keyboard(opened: Opened) -> None:
    """A search opens the checks that match, an order puts those nearest to their bound first, and a check opens."""
    page = opened("pass")
    page.get_by_label("Order").focus()
    page.keyboard.type("nearest")
    page.get_by_label("Find a check or a change").focus()
    page.keyboard.type("logits")
    page.locator("#found:not(:empty)").wait_for()
    assert "found" in page.locator("#found").inner_text()
    shares = [float(text.split()[0]) for text in page.locator(".check:visible .budget").all_inner_texts()]
    assert len(shares) > 1
    first = page.locator(".check:visible summary").first
    first.focus()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Link to this check").first.wait_for()
    page.get_by_label("Find a check or a change").fill("")
    page.wait_for_timeout(300)
    page.locator(".chapter").first.evaluate("(chapter) => { chapter.open = true; }")
    page.locator(".check").first.wait_for()
    shares = [float(text.split()[0]) for text in page.locator(".chapter").first.locator(".budget").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 0.8


def test_failed_only(opened: Opened) -> None:
    """The box leaves the checks that failed or were not run."""
    page = opened("fail")
    page.get_by_label("failed or not run only").focus()
    page.keyboard.press("Space")
    page.locator(".check").first.wait_for()
    words = page.locator(".check:visible .outcome").all_inner_texts()
    assert {word.strip() for word in words} == {"failed", "error"}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("pass", "check-contrastive_head.logits_are_symmetric"),
        ("pass", "rule-1"),
        ("pass", "task-task_1"),
        ("pass", "timing-timing_5"),
        ("fail", "check-reference_values.hidden_states[vision]"),
        ("upgrade", "change-AutoFeatureExtractor.from_pretrained"),
        ("evaluate", "score-zero_shot-zero_shot_top5"),
        ("bench", "points"),
    ],
)
def test_a_link_leads_to_its_place(opened: Opened, name: str, place: str) -> None:
    """What a link names is on the screen, also where it lies in a fold or is made when it is opened."""
    page = opened(name)
    named = page.evaluate(
        """(start) => [...document.querySelectorAll("[id]")].map((one) => one.id).find((id) => id.startsWith(start))""",
        place,
    )
    page.evaluate("(place) => { location.hash = place; }", named or place)
    assert_on_screen(page, named or place)
    assert_on_screen(opened(name, place=f"#{named or place}"), named or place)


def test_a_link_shows_what_a_filter_hides(opened: Opened) -> None:
    """A row that a table's filter has hidden is there again when a link names it."""
    page = opened("evaluate")
    page.get_by_label("Only rows with").first.fill("image_to_text_top1")
    place = page.evaluate("() => document.querySelector('tbody tr[hidden]').id")
    page.evaluate("(place) => { location.hash = place; }", place)
    assert_on_screen(page, place)


def assert_on_screen(page: Page, place: str) -> None:
    """The element of that id is shown, and scrolled to."""
    target = page.locator(f'[id="{place}"]')
    target.wait_for(timeout=10_000)
    box = target.bounding_box()
    assert box is not None
    assert -1 <= box["y"] < 900


@pytest.mark.parametrize("name", ["pass", "upgrade"])
def test_prints_on_few_pages(opened: Opened, name: str) -> None:
    """A run that passed and an upgrade are at most twelve pages of A4."""
    printed = opened(name).pdf(format="A4", prefer_css_page_size=True)
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= MOST_PRINTED


@pytest.mark.parametrize("name", PAGES)
def test_decides_without_script(opened: Opened, name: str) -> None:
    """With scripts off, heading, failures and tables are there, and no control that does nothing."""
    page = opened(name, java_script_enabled=False)
    assert page.locator("h1").is_visible()
    assert page.locator("input:visible, select:visible, button:visible").count() == 0
    for part in ("article.failure", "tbody tr"):
        assert all(
            one.is_visible() or one.locator("xpath=ancestor::details").count() for one in page.locator(part).all()
        )


@pytest.mark.parametrize("name", ["hostile", "evaluate"])
def test_hostile_text_is_text(opened: Opened, name: str) -> None:
    """Nothing of it runs or becomes an element, and all of it can be read, in what is made from data too."""
    page = opened(name)
    unfold(page)
    assert page.evaluate("() => window.hit === undefined")
    assert page.locator("h1").count() == 1
    assert page.locator("img:not([src^='data:image/jpeg'])").count() == 0
    text = " ".join(page.evaluate("() => document.body.innerText").split())
    assert [one for one in HOSTILE if " ".join(clean(one).split()) not in text] == []
