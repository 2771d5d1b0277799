"""pytest-benchmark's own gate, `--benchmark-compare-fail`, on a call of this process, run by run."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.session import PerformanceRegression

__all__ = ["CompareFail", "Compared"]

_TEST = "def test_call(benchmark, call):\n    benchmark(call)\n"
_PLAIN = (
    "-q",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:xdist",
    "--noconftest",
    "--import-mode=importlib",
    "--benchmark-quiet",
)


@dataclass(frozen=True, slots=True)
class Compared:
    """One run against the saved one: whether it failed, mean over saved mean, and its rounds."""

    failed: bool
    mean_ratio: float
    rounds: int


class _Calls:
    """The plugin that hands a call of this process to the test."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call

    @pytest.fixture
    def call(self) -> Callable[[], Any]:
        """What is timed."""
        return self._call


@dataclass
class CompareFail:
    """A saved figure of `reference`, and runs against it.

    Args:
        reference: the call whose speed is saved.
        rule: as pytest-benchmark reads it.
    """

    reference: Callable[[], Any]
    rule: str = "mean:10%"
    _home: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="compare-fail-")), repr=False)
    _saved: dict[str, Any] = field(default_factory=dict, repr=False)

    def save(self) -> None:
        """Time the reference and save its figure, after a run that warms the process up."""
        (self._home / "test_call.py").write_text(_TEST, encoding="utf-8")
        self._pytest(self.reference)
        code, self._saved = self._pytest(self.reference, "--benchmark-save=saved")
        assert code == 0, "the first run has nothing to fail against"

    def run(self, call: Callable[[], Any]) -> Compared:
        """Time a call and let pytest-benchmark compare it."""
        code, stats = self._pytest(call, "--benchmark-compare=0001", f"--benchmark-compare-fail={self.rule}")
        return Compared(code != 0, stats["mean"] / self._saved["mean"], stats["rounds"])

    def _pytest(self, call: Callable[[], Any], *options: str) -> tuple[int, dict[str, Any]]:
        figures = self._home / "figures.json"
        where = (f"--rootdir={self._home}", f"--benchmark-storage=file://{self._home}/saved")
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            command = [str(self._home / "test_call.py"), *_PLAIN, *where, f"--benchmark-json={figures}", *options]
            try:
                code = int(pytest.main(command, plugins=[_Calls(call)]))
            except PerformanceRegression:  # it fails by raising out of pytest, after its tests passed
                code = 1
        if not figures.exists():
            raise RuntimeError(f"pytest-benchmark timed nothing:\n{said.getvalue()}")
        stats = json.loads(figures.read_text(encoding="utf-8"))["benchmarks"][0]["stats"]
        figures.unlink()
        return code, stats
