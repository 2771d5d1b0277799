"""Pages opened in a Chromium of this machine, from disk; the tests here are left out of ordinary runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
"""Of the browser, on PATH."""

Opened = Callable[..., "Page"]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A headless Chromium; without one the run fails."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.fail("No Chromium is on PATH: apt-get install chromium", pytrace=False)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the pages lie, each rendered once."""
    return tmp_path_factory.mktemp("pages")


@pytest.fixture
def opened(chromium: Browser, folder: Path) -> Iterator[Opened]:
    """Open a page by name, at a width in pixels; a complaint of the browser, or a request, fails the test."""
    from support.pages import PAGES

    contexts: list[Any] = []
    problems: list[str] = []

    def open_page(name: str, *, width: int = 1280, place: str = "", **options: Any) -> Page:
        file = folder / f"{name}.html"
        if not file.exists():
            file.write_text(PAGES[name](), encoding="utf-8")
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.route("**/*", lambda route: _answer(route, file.as_uri(), problems))
        page.goto(file.as_uri() + place)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def _answer(route: Any, page: str, problems: list[str]) -> None:
    """Let the page itself through; note every other request and abort it."""
    if route.request.url.partition("#")[0] == page:
        route.continue_()
    else:
        problems.append(f"request: {route.request.url}")
        route.abort()
