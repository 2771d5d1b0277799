"""Hooks that show a gate's progress: the current chapter, the checks done, the estimated time left."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from clip_eval.progress import Progress

__all__ = ["Follower", "Lister"]

_DOING = {
    "throughput": "timing the model",
    "tasks": "scoring the dataset",
    "compiled": "compiling the model",
}


class Lister:
    """Names the checks of `--verbose` as reports do, where pytest shows the place of their file."""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """The lines begin now."""
        reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
        reporter._locationline = lambda nodeid, *_: f"{'.'.join(_parts(str(nodeid)))} "


def _parts(nodeid: str) -> tuple[str, str]:
    """The chapter and the name of a check, without what pytest calls for."""
    file, _, name = nodeid.partition("::")
    return Path(file).stem.removeprefix("test_"), name.removeprefix("test_")


class Follower:
    """Shows the progress of a pytest run, and hides pytest's own letters if they would mix with its lines."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._progress: Progress | None = None
        self._hides_letters = self._loaded = self._settles = False

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """The number of checks is known now."""
        self._progress = Progress(f"checks of {self._subject}", len(session.items))
        live = self._progress.is_live and os.isatty(1)
        self._hides_letters = live or self._progress.shares(1)
        if self._hides_letters:  # hide pytest's percentage, too, which has no option at this time
            reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
            reporter._show_progress_info = False
        self._progress.doing("loading the model and the reference")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Show the next check's chapter."""
        if self._progress is not None and self._loaded:
            chapter = _parts(nodeid)[0]
            self._progress.doing(_DOING.get(chapter, f"checking {chapter.replace('_', ' ')}"))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The first check that was not skipped has loaded the model: its time is left out of the estimate."""
        if self._progress is not None and not self._loaded and report.when == "call" and not report.skipped:
            self._loaded = self._settles = True

    def pytest_runtest_logfinish(self) -> None:
        """One more check is done."""
        if self._progress is not None and self._settles:
            self._settles = False
            self._progress.done += 1  # without a line: the estimate begins here
            self._progress.settle()
        elif self._progress is not None:
            self._progress.step()

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self) -> Generator[None, Any, Any]:
        """Show that reports are being written; then remove the line, within the reporter's own hook, before the
        verdict.
        """
        try:
            if self._progress is not None:
                self._progress.doing("writing the reports")
            return (yield)
        finally:
            if self._progress is not None:
                self._progress.close()

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self) -> Generator[None, Any, Any]:
        """Hide the letters if they would mix with the line."""
        status = yield
        if not self._hides_letters or not status:
            return status
        category, _, word = status
        return category, "", word
