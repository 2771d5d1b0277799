"""The `-k` option: pytest's keywords of a check, and its id. An expression that matches nothing is a usage error before
anything is loaded.

The module is also a pytest plugin: it makes a check's id one of its keywords.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Generator

import pytest

from clip_eval.errors import UsageError
from clip_eval.processes import child_environment
from clip_eval.run.declared_checks import SUITE, declared_checks, find_case, is_of_suite, nearest_checks

__all__ = ["nothing_matches", "require_match"]

_WORD = re.compile(r"[\w.\[\]/+-]+")
_OPERATORS = ("and", "or", "not")
_NOTHING_SELECTED, _USAGE_ERROR = 5, 4


def require_match(keyword: str | None) -> None:
    """Raise unless an expression selects a check.

    A single word that is part of a check's name does. For anything else, cases included, pytest collects the suite in a
    process of its own, which takes a few seconds.

    Args:
        keyword: the value of -k; None if not given.

    Raises:
        UsageError: it selects nothing (the message has the nearest checks), or pytest cannot parse it.
    """
    if keyword is None or (_WORD.fullmatch(keyword) and keyword not in _OPERATORS and _is_part_of_a_name(keyword)):
        return
    command = [
        sys.executable, "-m", "pytest", str(SUITE), "-c", str(SUITE / "gate.ini"), "--rootdir",
        str(SUITE.parent.parent), "--noconftest", "--import-mode=importlib", "-p", "no:cacheprovider",
        "-p", "clip_eval.run.keywords", "-p", "pytest_benchmark.plugin", "--assert=plain", "--collect-only",
        "-k", keyword,
    ]  # fmt: skip
    environment = {**child_environment(), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with tempfile.TemporaryDirectory(prefix="clip-eval-") as empty:
        done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == _NOTHING_SELECTED:
        raise nothing_matches(keyword)
    if done.returncode == _USAGE_ERROR:
        raise UsageError(" ".join(done.stderr.split()).removeprefix("ERROR: "), fix="Correct the expression")


def nothing_matches(keyword: str) -> UsageError:
    """Return the error of an expression that selects no check, with the nearest checks."""
    words = [word for word in _WORD.findall(keyword) if word not in _OPERATORS and not _is_part_of_a_name(word)]
    near = [name for word in words for name in nearest_checks(word)]
    hint = f"The nearest is {', '.join(dict.fromkeys(near))}" if near else "`clip-eval checks` lists them"
    return UsageError("-k matches no check", where=keyword, fix=hint)


def _is_part_of_a_name(word: str) -> bool:
    ids = (check.id.lower() for check in declared_checks())
    return any(word.lower() in name or word.lower() in f"test_{name.partition('.')[2]}" for name in ids)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Add a check's id, with its case if it has one, and the name of its test as keywords."""
    if is_of_suite(item.path) and (case := find_case(f"{item.path.name}::{item.name}")):
        item.extra_keyword_matches.add(case.check.id + (f"[{case.case}]" if case.case else ""))
        item.extra_keyword_matches.add(f"test_{case.check.id.partition('.')[2]}")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    """Raise if checks were collected and -k deselects everything."""
    before = any(is_of_suite(item.path) for item in items)
    result = yield
    alone = not hasattr(config, "workerinput")  # a worker of xdist cannot end the run
    if (
        before
        and not items
        and alone
        and not config.option.collectonly
        and (keyword := str(config.option.keyword).strip())
    ):
        raise pytest.UsageError(str(nothing_matches(keyword)))
    return result
