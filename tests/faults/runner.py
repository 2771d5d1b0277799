"""Runs the whole suite in this process, with or without a fault, as the hermetic gate runs it in a child.

The float64 reference depends on weights, config, dtype and probe alone, so runs on the same ones share it; a checkpoint
whose files nothing has touched is opened once. Everything of the subject is made afresh.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from clip_eval.checkpoint.checkpoint import Checkpoint, open_checkpoint
from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.run.declared_checks import SUITE
from clip_eval.subject import candidate
from clip_eval.subject.candidate import Candidate
from clip_eval.verdict.run_record import RunRecord

__all__ = ["SUITE", "Run", "Runner"]

_PLACE = ("-c", str(SUITE / "gate.ini"), "--rootdir", str(SUITE.parent.parent))
_HERMETIC = (*_PLACE, "--noconftest", "--import-mode=importlib", "-s", "--tb=line")
_NEEDED = ("clip_eval.plugin", "pytest_benchmark.plugin")
# These plugins take a third of a run's time and have no part in its verdict.
_SPARED = ("cacheprovider", "logging", "unraisableexception", "threadexception")


@dataclass(frozen=True, slots=True)
class Run:
    """What a run of the suite ended with."""

    record: RunRecord
    exit_code: int


@dataclass(slots=True)
class Runner:
    """Runs the suite and keeps the references for runs to come."""

    oracles: dict[tuple[str, ...], Oracle] = field(default_factory=dict)
    _opened: dict[tuple[object, ...], Checkpoint] = field(default_factory=dict, repr=False)

    def run(
        self,
        checkpoint: Path,
        *options: str,
        parts: Iterable[str] = (),
        during: Callable[[pytest.MonkeyPatch], None] | None = None,
    ) -> Run:
        """Run the suite on a checkpoint.

        Args:
            checkpoint: a checkpoint directory.
            options: further pytest options.
            parts: ids of the checks to run, or chapters, as in those ids; none for the whole suite.
            during: patches what it likes before the run; put back after it.

        Raises:
            RuntimeError: there is no record, as the run broke down; its output is in the message.
        """
        keeper = _Keeper(self.oracles)
        output = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
            patch.delenv("PYTEST_ADDOPTS", raising=False)
            patch.delenv("PYTEST_PLUGINS", raising=False)
            patch.setattr(candidate, "open_checkpoint", self._open)
            if during is not None:
                _settle()
                during(patch)
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                code = pytest.main(_arguments(checkpoint, options, parts), plugins=[keeper])
        if keeper.record is None:
            raise RuntimeError(f"the suite ended with {code} and left no record:\n{output.getvalue()[-3000:]}")
        return Run(keeper.record, int(code))

    def _open(self, model: str, **options: str | None) -> Checkpoint:
        files = ((path, path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(Path(model).rglob("*")))
        key = (model, *options.items(), *files)
        if key not in self._opened:
            self._opened = {key: open_checkpoint(model, **options)}
        return self._opened[key]


def _settle() -> None:
    """Import what is patched: transformers 5.5 makes its module anew when the first model is asked for."""
    importlib.import_module("transformers.models.clip.modeling_clip")
    importlib.import_module("transformers.models.auto.processing_auto")


def _arguments(checkpoint: Path, options: tuple[str, ...], parts: Iterable[str]) -> list[str]:
    tests = [_node(part) for part in sorted(parts)] or [str(SUITE)]
    plugins = [*(("-p", name) for name in _NEEDED), *(("-p", f"no:{name}") for name in _SPARED)]
    asked = ("--clip-no-throughput", "--clip-model", str(checkpoint), *options)
    return [*tests, *_HERMETIC, *(part for pair in plugins for part in pair), *asked]


def _node(part: str) -> str:
    """The node id of a check, or the file of a chapter."""
    chapter, _, name = part.partition(".")
    (file,) = SUITE.rglob(f"test_{chapter}.py")
    return f"{file}::test_{name}" if name else str(file)


@dataclass(slots=True)
class _Keeper:
    """A pytest plugin: hands the reference of an earlier run to this one, and takes the record out."""

    oracles: dict[tuple[str, ...], Oracle]
    record: RunRecord | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        recorder = config.pluginmanager.get_plugin("clip-eval-recorder")
        if recorder is not None:  # a refused checkpoint has none
            tested = recorder.session.candidate
            tested.__dict__["oracle"] = self.oracles.setdefault(_reference(tested), tested.oracle)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: Any) -> None:
        self.record = session.config.pluginmanager.get_plugin("clip-eval-recorder").record


def _reference(tested: Candidate) -> tuple[str, ...]:
    """What the reference depends on."""
    prints = tested.checkpoint.fingerprints()
    alone = tested.checkpoint.standalone_config  # the fingerprint is that of the whole model's config
    return (prints.weights, prints.config, str(alone), tested.dtype, tested.device)
