"""What was not timed never looks like a measurement, in each way of keeping pytest-benchmark from its clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from small_clip import write_small_clip

TIMED = "throughput.embeddings_are_timed"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random checkpoint without a processor."""
    return write_small_clip(tmp_path_factory.mktemp("small"), processor=False)


def run(model: Path, out: Path, *options: str, keyword: str = "embeddings_are_timed") -> dict[str, Any]:
    """Run the suite's timing check as a user's own pytest would, and return the run record."""
    command = [
        sys.executable, "-m", "pytest", "--pyargs", "clip_eval.suite", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-q",
        "--clip-model", str(model), "--clip-out", str(out), "-k", keyword, *options,
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=out.parent, env=environment, check=False)
    assert done.returncode == 10, done.stdout + done.stderr
    record: dict[str, Any] = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return record


def outcomes(record: dict[str, Any]) -> dict[str, str]:
    """Return outcome and reason of each timing check, by case."""
    return {
        check["case"]: f"{check['outcome']}: {check['reason']}" for check in record["checks"] if check["id"] == TIMED
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-n", "1"], "not_run: speed was not timed: under pytest-xdist"),
        (["--benchmark-disable"], "not_run: speed was not timed: pytest-benchmark is disabled"),
        (["--benchmark-skip"], "not_run: skipped from outside: "),
        (["-p", "no:benchmark"], "not_run: speed was not timed: the pytest-benchmark plugin is not loaded"),
        (["--clip-device", "meta"], "not_run: speed was not timed: there is no clock for meta devices"),
        (["--clip-no-throughput"], "not_applicable: --no-throughput was given"),
    ],
)
def test_nothing_untimed_passes(model: Path, tmp_path: Path, options: list[str], said: str) -> None:
    """The check says that it was not timed, and the record holds no ratio."""
    record = run(model, tmp_path / "out", *options)
    assert record["throughput"] == []
    found = outcomes(record)
    assert set(found) == {"images", "texts"}
    assert all(text.startswith(said) for text in found.values()), found
    assert not any(check["outcome"] == "passed" for check in record["checks"])
