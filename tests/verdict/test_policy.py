"""Policies: what a file may ask, and every reason to refuse one, with its line."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from clip_eval.errors import UsageError
from clip_eval.verdict.policy import Policy, Threshold, Warned, project_policy, read_policy

EXPIRES = "expires = 2027-01-31"


def written(directory: Path, text: str, name: str = "policy.toml") -> Path:
    """Write a policy."""
    file = directory / name
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        (
            'require = ["tasks", "throughput"]\n[throughput]\nleast_efficiency = 0.6\n',
            Policy(require=("tasks", "throughput"), least_efficiency=0.6),
        ),
        ('require = ["tasks"]', Policy(require=("tasks",))),
        ('warn = ["surface", "tasks", "throughput"]', Policy(warn=("surface", "tasks", "throughput"))),
        ("[throughput]\nleast_efficiency = 1", Policy(least_efficiency=1.0)),
        ('[surface]\nuses = ["CLIPModel"]', Policy(uses=("CLIPModel",))),
        ("[tasks.a_top1]\nleast = 1\nmost = 2", Policy(tasks={"a_top1": Threshold(least=1.0, most=2.0)})),
        (
            '[tasks]\na_b = {most_loss = -0.01, most_relative_loss = 0.1, by = "score", warn = true}',
            Policy(tasks={"a_b": Threshold(most_loss=-0.01, most_relative_loss=0.1, by="score", warn=True)}),
        ),
        (
            f'[[warned]]\ncheck = "a.b[c]"\nreason = "known"\n{EXPIRES}\n[[warned]]\ncause = "d"\nreason = "e"',
            Policy(
                warned=(
                    Warned(key="check", name="a.b[c]", reason="known", expires=date(2027, 1, 31)),
                    Warned(key="cause", name="d", reason="e"),
                )
            ),
        ),
    ],
)
def test_a_policy_says_what_is_asked(tmp_path: Path, text: str, policy: Policy) -> None:
    """Each part alone is enough, in a file of its own and in a pyproject.toml; the record tells where it stands."""
    file = written(tmp_path, text)
    read = read_policy(file)
    assert read == policy
    assert read.info is not None
    assert read.info.source == str(file)
    table = re.sub(r"^(\[+)(?=[a-z])", r"\1tool.clip-eval.", text, flags=re.M)
    inside = written(tmp_path, f"[tool.clip-eval]\n{table}", "pyproject.toml")
    assert read_policy(inside) == policy
    assert project_policy(tmp_path) == inside


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", None, "is empty"),
        ("require = []", None, "is empty"),
        ("require = [", None, "not TOML"),
        ('\nrequire = "tasks"', 2, "not a list"),
        (
            'require = [\n  "tasks",\n  "speed",\n]',
            1,
            "'speed', and the scopes are contract, baseline, tasks, throughput",
        ),
        ("[throughput]\nleast = 1", 2, "unknown key in [throughput], 'least'.* nearest is least_efficiency"),
        ("throughput = 1", 1, "throughput, which is a table"),
        ("[throughput]\nleast_efficiency = 0", 2, "least_efficiency 0"),
        ("[throughput]\nleast_efficiency = true", 2, "least_efficiency True"),
        ("[throughput]\nleast_efficiency = nan", 2, "least_efficiency nan"),
        ('[throughput]\nleast_efficiency = "1"', 2, "least_efficiency '1'"),
        ("[surface]\nuses = []", None, "is empty"),
        ('[surface]\nuses = "CLIPModel"', 2, "uses 'CLIPModel'"),
        ('[surface]\nuses = ["", "CLIPModel"]', 2, "uses"),
        ("[surface]\nunused = []", 2, "unknown key in [surface], 'unused'"),
        ('require = ["tasks"]\nforbid = 1', 2, "an unknown key, 'forbid'"),
        ('warn = "tasks"', 1, "not a list"),
        ('warn = ["contract"]', 1, "cannot let 'contract' warn.*blocks always"),
        ('warn = ["baseline"]', 1, "cannot let 'baseline' warn"),
        ("tasks = 1", 1, "tasks, which is a table"),
        ("[tasks]\na_b = 1", 2, "a_b, which is a table"),
        ("[tasks.a_b]\nby = 'score'", 1, "asks nothing of 'a_b'"),
        ("[tasks.a_b]\nleast = 1\nleast_change = 1", 3, "unknown key in [tasks], 'least_change'"),
        ("[tasks.a_b]\nleast = true", 2, "True for least"),
        ("[tasks.a_b]\nmost = inf", 2, "inf for most"),
        ("[tasks.a_b]\nleast = 1\nby = 1", 3, "1 for by"),
        ("[tasks.a_b]\nleast = 1\nwarn = 1", 3, "1 for warn"),
        ("warned = 1", 1, "not [[warned]] tables"),
        ("[[warned]]\nreason = 'x'", 1, "without one of check, cause and area"),
        ("[[warned]]\ncheck = 'x'\ncause = 'x'\nreason = 'x'", 1, "without one of check, cause and area"),
        (f"[[warned]]\ncheck = 'x'\n{EXPIRES}", 1, "reason is missing"),
        (f"[[warned]]\ncheck = 'x'\nreason = ' '\n{EXPIRES}", 3, "reason is empty"),
        ("[[warned]]\ncheck = 'x'\nreason = 'y'", 1, "'x' warn without an end"),
        ("[[warned]]\ncheck = 'x'\nreason = 'y'\nexpires = '2027-01-31'", 4, "expires at '2027-01-31'"),
        ("[[warned]]\ncause = 'x'\nreason = 'y'\n\n[[warned]]\narea = 1\nreason = 'y'", 6, "area is not a text"),
    ],
)
def test_what_is_no_policy_is_refused(tmp_path: Path, text: str, line: int | None, said: str) -> None:
    """A policy that is empty, or has an unknown key or value, is refused with file and line."""
    with pytest.raises(UsageError, match=said.replace("[", r"\[").replace("]", r"\]")) as refused:
        read_policy(written(tmp_path, text))
    assert str(tmp_path) in str(refused.value)
    assert (f", line {line}." in str(refused.value)) == (line is not None)


def test_a_missing_policy_is_refused(tmp_path: Path) -> None:
    """A policy that was named and is not there is a usage error."""
    with pytest.raises(UsageError, match="cannot be read"):
        read_policy(tmp_path / "none.toml")


def test_a_line_of_a_project(tmp_path: Path) -> None:
    """In a pyproject.toml the line is the file's, and what stands beside the table does not count."""
    file = written(tmp_path, '[tool.ruff]\nwarn = 3\n\n[tool.clip-eval]\nwarn = ["contract"]\n', "pyproject.toml")
    with pytest.raises(UsageError, match=r"pyproject\.toml, line 5"):
        read_policy(file)


@pytest.mark.parametrize("text", ["", "[project]\ndependencies = ['clip-eval']", "[tool]\nclip-eval-x = 1"])
def test_a_project_without_a_policy(tmp_path: Path, text: str) -> None:
    """A pyproject.toml without the table is none, and refused where it is named."""
    file = written(tmp_path, text, "pyproject.toml")
    assert project_policy(tmp_path) is None
    with pytest.raises(UsageError, match="holds no policy"):
        read_policy(file)
    assert project_policy(tmp_path / "elsewhere") is None


def test_a_broken_project_that_speaks_of_it_is_refused(tmp_path: Path) -> None:
    """A policy that may stand there is not passed over; a broken project without one is not this program's matter."""
    file = written(tmp_path, "[tool.clip-eval]\nwarn = [", "pyproject.toml")
    with pytest.raises(UsageError, match="not TOML"):
        project_policy(tmp_path)
    file.write_text("[tool.ruff", encoding="utf-8")
    assert project_policy(tmp_path) is None


def test_days_are_texts_in_the_record(tmp_path: Path) -> None:
    """The record holds the rules as JSON can."""
    info = read_policy(written(tmp_path, f"[[warned]]\ncheck = 'a.b'\nreason = 'c'\n{EXPIRES}")).info
    assert info is not None
    assert info.rules == {"warned": ({"check": "a.b", "expires": "2027-01-31", "reason": "c"},)}
