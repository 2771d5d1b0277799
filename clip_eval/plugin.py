"""The pytest plugin: options, fixtures, hooks. Every pytest run in its environment loads it, so it imports nothing
heavy.

Fixtures `clip`, `oracle`, `compare`, `deviations`, `evidence` and `baseline` serve the shipped suite and a user's own
checks alike.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clip_eval.errors import ClipEvalError
from clip_eval.progress import is_handed_on
from clip_eval.run.declared_checks import is_of_suite
from clip_eval.run.evidence import Evidence
from clip_eval.run.settings import OPTIONS, Settings

if TYPE_CHECKING:
    from clip_eval.baseline import Baseline
    from clip_eval.oracle.expected.outputs import Oracle
    from clip_eval.run.session import Session
    from clip_eval.subject.observations import Clip
    from clip_eval.verdict.compare import Compare
    from clip_eval.verdict.deviations import Deviations

__all__ = ["baseline", "clip", "clip_session", "compare", "deviations", "evidence", "oracle"]

_SESSION: pytest.StashKey[Session] = pytest.StashKey()
_PREFIX, _FILE = "--clip-", "--clip-settings"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of `clip-eval gate`, each as --clip-NAME."""
    group = parser.getgroup("clip-eval", "gate a CLIP checkpoint")
    for option in OPTIONS.values():
        if option.kind == "switch":
            group.addoption(option.flag(_PREFIX), action="store_true", help=option.help)
        else:
            default = f" Default: {option.default}." if option.kind == "name" and option.default else ""
            group.addoption(option.flag(_PREFIX), metavar=option.metavar, help=option.help + default)
    group.addoption(_FILE, metavar="FILE", help=argparse.SUPPRESS)  # `clip-eval gate` hands it to its child


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a bad checkpoint, pack or output directory before anything is collected."""
    config.addinivalue_line("markers", "needs(capability, ...): what the check asks of the runtime beyond numbers")
    config.addinivalue_line("markers", "shallow: the check asks what all layers share; a deep model's first ones do")
    file = config.getoption(_FILE, default=None)
    if file is None and config.getoption("--clip-model", default=None) is None:
        return
    from clip_eval.run import keywords
    from clip_eval.run.pytest_hooks import Recorder
    from clip_eval.run.session import Session

    try:
        session = Session(_settings(config)) if file is None else Session.handed_over(Path(file))
        recorder = Recorder(session, config)
        recorder.prepare()
    except ClipEvalError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[_SESSION] = session
    config.pluginmanager.register(recorder, "clip-eval-recorder")
    config.pluginmanager.register(keywords, "clip-eval-keywords")
    if file is not None and config.option.verbose > 0:
        from clip_eval.run.progress_hooks import Lister

        config.pluginmanager.register(Lister(), "clip-eval-lister")
    if is_handed_on():
        from clip_eval.run.progress_hooks import Follower

        config.pluginmanager.register(Follower(Path(session.settings.model).name), "clip-eval-follower")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The suite without a checkpoint is a usage error; its tests are not skipped."""
    if _SESSION not in config.stash and any(is_of_suite(item.path) for item in items):
        raise pytest.UsageError("the clip_eval suite needs a checkpoint: add --clip-model CHECKPOINT")


@pytest.fixture
def evidence(request: pytest.FixtureRequest) -> Evidence:
    """The check's evidence: measurements, results, reasons for not judging."""
    return Evidence(request.node.user_properties)


@pytest.fixture(scope="session")
def clip_session(pytestconfig: pytest.Config) -> Session:
    """Everything derived from the options; the other fixtures are parts of it."""
    session = pytestconfig.stash.get(_SESSION, None)
    if session is None:
        raise pytest.UsageError("this test asks for a CLIP checkpoint: add --clip-model CHECKPOINT")
    return session


@pytest.fixture
def clip(request: pytest.FixtureRequest, clip_session: Session, evidence: Evidence) -> Clip:
    """The subject under test: `clip.forward(images=3, texts=5)` and the like, each answer computed once a session."""
    if problem := clip_session.candidate.device_problem or clip_session.candidate.attention_problem:
        evidence.not_run(problem)
    asked = clip_session.asked(request.node)
    if asked is not clip_session.candidate:
        evidence.note(clip_session.depth_note)
    return asked.clip


@pytest.fixture
def oracle(request: pytest.FixtureRequest, clip_session: Session) -> Oracle:
    """The expected values from the float64 reference, with the bound of every element."""
    return clip_session.asked(request.node).oracle


@pytest.fixture
def compare(evidence: Evidence) -> Compare:
    """Judge an observation: `compare.equal`, `compare.close`, `compare.within`."""
    from clip_eval.verdict.compare import Compare

    return Compare(evidence.measurement)


@pytest.fixture
def deviations(clip_session: Session, evidence: Evidence) -> Deviations:
    """The known deviations of the installed transformers release."""
    from clip_eval.subject import transformers_release
    from clip_eval.verdict.deviations import Deviations

    return Deviations(transformers_release(), evidence.deviation)


@pytest.fixture
def baseline(clip_session: Session, evidence: Evidence) -> Baseline:
    """The approved release: `baseline.pack` is its record, `baseline.expected` the expected value of an output."""
    if clip_session.settings.baseline is None:
        evidence.not_applicable("no --baseline was given")
    return clip_session.baseline


def _settings(config: pytest.Config) -> Settings:
    """What the user named; an empty name is refused, since an empty path is the working directory."""
    values = {}
    for option in OPTIONS.values():
        flag = option.flag(_PREFIX)
        value = config.getoption(flag)
        if value is not None:
            values[option.setting] = option.checked(option.from_flag(value), flag)
    if "out" in values:
        values["out"] = values["out"].absolute()
    return Settings(**values).with_project_policy()
