"""The action and the examples for CI: what they type can be typed, what they name exists, the script works."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.commands import parse_clip_eval

ROOT = Path(__file__).parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
SCRIPT = ROOT / ".ci" / "action.py"
EXAMPLES = sorted((ROOT / "examples" / "ci").iterdir())
WORKFLOWS = [file for file in EXAMPLES if file.name in ("nightly.yml", "pull-request.yml", "release.yml")]


def steps(file: Path) -> list[dict[str, Any]]:
    """The steps of a workflow's only job."""
    (job,) = yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"].values()
    return list(job["steps"])


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_command_lines_can_be_typed(file: Path) -> None:
    """The option parser reads each line of clip-eval; an example without one uses the action."""
    text = file.read_text(encoding="utf-8")
    if file.suffix in (".yml", ".yaml"):
        yaml.safe_load(text)
    lines = re.findall(r"(?:run: |entry: |- |bin/|^ +)(clip-eval (?!:)[a-z]+ [^'#\n]+)", text, re.M)
    assert lines or "uses: OWNER/clip-eval@main" in text
    assert lines or file.name not in ("nightly.yml", "gitlab-ci.yml", "Jenkinsfile", "pre-commit-config.yaml")
    for line in lines:
        parse_clip_eval(shlex.split(line))


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_workflows_use_inputs_and_outputs_that_there_are(file: Path) -> None:
    """Inputs of the action exist and the required one is given, its options can be typed; outputs exist."""
    for step in steps(file):
        if "clip-eval@" in step.get("uses", ""):
            given = step["with"]
            assert set(given) <= set(ACTION["inputs"])
            assert "checkpoint" in given
            parse_clip_eval(["clip-eval", "gate", given["checkpoint"], *shlex.split(given.get("args", ""))])
    named = re.findall(r"steps\.gate\.outputs\.([\w-]+)", file.read_text(encoding="utf-8"))
    assert set(named) <= set(ACTION["outputs"])


def test_the_action_hands_everything_over() -> None:
    """Each input is used and each that is used is declared; none is pasted into a command line as code."""
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"\binputs\.([\w-]+)", text)) == set(ACTION["inputs"])
    assert ACTION["runs"]["using"] == "composite"
    for step in ACTION["runs"]["steps"]:
        assert ("shell" in step) == ("run" in step)
        assert "${{" not in step.get("run", "")
    (gate,) = [step for step in ACTION["runs"]["steps"] if step.get("id") == "gate"]
    script = SCRIPT.read_text(encoding="utf-8")
    used = {*re.findall(r'"(CLIP_\w+)"', script), "CLIP_BASELINE", "CLIP_DATASET", "CLIP_POLICY", "CLIP_ACCEPTED"}
    assert used == {name for name in gate["env"] if name.startswith("CLIP_")}


def act(folder: Path, **inputs: str) -> tuple[int, dict[str, str], str]:
    """Run the action's script as its step does: exit code, outputs, what it printed."""
    names = [name for name in ACTION["runs"]["steps"][2]["env"] if name.startswith("CLIP_")]
    variables = {name: inputs.get(name.removeprefix("CLIP_").lower(), "") for name in names}
    outputs = folder / "outputs"
    outputs.write_text("", encoding="utf-8")
    environment = {**os.environ, **variables, "CLIP_OUT": str(folder / "reports"), "GITHUB_OUTPUT": str(outputs)}
    environment.pop("GITHUB_STEP_SUMMARY", None)
    ended = subprocess.run(
        [sys.executable, str(SCRIPT)], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    lines = outputs.read_text(encoding="utf-8").splitlines()
    return ended.returncode, dict(line.split("=", 1) for line in lines), ended.stdout + ended.stderr


def test_the_action_says_what_it_refuses(tmp_path: Path) -> None:
    """A checkpoint that is not there is exit code 4 without a verdict, though an earlier run.json lies there."""
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "run.json").write_text('{"verdict": "pass"}', encoding="utf-8")
    code, outputs, said = act(tmp_path, checkpoint="--no-such", dataset="$(touch here)")
    assert (code, outputs) == (4, {"verdict": "", "exit-code": "4", "summary": ""})
    assert "does not exist: --no-such" in said.replace("\n", " ")


@pytest.mark.slow
def test_the_action_gates(tmp_path: Path) -> None:
    """A gate of two checks: verdict, exit code and summary are outputs, and quotes in args are as in a shell."""
    code, outputs, _ = act(
        tmp_path, checkpoint="fixtures/shapes-clip", args="--no-throughput -k 'logits_are_symmetric or unit_norm'"
    )
    summary = tmp_path / "reports" / "summary.md"
    assert (code, outputs) == (10, {"verdict": "inconclusive", "exit-code": "10", "summary": str(summary)})
    assert summary.is_file()
