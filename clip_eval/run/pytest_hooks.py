"""The hooks of a run with --clip-model: gather outcomes, decide, write reports, set the exit code."""

from __future__ import annotations

import contextlib
import inspect
import os
import shlex
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from clip_eval.errors import ClipEvalError, NotApplicable, NotAskable, OutputError, UsageError
from clip_eval.families.family import EntryPoint
from clip_eval.families.roles import MODEL_CLASSES
from clip_eval.files.folder_lock import clear, owned
from clip_eval.files.read_write import lacks_room, write_text
from clip_eval.history.remember import Remembered, remember
from clip_eval.report import render_html, render_junit, render_markdown, terminal_failure
from clip_eval.run.closing import closing_paragraphs, next_lines
from clip_eval.run.declared_checks import Case, declared_checks, find_case, is_of_suite
from clip_eval.run.evidence import Evidence
from clip_eval.run.github_actions import add_to_job_summary, workflow_commands
from clip_eval.run.keywords import nothing_matches
from clip_eval.run.results import Outcomes, name_in_suite
from clip_eval.run.session import Session
from clip_eval.run.settings import REPORTS
from clip_eval.verdict.causes import attributed
from clip_eval.verdict.decide import Asked, DeclaredCheck, complete, decide
from clip_eval.verdict.run_record import SCOPES, CheckResult, RunRecord, dump
from clip_eval.verdict.warnings import parts_that_warn, soften

if TYPE_CHECKING:
    from clip_eval.verdict.compare import Mismatch

__all__ = ["Recorder"]

_INCONCLUSIVE = 10


class Recorder:
    """One per process. On xdist workers it only explains mismatches; the controller owns the record."""

    def __init__(self, session: Session, config: pytest.Config) -> None:
        self.session = session
        self.config = config
        self.outcomes = Outcomes(session.settings.rerun)
        self.record: RunRecord | None = None
        self._started = time.time()
        self._collected: list[str] = []
        self._announced: list[str] = []
        self._deselected: list[str] = []
        self._provenance: dict[str, Any] = {}
        self._attention: str | None = None
        self._folders = contextlib.ExitStack()
        self._unwritten: OutputError | None = None
        self._refused: UsageError | None = None
        self._own_failed = False

    def prepare(self) -> None:
        """Lock the folders, clear them, and open everything the user named, before long work. Raises ClipEvalError."""
        if self._is_worker:
            return  # the controller does it
        try:
            self._own_folders()
            self.session.open_inputs()
        except BaseException:
            self._folders.close()
            raise

    def _own_folders(self) -> None:
        out, repro = self.session.settings.out, self.session.settings.repro
        self._folders.enter_context(owned(*(folder for folder in (out, repro) if folder is not None)))
        if out is not None:
            clear(out, REPORTS)
        if repro is not None:
            from clip_eval.run.repro import remove_bundles

            remove_bundles(Path(repro))

    def pytest_unconfigure(self) -> None:
        """Release the folders."""
        self._folders.close()

    @property
    def _is_worker(self) -> bool:
        return hasattr(self.config, "workerinput")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None, None, None]:
        """Mark the suite's tests before any other plugin can drop one.

        A node id does not distinguish them from a user's: outside the root directory it has only the file's name.
        """
        for item in items:
            if is_of_suite(item.path):
                Evidence(item.user_properties).in_suite(_name(item))
                self._collected.append(_name(item))
        return (yield)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Under xdist the workers collect; their ids are known even if a worker dies later."""
        self._announced += [nodeid for nodeid in ids if self._may_be_of_suite(nodeid)]

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """A deselected check was not run, and the run cannot pass without it."""
        self._deselected += [_name(item) for item in items if is_of_suite(item.path)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """A check does not apply if the runtime lacks what its `@pytest.mark.needs` names, and a case of it if the
        checkpoint holds a part of a model that has not its class.
        """
        self._require_class(item)
        needed = [name for mark in item.iter_markers("needs") for name in mark.args]
        if not needed:
            return
        from clip_eval.subject.runtime import Capability

        runtime = self.session.candidate.runtime
        lacking = sorted(capability.in_words for capability in set(map(Capability, needed)) - runtime.capabilities)
        if lacking:
            Evidence(item.user_properties).not_applicable(f"{runtime.name} does not offer {', '.join(lacking)}")

    def _require_class(self, item: pytest.Item) -> None:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        entry, model_class = parameters.get("entry"), parameters.get("model_class")
        named = entry.model_class if isinstance(entry, EntryPoint) else model_class
        holding = self.session.candidate.checkpoint.holds
        if isinstance(named, str) and named in MODEL_CLASSES and not holding.has(named):
            Evidence(item.user_properties).not_applicable(str(holding.lacking))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A mismatch is shown in five lines, a finding in a paragraph, instead of a traceback."""
        from clip_eval.verdict.compare import Mismatch

        error = None if call.excinfo is None else call.excinfo.value
        if isinstance(error, NotAskable):
            Evidence(item.user_properties).leave_not_run(str(error), because=error.finding)
        elif isinstance(error, NotApplicable):
            Evidence(item.user_properties).leave_not_applicable(str(error))
        elif isinstance(error, ClipEvalError) and call.when == "call":
            Evidence(item.user_properties).reason(str(error))
        full = error is not None and lacks_room(error)
        if full:
            Evidence(item.user_properties).leave_not_run(f"the check found no room on the disk: {error}")
        if isinstance(error, Mismatch) and (module := self._located(item, error)):
            Evidence(item.user_properties).diverges_at(module)
        report = yield
        if full or isinstance(error, (NotApplicable, NotAskable)):
            report.outcome, report.longrepr = "skipped", (str(item.path), 0, f"Skipped: {error}")
        elif isinstance(error, ClipEvalError) and call.when == "call":
            report.longrepr = terminal_failure(self._explained(item, report))
        if isinstance(error, Mismatch):
            result = self._explained(item, report)
            report.longrepr = "\n".join([terminal_failure(result), *self._bundled(error, result)])
        return report

    def _explained(self, item: pytest.Item, report: pytest.TestReport) -> CheckResult:
        """The result of a failed check; a user's own test is treated as one of the suite's."""
        case = self._case(report)
        if case is not None:
            return self.outcomes.result(report, case)
        rerun = shlex.join(["pytest", report.nodeid, *self.session.settings.pytest_options()])
        return replace(self.outcomes.result(report, Case(_own_check(item))), rerun=rerun)

    def _bundled(self, error: Mismatch, result: CheckResult) -> list[str]:
        """Write the repro script of the failure, if asked for, and return where it is."""
        from clip_eval.run.repro import bundle_name, write_bundle

        if self.session.settings.repro is None:
            return []
        name = bundle_name(result.id, result.case)
        title = f"{result.id}{f'[{result.case}]' if result.case else ''}: {error.measurement.name}"
        directory = Path(self.session.settings.repro).absolute()
        line = write_bundle(directory, name, title=title, numbers=error.numbers, clip=self.session.candidate.clip)
        return [f"{'repro':<10}{line}"]

    def _located(self, item: pytest.Item, error: Mismatch) -> str | None:
        """Return the module that the mismatch comes from: a defect shows in everything after its module.

        The subject may be too broken to run again; the module of the mismatch stays then, and a note says why.
        """
        observed = None if error.numbers is None else error.numbers.observed
        try:
            return self.session.asked(item).localiser.first_divergence(error.diverges_at, observed)
        except Exception as problem:  # whatever it raises must not hide the mismatch
            raised = " ".join(f"{type(problem).__name__}: {problem}".split())
            Evidence(item.user_properties).note(
                f"Where the numbers diverge first was not found; the search raised {raised}"
            )
            return error.diverges_at

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather results; under xdist the controller sees every worker's report."""
        case = self._case(report)
        if case is not None:
            self.outcomes.add(report, case)
        elif report.failed:
            self._own_failed = True

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be collected is no failure that a policy lets warn."""
        self._own_failed = self._own_failed or report.failed

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what an xdist worker sends besides reports; a dead worker sends nothing."""
        handover = getattr(node, "workeroutput", {})
        self._collected += handover.get("clip_eval.collected", [])
        self._deselected += handover.get("clip_eval.deselected", [])
        if "clip_eval.provenance" in handover:
            self._provenance, self._attention = handover["clip_eval.provenance"], handover["clip_eval.attention"]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Decide, write the reports, set the exit code."""
        from clip_eval.subject.environment import attention_used, provenance

        candidate = self.session.candidate
        if self._is_worker:
            output = session.config.workeroutput  # type: ignore[attr-defined] # xdist adds it
            output["clip_eval.collected"] = self._collected
            output["clip_eval.deselected"] = self._deselected
            output["clip_eval.provenance"] = provenance(candidate)
            output["clip_eval.attention"] = attention_used(candidate)
        elif self._suite_took_part and session.exitstatus != pytest.ExitCode.USAGE_ERROR:
            self._refused = self._without_match(session)
            if self._refused is not None:
                session.exitstatus = self._refused.exit_code
                return
            if not self._provenance:  # no xdist worker has sent it
                self._provenance, self._attention = provenance(candidate), attention_used(candidate)
            self._finish(session)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The verdict and its reasons, last."""
        if self._refused is not None:
            sys.stderr.write(f"ERROR: {self._refused}\n")
        if self.record is None:
            return
        terminalreporter.section("clip-eval")
        for text in (
            *closing_paragraphs(self.record, None if self._unwritten else self.session.settings.out),
            *next_lines(self.record),
            *workflow_commands(self.record, os.environ),
        ):
            terminalreporter.write_line(text)
        if self._unwritten is not None:
            sys.stderr.write(f"ERROR: {self._unwritten}\n")

    def _without_match(self, session: pytest.Session) -> UsageError | None:
        """Return the error of a -k that matches nothing; under xdist it is known once every worker has ended."""
        keyword = str(self.config.option.keyword).strip()
        nothing_left = session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and not self._announced
        return nothing_matches(keyword) if keyword and nothing_left else None

    def _finish(self, session: pytest.Session) -> None:
        found = remember(self._record(), self.session.settings.history)
        self.record = found.record
        try:
            if self.session.settings.out is not None:
                _write_reports(found, self.session.settings.out)
        except OutputError as error:
            self._unwritten, session.exitstatus = error, error.exit_code
            return
        add_to_job_summary(self.record, os.environ)
        code = int(session.exitstatus)
        if code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
            passed = self.record.verdict == "pass"
            warned = any(check.outcome == "warned" for check in self.record.checks)
            own_tests_failed = code == pytest.ExitCode.TESTS_FAILED and passed and (self._own_failed or not warned)
            verdicts = {"pass": int(own_tests_failed), "fail": 1, "inconclusive": _INCONCLUSIVE}
            session.exitstatus = verdicts[self.record.verdict]

    def _record(self) -> RunRecord:
        settings = self.session.settings
        declared = declared_checks()
        policy = self.session.policy
        found = soften(
            attributed(complete(self._results(), declared=declared)),
            self.outcomes.tasks,
            self.outcomes.throughput,
            self.outcomes.surface_changes,
            policy=policy,
            new_weights=settings.new_weights,
            today=self.session.today,
        )
        decision = decide(
            checks=found.checks,
            declared=declared,
            surface_changes=self.outcomes.surface_changes,
            tasks=found.tasks,
            throughput=found.throughput,
            asked=Asked(
                baseline=settings.baseline is not None,
                tasks=settings.dataset is not None,
                throughput=settings.throughput,
            ),
            new_weights=settings.new_weights,
            required=policy.require,
            changed=self.session.changed(),
            warns=[name for name in SCOPES if name in parts_that_warn(policy, new_weights=settings.new_weights)],
            thresholds=policy.blocking_scores,
        )
        return RunRecord(
            started=datetime.fromtimestamp(self._started, tz=timezone.utc).isoformat(timespec="seconds"),
            duration_s=round(time.time() - self._started, 3),
            arguments=settings.arguments(),
            verdict=decision.verdict,
            headline=decision.headline,
            reasons=decision.reasons,
            scope=decision.scope,
            provenance=self._provenance,
            candidate=self.session.candidate.info(self._attention),
            baseline=self.session.pack_info_in(str(self._provenance.get("transformers")), self._attention),
            checks=found.checks,
            surface_changes=tuple(self.outcomes.surface_changes),
            tasks=found.tasks,
            throughput=found.throughput,
            notes=(*found.notes, *self.session.candidate.checkpoint.notes, *self.outcomes.notes),
            images=self.outcomes.images,
            similarity=self.outcomes.similarity,
            policy=policy.info,
        )

    def _results(self) -> list[CheckResult]:
        """Every result, in the order of collection whichever worker ran it, with a placeholder for each test without
        one.
        """
        for case in _cases(self._deselected):
            self.outcomes.not_run(case, "deselected")
        collected = _cases(self._collected + self._announced)
        for case in collected:
            self.outcomes.not_run(case, "collected, but without a result")
        places = {case: place for place, case in enumerate(collected)}
        results = self.outcomes.checks
        return [results[case] for case in sorted(results, key=lambda case: places.get(case, len(places)))]

    @property
    def _suite_took_part(self) -> bool:
        """Whether checks of the suite were collected; else it is a user's own test run, without record and verdict."""
        return bool(self._collected or self.outcomes.checks)

    def _case(self, report: pytest.TestReport) -> Case | None:
        """The suite's case that a report is about; None for a user's own test, even one of the same name."""
        name = name_in_suite(report)
        if name is None and str(report.when) == "???" and self._may_be_of_suite(report.nodeid):
            name = report.nodeid  # an xdist worker died in this test, so its marks are lost
        return None if name is None else find_case(name)

    def _may_be_of_suite(self, nodeid: str) -> bool:
        """Whether a node id may be a check's; used only where a wrong yes makes the verdict no better."""
        path = self.config.rootpath / nodeid.partition("::")[0]
        return is_of_suite(path) or not path.exists()


def _cases(names: list[str]) -> list[Case]:
    """The declared cases among names of tests, each once."""
    return list(dict.fromkeys(case for case in map(find_case, names) if case is not None))


def _name(item: pytest.Item) -> str:
    return f"{item.path.name}::{item.name}"


def _own_check(item: pytest.Item) -> DeclaredCheck:
    """A user's own test as a check: the promise is its docstring's first paragraph, else its name."""
    promise, _, _ = (inspect.getdoc(getattr(item, "obj", None)) or item.name).partition("\n\n")
    return DeclaredCheck(id=item.nodeid, chapter="own", scope="contract", promise=" ".join(promise.split()))


def _write_reports(found: Remembered, out: Path) -> None:
    """Write the reports, all or none, each whole and none before all can be rendered."""
    page = render_html(found.record, found.trends)
    texts = [page, *(render(found.record) for render in (render_markdown, render_junit, dump))]
    try:
        for name, text in zip(REPORTS, texts, strict=True):
            write_text(out / name, text)
    except OutputError:
        clear(out, REPORTS)
        raise
