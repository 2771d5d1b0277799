"""What `gate` prints of its record at the end."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import sample_records as sample
from support.commands import Run, assert_refused

from clip_eval.cli.closing import print_closing
from clip_eval.verdict.run_record import RunRecord, dump


def closing(record: RunRecord, out: Path, capsys: pytest.CaptureFixture[str], **wanted: bool) -> list[str]:
    """The lines that are printed of a record."""
    (out / "run.json").write_text(dump(record), encoding="utf-8")
    print_closing(out, **wanted)
    return capsys.readouterr().out.splitlines()


def test_margins_are_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The twenty largest of error over bound, the worst first, in 80 columns and without colour."""
    checks = [
        sample.check(f"a.{'long_' * 12}name_{n}", measurements=(sample.measurement(error=n / 50, bound=1.0),))
        for n in range(30)
    ]
    lines = closing(sample.record(checks=checks), tmp_path, capsys, headline=False, table=True)
    assert "largest 20 of 30" in " ".join(lines)
    assert all(len(line) <= 80 and line.isprintable() for line in lines)
    shares = [float(line.split()[-1]) for line in lines if line.split() and line.split()[0].startswith("a.long")]
    assert shares == [n / 50 for n in range(29, 9, -1)]


def test_quiet_prints_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The headline and nothing else."""
    record = sample.failing_record()
    lines = closing(record, tmp_path, capsys, headline=True, table=False)
    assert " ".join(lines) == record.headline


def test_quiet_and_verbose_contradict(run: Run) -> None:
    """Both together are refused."""
    assert_refused(run("gate", "my-clip", "-q", "-v"), "either --verbose or --quiet")
