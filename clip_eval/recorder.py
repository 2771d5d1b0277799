"""The hooks of a run with --clip-model: gather outcomes, decide, write reports, let the exit code say it."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Generator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from clip_eval.checks import SUITE, check_id, declared_checks
from clip_eval.files import writable_directory, write_text
from clip_eval.outcomes import Evidence, Outcomes
from clip_eval.report import render_html, render_junit, render_markdown, terminal_failure
from clip_eval.run_record import RunRecord, dump
from clip_eval.session import Session
from clip_eval.verdict import Asked, DeclaredCheck, complete, decide

__all__ = ["Recorder"]

_INCONCLUSIVE = 10


class Recorder:
    """One per process. On xdist workers it only explains mismatches and hands over; the controller owns the record."""

    def __init__(self, session: Session, config: pytest.Config) -> None:
        self.session = session
        self.config = config
        self.outcomes = Outcomes(self._identify, session.settings.rerun)
        self.record: RunRecord | None = None
        self._started = time.time()
        self._suite_ran = False
        self._deselected: list[str] = []
        self._facts: dict[str, Any] = {}

    def prepare(self) -> None:
        """Look at everything the user named before long work. Raises ClipEvalError."""
        settings = self.session.settings
        if settings.out is not None and not self._is_worker:
            writable_directory(settings.out)
        self.session.checkpoint  # noqa: B018 - opening it is the look

    @property
    def _is_worker(self) -> bool:
        return hasattr(self.config, "workerinput")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """A run that collects nothing of the suite is a user's own test run: no record, no verdict."""
        self._suite_ran = self._suite_ran or any(item.path.parent == SUITE for item in session.items)

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """A deselected check was not run, and the run cannot pass without it."""
        self._deselected += [item.nodeid for item in items]
        self._suite_ran = self._suite_ran or any(item.path.parent == SUITE for item in items)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A mismatch speaks in five lines instead of a traceback."""
        from clip_eval.compare import Mismatch

        error = None if call.excinfo is None else call.excinfo.value
        if isinstance(error, Mismatch) and error.diverges_at:
            Evidence(item.user_properties).diverges_at(error.diverges_at)
        report = yield
        found = self._identify(report.nodeid)
        if isinstance(error, Mismatch) and found is not None:
            report.longrepr = terminal_failure(self.outcomes.result(report, *found))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather results; under xdist the controller sees every worker's report."""
        self._suite_ran = self._suite_ran or self._identify(report.nodeid) is not None
        self.outcomes.add(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what an xdist worker knows and no report carries; a dead worker hands over nothing."""
        handover = getattr(node, "workeroutput", {})
        self._deselected += handover.get("clip_eval.deselected", [])
        self._facts = handover.get("clip_eval.facts") or self._facts

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Decide, write the reports, and let the exit code say it."""
        from clip_eval.provenance import facts

        if self._is_worker:
            output = session.config.workeroutput  # type: ignore[attr-defined]
            output["clip_eval.deselected"] = self._deselected
            output["clip_eval.facts"] = facts(self.session)
        elif self._suite_ran:
            self._facts = self._facts or facts(self.session)
            self._finish(session)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The verdict and its reasons, last."""
        if self.record is None:
            return
        terminalreporter.section("clip-eval")
        for line in self._closing_lines(self.record):
            terminalreporter.write_line(line)

    def _finish(self, session: pytest.Session) -> None:
        self.record = self._record()
        if self.session.settings.out is not None:
            _write_reports(self.record, self.session.settings.out)
        code = int(session.exitstatus)
        if code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
            own_tests_failed = code == pytest.ExitCode.TESTS_FAILED and self.record.verdict == "pass"
            verdicts = {"pass": int(own_tests_failed), "fail": 1, "inconclusive": _INCONCLUSIVE}
            session.exitstatus = verdicts[self.record.verdict]

    def _record(self) -> RunRecord:
        for nodeid in self._deselected:
            self.outcomes.deselected(nodeid)
        settings = self.session.settings
        declared = declared_checks()
        checks = complete(list(self.outcomes.checks.values()), declared=declared)
        decision = decide(
            checks=checks,
            declared=declared,
            surface_changes=self.outcomes.surface_changes,
            tasks=self.outcomes.tasks,
            throughput=self.outcomes.throughput,
            asked=Asked(
                baseline=settings.baseline is not None,
                tasks=settings.library is not None,
                throughput=settings.throughput,
            ),
            new_weights=settings.new_weights,
        )
        return RunRecord(
            started=datetime.fromtimestamp(self._started, tz=timezone.utc).isoformat(timespec="seconds"),
            duration_s=round(time.time() - self._started, 3),
            arguments=settings.arguments(),
            verdict=decision.verdict,
            headline=decision.headline,
            reasons=decision.reasons,
            scope=decision.scope,
            provenance=self._facts["provenance"],
            candidate=self.session.info(self._facts["attention"]),
            baseline=None,
            checks=checks,
            surface_changes=tuple(self.outcomes.surface_changes),
            tasks=tuple(self.outcomes.tasks),
            throughput=tuple(self.outcomes.throughput),
        )

    def _identify(self, nodeid: str) -> tuple[DeclaredCheck, str | None] | None:
        """Match a node id with a declared check by file and function, so that a user's test of the same name is no
        check.
        """
        file, _, rest = nodeid.partition("::")
        path = Path(self.config.rootpath / file)
        if path.parent.resolve() != SUITE.resolve():
            return None
        function, bracket, case = rest.partition("[")
        declared = {check.id: check for check in declared_checks()}
        found = declared.get(check_id(path, function))
        return None if found is None else (found, case.removesuffix("]") if bracket else None)

    def _closing_lines(self, record: RunRecord) -> list[str]:
        reasons = [
            line for reason in record.reasons for line in textwrap.wrap(f"- {reason}", 78, subsequent_indent="  ")
        ]
        out = self.session.settings.out
        reports = [] if out is None else [f"reports: {out / 'report.html'}"]
        return [*textwrap.wrap(record.headline, 80), *reasons, *reports]


def _write_reports(record: RunRecord, out: Path) -> None:
    """Write the reports, each whole; run.json comes last and says that the others are there."""
    complete_record = dump(record)
    write_text(out / "report.html", render_html(record))
    write_text(out / "summary.md", render_markdown(record))
    write_text(out / "junit.xml", render_junit(record))
    write_text(out / "run.json", complete_record)
