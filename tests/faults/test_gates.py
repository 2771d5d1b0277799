"""A sample of faults through `clip-eval gate` itself: the child process sees them as the catalogue's runs in this
process do.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.releases import ordinary_under

from clip_eval.verdict.run_record import load
from faults.catalogue import by_id
from faults.watch import Watch

SAMPLE = {
    "attention.attention_scale_off_by_a_thousandth": "5",
    "outputs.hidden_states_are_one_short": "4",
    "config.end_token_is_off_by_one": "4",
}
"""Those of ordinary runs, and the release under which."""

MORE = (
    "heads.image_projection_in_bfloat16",
    "weights.weights_pass_through_bfloat16",
    "tokens.case_is_kept",
    "pixels.resize_is_bilinear",
    "rows.the_future_leaks_faintly",
    "localisation.second_mlp_product_in_bfloat16",
    "persistence.scale_is_not_saved",
)

LOADER = """
import sys
if "--clip-settings" in sys.orig_argv:
    import pytest
    from faults.catalogue import by_id
    by_id({id!r}).patch(pytest.MonkeyPatch())
"""


@pytest.mark.parametrize(
    "identity", [pytest.param(name, marks=ordinary_under(SAMPLE.get(name))) for name in (*SAMPLE, *MORE)]
)
def test_fault_fails_a_gate(watch: Watch, tmp_path: Path, identity: str) -> None:
    """The gate itself, in a child process, ends with exit code 1 and names the check in its record. It runs the checks
    that must see the fault.
    """
    fault = by_id(identity)
    (tmp_path / "sitecustomize.py").write_text(LOADER.format(id=identity) if fault.patch else "", encoding="utf-8")
    paths = [str(tmp_path), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    checks = ("-k", " or ".join(fault.seen_by))
    asked = ("gate", str(watch.checkpoint(fault)), *checks, "--no-throughput", "--out", str(tmp_path / "out"))
    done = subprocess.run(
        [sys.executable, "-m", "clip_eval", *asked],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    record = load((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    failed = {check.id for check in record.checks if check.outcome == "failed"}
    assert set(fault.seen_by) <= failed
    named = {check.diverges_at for check in record.checks if check.diverges_at and check.id in fault.seen_by}
    assert bool(named) >= bool(fault.diverges_at)
    assert all(map(fault.places, named)) or not fault.diverges_at
