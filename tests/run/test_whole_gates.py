"""Whole gates: from a hostile directory, under xdist, and with every check hidden, the same checks come to the same
outcomes. The first of them is run once for all.
"""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from faults.healthy import few_heads
from support.forked import run_pytest
from support.gating import Ended, gate, outcomes, run_record
from support.releases import ordinary_under
from support.shared import made_once

from clip_eval.run.declared_checks import declared_checks
from clip_eval.run.settings import REPORTS

pytest_plugins = ["pytester"]

HOSTILE_MODULES = ("torch.py", "numpy.py", "transformers.py", "pytest.py", "sitecustomize.py", "clip_eval/__init__.py")
HOSTILE_FILES = {
    "pytest.ini": """
        [pytest]
        addopts = -k nothing --maxfail=1 -x --no-such-option
        python_functions = nope
        python_files = nope.py
        testpaths = nowhere
    """,
    "pyproject.toml": """
        [tool.pytest.ini_options]
        addopts = "-k nothing"
        python_functions = "nope"
    """,
    "tox.ini": "[pytest]\naddopts = -k nothing\n",
    "setup.cfg": "[tool:pytest]\naddopts = -k nothing\n",
    "conftest.py": """
        raise RuntimeError("hostile conftest")

        def pytest_collection_modifyitems(items):
            items[:] = []
    """,
    "hostile_plugin.py": """
        def pytest_collection_modifyitems(items):
            items[:] = []
    """,
    **dict.fromkeys(HOSTILE_MODULES, 'raise RuntimeError("hostile module")'),
}
HOSTILE_ENVIRONMENT = {
    "PYTEST_ADDOPTS": "-k nothing --no-such-option",
    "PYTEST_PLUGINS": "hostile_plugin",
    "PYTEST_THEME": "no-such-theme",
    "PYTEST_THEME_MODE": "no-such-mode",
    "PYTHONWARNINGS": "error",
    "PYTHONOPTIMIZE": "2",
    "COLUMNS": "80",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """The gate of a checkpoint from a hostile directory with a hostile environment, by relative paths."""
    kept = made_once(tmp_path_factory, "whole", _gate_in_a_hostile_directory)
    ended = json.loads((kept / "ended.json").read_text(encoding="utf-8"))
    return Ended(**{**ended, "reports": Path(ended["reports"])})


def _gate_in_a_hostile_directory(kept: Path) -> None:
    directory = kept / "hostile"
    for name, text in HOSTILE_FILES.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(textwrap.dedent(text), encoding="utf-8")
    few_heads(directory / "my-clip")
    asked = ("my-clip", "--no-throughput")
    ended = gate(*asked, cwd=directory, reports=Path("out"), environment=HOSTILE_ENVIRONMENT)
    (kept / "ended.json").write_text(json.dumps(asdict(ended), default=str), encoding="utf-8")


def test_a_healthy_checkpoint_passes(whole: Ended) -> None:
    """A healthy checkpoint of another make passes whatever lies in the working directory; every check is in the record,
    and every report is written.
    """
    assert whole.code == 0, whole.out + whole.err
    record = run_record(whole.reports)
    assert record["verdict"] == "pass"
    assert {check["id"] for check in record["checks"]} == {check.id for check in declared_checks()}
    assert sorted(path.name for path in whole.reports.iterdir()) == sorted(REPORTS)


def test_a_hostile_directory_gets_reports_and_nothing_else(whole: Ended) -> None:
    """The gate leaves its reports where they were asked for, no caches and no files beside them."""
    directory = whole.reports.parent
    found = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    allowed = {*HOSTILE_FILES, *(f"out/{name}" for name in REPORTS)}
    assert {name for name in found - allowed if not name.startswith("my-clip/")} == set()


def test_a_relative_checkpoint_is_recorded_whole(whole: Ended) -> None:
    """The record names the checkpoint and the rerun of a relative path by an absolute one: it is read elsewhere."""
    record = run_record(whole.reports)
    assert record["candidate"]["source"] == str(whole.reports.parent / "my-clip")


def test_the_output_fits_a_terminal(whole: Ended) -> None:
    """What the gate prints fits 80 columns, but for paths, and ends with the verdict and where the reports are."""
    progress = whole.err.splitlines()
    assert progress[0].endswith(" checks of my-clip")
    assert all(line.startswith("clip-eval: ") and len(line) <= 80 for line in progress)
    assert len(progress) <= 2 + run_record(whole.reports)["duration_s"] / 20, "a log stays readable"
    long = [line for line in whole.out.splitlines() if len(line) > 80 and not line.startswith("reports: ")]
    assert all(len(line.split()) == 1 for line in long), "only an id that is to be copied stays whole"
    assert "pass: contract" in whole.out
    assert f"reports: {whole.reports / 'report.html'}" in whole.out


def suite_on(whole: Ended) -> tuple[str, ...]:
    """Arguments of pytest: the suite on the same checkpoint."""
    return ("--pyargs", "clip_eval.suite", f"--clip-model={whole.reports.parent / 'my-clip'}", "--clip-no-throughput")


HIDING = {
    "dropped": "items[:] = []",
    "skipped": "[item.add_marker(pytest.mark.skip(reason='too slow')) for item in items]",
}
REASONS = {
    "dropped": "collected, but without a result",
    "skipped": "skipped from outside: too slow",
}


@pytest.mark.parametrize("way", HIDING)
def test_checks_that_are_hidden_are_missed(pytester: pytest.Pytester, whole: Ended, way: str) -> None:
    """A plugin that drops or skips every check leaves a record in which all are not run, by name, case and
    reason; the verdict is inconclusive with exit code 10, in reports below the directory that pytest was started in.
    """
    pytester.makepyfile(
        meddler=f"""
        import pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_collection_modifyitems(config, items):
            {HIDING[way]}
    """
    )
    result = run_pytest(pytester.path, *suite_on(whole), "-p", "meddler", "--clip-out=deep/out")
    assert result.ret == 10
    record = run_record(pytester.path / "deep" / "out")
    assert record["verdict"] == "inconclusive"
    assert {check["outcome"] for check in record["checks"]} == {"not_run"}
    assert {check["reason"] for check in record["checks"]} == {REASONS[way]}
    assert set(outcomes(pytester.path / "deep" / "out")) == set(outcomes(whole.reports))
    result.stdout.fnmatch_lines(["inconclusive: could not judge contract*"])


def judgement(measurement: dict[str, Any]) -> tuple[Any, ...]:
    """What of a measurement is the same in every process; last bits follow where arrays happen to lie in memory."""
    return (
        *(measurement[key] for key in ("name", "budget", "passed")),
        None if measurement["bound"] is None else pytest.approx(measurement["bound"], rel=0.01),
    )


@pytest.mark.parametrize("workers", [pytest.param("-n2", marks=ordinary_under("4"))])
def test_xdist_changes_no_outcome(pytester: pytest.Pytester, whole: Ended, workers: str) -> None:
    """Two workers come to the same outcomes and measurements as one process, and the verdict leaves a user's own
    failing test its exit code.
    """
    pytester.makepyfile(test_own="def test_own(): raise AssertionError('mine')")
    result = run_pytest(pytester.path, *suite_on(whole), "test_own.py", workers, "-p", "no:benchmark", "--clip-out=out")
    assert outcomes(pytester.path / "out") == outcomes(whole.reports)
    alone, parallel = run_record(whole.reports), run_record(pytester.path / "out")
    assert parallel["verdict"] == alone["verdict"] == "pass"
    assert result.ret == 1, "the user's own test failed"
    for one, other in zip(alone["checks"], parallel["checks"], strict=True):
        assert list(map(judgement, one["measurements"])) == list(map(judgement, other["measurements"])), one["id"]
    assert parallel["candidate"] == alone["candidate"]
    assert parallel["provenance"]["threads"] is not None, "the workers know it"
    assert sorted(path.name for path in (pytester.path / "out").iterdir()) == sorted(REPORTS)
