"""What was not timed never looks like a measurement, in each way of keeping pytest-benchmark from its clock."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.forked import run_suite

TIMED = "throughput.forward_is_timed"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-n", "1"], "not_run: speed was not timed: under pytest-xdist"),
        (["--benchmark-disable"], "not_run: speed was not timed: pytest-benchmark is disabled"),
        (["--benchmark-skip"], "not_run: skipped from outside: "),
        (["-p", "no:benchmark"], "not_run: speed was not timed: the pytest-benchmark plugin is not loaded"),
        (["--clip-no-throughput"], "not_applicable: --no-throughput was given"),
    ],
)
def test_nothing_untimed_passes(bare_model: Path, tmp_path: Path, options: list[str], said: str) -> None:
    """The check says that it was not timed, and the record holds no ratio."""
    record = run_suite(bare_model, tmp_path / "out", *options, keyword="forward_is_timed")
    assert record["throughput"] == []
    timed = [check for check in record["checks"] if check["id"] == TIMED]
    assert {check["case"] for check in timed} == {"images", "texts", "pairs"}
    for check in timed:
        assert f"{check['outcome']}: {check['reason']}".startswith(said)
    assert not any(check["outcome"] == "passed" for check in record["checks"])
