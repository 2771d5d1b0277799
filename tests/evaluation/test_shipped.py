"""The shipped checkpoint on the shipped dataset, for real."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pyarrow import compute, parquet
from support.commands import Run

FIXTURES = Path(__file__).parents[2] / "fixtures"


def test_the_shipped_checkpoint(run: Run, tmp_path: Path) -> None:
    """Its scores are those that a gate gives, of 528 images in 40 groups, with the worst of them as pictures."""
    arguments = ("--dataset", FIXTURES / "shapes-dataset", "--task", "zero_shot", "--task", "image_to_text")
    ended = run("evaluate", FIXTURES / "shapes-clip", *arguments, "--out", tmp_path / "out")
    assert ended.code == 0
    (top1,) = (line.split() for line in ended.out.splitlines() if line.startswith("zero_shot_top1"))
    assert (top1[1], top1[5]) == (f"{508 / 528:.4f}", "528")
    table = parquet.read_table(tmp_path / "out" / "samples.parquet")
    assert table.num_rows == 2 * 528
    assert compute.count_distinct(table["group"]).as_py() == 40
    hits = table.filter(compute.equal(table["task"], "zero_shot"))
    assert compute.sum(hits["top1"]).as_py() == 508
    page = (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8")
    assert "528 in 40 groups" in page
    assert page.count("data:image/jpeg;base64,") == 16
    assert len(page) < 500_000


def test_a_refusal_loads_no_torch(tmp_path: Path) -> None:
    """What cannot be read is refused before anything heavy is loaded."""
    code = "import sys; from clip_eval.cli.main import cli; cli(sys.argv[1:], standalone_mode=False)"
    program = f"try:\n    {code}\nexcept Exception as e:\n    print(type(e).__name__, 'torch' in sys.modules)"
    for model, dataset in (("nowhere", "nowhere"), (FIXTURES / "shapes-clip", tmp_path)):
        command = [sys.executable, "-c", program, "evaluate", str(model), "--dataset", str(dataset)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.split()[1] == "False", done.stdout
        assert done.stdout.split()[0] in ("CheckpointError", "DatasetError")
