"""README and the pages beside it: every command line is one that the programs take, and those that are cheap run."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from support.commands import Run, parse_clip_eval

import clip_eval
from clip_eval.cli.main import cli

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "FORMATS.md", "CONTRIBUTING.md", "fixtures/own-checks/README.md")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}[^\n]*\n(.*?)^```", text, re.M | re.S)


def lines(page: str) -> Iterator[str]:
    """Every line that a reader would type, without prompt and comment."""
    typed = [line for block in blocks(page, "console") for line in block.splitlines()]
    shown = any(line.startswith("$ ") for line in typed)
    for block in blocks(page, "console"):
        prompted = any(line.startswith("$ ") for line in block.splitlines())
        for line in block.splitlines():
            if not prompted or line.startswith("$ "):
                yield shlex.join(shlex.split(line.removeprefix("$ "), comments=True))
    assert typed
    assert shown == (page == "README.md")


def commands(page: str) -> Iterator[list[str]]:
    """The words of every single command, where && joins several."""
    for line in lines(page):
        for part in re.split(r" '?&&'? ", line):
            yield shlex.split(part)


COMMANDS = [pytest.param(words, id=f"{page}: {shlex.join(words)}") for page in PAGES if page != "FORMATS.md"
            for words in commands(page)]  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_line_can_be_typed(words: list[str], pytestconfig: pytest.Config) -> None:
    """Options, environments of tox and extras exist, and files of this repository that are named are there."""
    program = words[0].rpartition("/")[2]
    if program == "clip-eval":
        parse_clip_eval(words)
    elif program == "pytest":
        for word in words:
            if word.startswith("--clip-"):
                pytestconfig.getoption(word)
    elif program == "echo":
        assert words[1:] == ["$?"]
    else:
        assert program in ("python3", "pip"), words
    if "tox" in words and "-e" in words:
        environment = words[words.index("-e") + 1]
        assert environment == "py" or f"[testenv:{environment}]" in (ROOT / "tox.ini").read_text(encoding="utf-8")
    for extra in re.findall(r"\.\[(\w+)\]", " ".join(words)):
        assert extra in PROJECT["optional-dependencies"]
    assert [word for word in words if word.startswith("fixtures/") and not (ROOT / word).exists()] == []


CHEAP = [words for words in commands("README.md") if words[:2] in (["clip-eval", "checks"], ["clip-eval", "path"])]


@pytest.mark.parametrize("words", CHEAP, ids=shlex.join)
def test_a_cheap_command_does_what_it_says(run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    """Lines that judge no model are run as they stand."""
    monkeypatch.chdir(ROOT)
    ended = run(*words[1:])
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.parametrize("code", re.findall(r"`clip-eval ([^`]+)`", (ROOT / "README.md").read_text(encoding="utf-8")))
def test_a_command_in_the_text_can_be_typed(code: str) -> None:
    """Command lines in the running text are read by the option parser too."""
    parse_clip_eval(["clip-eval", *shlex.split(code)])


def test_every_option_of_gate_is_in_the_table() -> None:
    """The table of options has those that `gate` has; what the text above it shows needs no row."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    options = [param.opts[-1] for param in cli.commands["gate"].params if isinstance(param, click.Option)]
    assert [name for name in options if name != "--help" and name not in readme] == []
    rows = re.findall(r"^\| `(-[\w-]+)", readme, re.M)
    assert set(rows) <= set(options)


def calls(source: str) -> list[tuple[str, ast.Call]]:
    """The calls of the package's functions in a snippet."""
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [(node.func.attr, node) for node in found
            if isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "clip_eval"]  # fmt: skip


def test_the_python_snippets_call_what_there_is() -> None:
    """Every snippet compiles; its calls of the package name real functions and arguments."""
    snippets = blocks("README.md", "python")
    found = [call for snippet in snippets for call in calls(snippet)]
    assert found
    for name, call in found:
        arguments: dict[str, Any] = {str(keyword.arg): None for keyword in call.keywords}
        inspect.signature(getattr(clip_eval, name)).bind(*call.args, **arguments)


def test_the_ci_example_is_a_workflow() -> None:
    """The example is YAML with steps; its gate is a command line that the option parser reads."""
    (text,) = blocks("README.md", "yaml")
    steps = yaml.safe_load(text)["jobs"]["gate"]["steps"]
    gates = [shlex.split(step["run"]) for step in steps if step.get("run", "").startswith("clip-eval")]
    assert [words[1] for words in gates] == ["gate"]
    parse_clip_eval(gates[0])
    reports = gates[0][gates[0].index("--out") + 1]
    assert "GITHUB_STEP_SUMMARY" not in text, "the gate itself adds its summary"
    assert any(step.get("with", {}).get("path") == reports for step in steps)


def test_links_lead_somewhere() -> None:
    """Links to files of the repository, and to headings of them, are right."""
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", (ROOT / page).read_text(encoding="utf-8")):
            file, _, heading = target.partition("#")
            linked = (ROOT / page).parent / file
            assert linked.exists(), target
            if heading:
                titles = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.M)
                assert heading in [title.lower().replace(" ", "-") for title in titles], target


def test_the_suite_runs_in_a_clone_without_what_tests_need() -> None:
    """Pytest reads this folder's conftest.py for the suite's line, too, and `pip install .` brings no Hypothesis."""
    code = "import runpy, sys; sys.modules['hypothesis'] = None; runpy.run_path(sys.argv[1])"
    folder = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}
    subprocess.run([sys.executable, "-c", code, str(folder / "conftest.py")], env=environment, check=True)
