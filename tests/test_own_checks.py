"""The worked example of a user's own checks runs as its page says, and a defect fails it in five lines."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from support.forked import run_pytest

FIXTURES = Path(__file__).parents[1] / "fixtures"
MODEL = ("--clip-model", str(FIXTURES / "shapes-clip"))
PACK = ("--clip-baseline", str(FIXTURES / "baselines" / "shapes-clip"))
TESTS = re.findall(r"^def (test_\w+)", (FIXTURES / "own-checks" / "test_our_checks.py").read_text("utf-8"), re.M)

HALF_AS_SURE = """
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    from transformers import CLIPModel
    if getattr(CLIPModel, "planted", False):
        return
    original = CLIPModel.forward
    def forward(self, *args, **kwargs):
        output = original(self, *args, **kwargs)
        output.logits_per_image = output.logits_per_image * 0.5
        return output
    CLIPModel.forward, CLIPModel.planted = forward, True
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the example, as a repository of its own."""
    return Path(shutil.copytree(FIXTURES / "own-checks", tmp_path / "repository"))


def run(repository: Path, *options: str) -> pytest.RunResult:
    """Run pytest in the repository."""
    return run_pytest(repository, "-rs", *options)


def test_the_example_passes(repository: Path) -> None:
    """On the shipped checkpoint and its pack every test of the example passes, and so does the one that the README of
    this project shows.
    """
    readme = (FIXTURES.parent / "README.md").read_text("utf-8")
    (shown,) = re.findall(r"^```python\n(# test_ours\.py, .*?)^```", readme, re.M | re.S)
    (repository / "test_ours.py").write_text(shown, encoding="utf-8")
    shutil.copy(repository / "pictures" / "red-circle.png", repository)
    done = run(repository, *MODEL, *PACK)
    assert done.ret == 0, str(done.stdout) + str(done.stderr)
    assert f"{len(TESTS) + 1} passed" in str(done.stdout)


def test_without_a_pack_the_comparison_is_skipped(repository: Path) -> None:
    """Without --clip-baseline what needs the pack is skipped with the reason, the rest passes."""
    done = run(repository, *MODEL)
    assert done.ret == 0, str(done.stdout) + str(done.stderr)
    assert f"{len(TESTS) - 1} passed, 1 skipped" in str(done.stdout)
    assert "no --baseline was given" in str(done.stdout)


def test_without_a_checkpoint_nothing_is_green(repository: Path) -> None:
    """Without --clip-model no test passes, and the message says which option is missing."""
    done = run(repository)
    assert done.ret != 0
    assert "passed" not in str(done.stdout)
    assert "add --clip-model CHECKPOINT" in str(done.stdout) + str(done.stderr)


def test_a_defect_speaks_in_five_lines(repository: Path) -> None:
    """A wrong logit fails the check that is about logits, with promise, worst element, error, module and rerun line."""
    (repository / "planted.py").write_text(HALF_AS_SURE, encoding="utf-8")
    done = run(repository, *MODEL, "-p", "planted")
    assert done.ret == 1, str(done.stdout) + str(done.stderr)
    assert f"1 failed, {len(TESTS) - 2} passed, 1 skipped" in str(done.stdout)
    said = " ".join(str(done.stdout).split()).replace("\\ ", "")
    assert "promise On our prompts and pictures every logit is right, within what rounding explains." in said
    assert "worst logits_per_image[" in said
    assert "times the bound" in said
    assert "diverges logit_scale" in said
    assert "rerun pytest test_our_checks.py::test_our_logits_are_what_the_weights_determine" in said
