"""The declared checks: what the suite's source promises, and that its tolerances come from budgets."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import get_args

import pytest

from clip_eval.errors import UsageError
from clip_eval.run.declared_checks import SUITE, Case, check_id, declared_checks, explain_check, find_case, is_of_suite
from clip_eval.verdict.run_record import Scope

FILES = sorted(SUITE.rglob("test_*.py"), key=lambda path: path.name)
CHECKS = declared_checks()
TOLERANCES = {"atol", "rtol", "tol", "tolerance", "eps", "epsilon", "abs", "rel", "delta", "places", "margin"}


def functions(path: Path) -> list[ast.FunctionDef]:
    """The test functions of a suite file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def test_every_test_of_the_suite_is_declared() -> None:
    """The list of checks has every test function of every file, once, in order; tasks' are in tests/tasks."""
    files = [path for path in FILES if path.name != "test_tasks.py"]
    named = [check_id(path, node.name) for path in files for node in functions(path)]
    assert [check.id for check in CHECKS if check.scope != "tasks"] == named
    assert len({check.id for check in CHECKS}) == len(CHECKS)
    assert [check.chapter for check in CHECKS] == sorted(check.chapter for check in CHECKS)


def test_no_test_of_the_suite_is_hidden() -> None:
    """Tests are top-level functions: a test in a class or defined in a condition would escape the list."""
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        every = [node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
        assert sorted(name for name in every if name.startswith("test")) == sorted(
            node.name for node in functions(path)
        )
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name.startswith("Test")]


def test_needs_are_those_of_the_file_and_of_the_function() -> None:
    """What a check asks of a runtime is read from `pytestmark` and from its own marks; most ask for nothing more."""
    needs = {check.id: check.needs for check in CHECKS}
    assert needs["gradients.they_reach_every_weight"] == ("gradients", "objects")
    assert needs["hidden_states.attentions_are_the_softmax_maps"] == ("attention", "options")
    assert needs["contrastive_head.logits_are_symmetric"] == ()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_a_promise_is_one_sentence(check: object) -> None:
    """A check's docstring opens with one sentence that ends in a full stop and fits in a report's line or two."""
    promise = check.promise  # type: ignore[attr-defined]
    assert re.fullmatch(r"\S.*\.", promise), promise
    sentences = [part for part in re.split(r"(?<=[.!?])\s+(?=[A-Z])", promise) if part]
    assert len(sentences) == 1, sentences
    assert 20 <= len(promise) <= 200


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scopes_are_known(path: Path) -> None:
    """A chapter speaks for one of the scopes of a verdict, and a misspelt SCOPE is none."""
    assert {check.scope for check in CHECKS if check.chapter == path.stem.removeprefix("test_")} <= set(get_args(Scope))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets
             if isinstance(target, ast.Name)]  # fmt: skip
    assert not [name for name in names if name.upper() in ("SCOPE", "SCOPES") and name != "SCOPE"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_tolerances_come_from_budgets(path: Path) -> None:
    """No check states a tolerance: no keyword of that name, no number below 0.1, no closeness function of a library."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    keywords = {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)}
    assert not keywords & TOLERANCES
    numbers = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and type(node.value) is float]
    assert not [number for number in numbers if 0 < abs(number) < 0.1]
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not called & {"allclose", "isclose", "assert_allclose", "assert_close", "approx"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_check_judges_by_compare_alone(path: Path) -> None:
    """Every check asks for `compare` or `evidence`, or what is made of them; none is skipped or marked out of it."""
    for node in functions(path):
        arguments = {argument.arg for argument in node.args.args}
        assert arguments & {"compare", "evidence", "benchmark", "pixels"}, node.name
    source = path.read_text(encoding="utf-8")
    assert not re.search(r"pytest\.(skip|xfail|importorskip|mark\.(skip|skipif|xfail))\b", source)


def test_a_check_is_explained() -> None:
    """`explain_check` gives the promise, the reason behind it and the line it is defined at."""
    found = explain_check("contrastive_head.logits_are_symmetric")
    assert found.check.promise == "Logits per image are the exact transpose of logits per text."
    assert "one direction only" in " ".join(found.why.split())
    line = (SUITE / "numbers" / "test_contrastive_head.py").read_text(encoding="utf-8").splitlines()[found.line - 1]
    assert line.startswith("def test_logits_are_symmetric(")


def test_an_unknown_check_names_the_nearest() -> None:
    """A misspelt id is a usage error that names the nearest id."""
    with pytest.raises(UsageError, match=r"contrastive_head\.logits_are_symmetric"):
        explain_check("contrastive_head.logits_are_symetric")
    with pytest.raises(UsageError, match="clip-eval checks"):
        explain_check("?")


@pytest.mark.parametrize("folder", ["", "clip_eval/suite/", "../../site-packages/clip_eval/suite/"])
def test_a_case_is_found_by_file_and_test(folder: str) -> None:
    """A test's name gives check and case, whatever folders stand before the file; brackets inside a case stay."""
    check = explain_check("contrastive_head.logits_are_symmetric").check
    name = f"{folder}test_contrastive_head.py::test_logits_are_symmetric"
    assert find_case(name) == Case(check, None)
    assert find_case(f"{name}[none]") == Case(check, "none")
    assert find_case(f"{name}[a[0]-b::c]") == Case(check, "a[0]-b::c")


@pytest.mark.parametrize(
    "name", ["test_other.py::test_logits_are_symmetric", "test_contrastive_head.py::test_other", "", "::", "nothing"]
)
def test_other_tests_are_no_case(name: str) -> None:
    """A name that no check is declared by is none."""
    assert find_case(name) is None


def test_a_file_is_of_the_suite_by_its_place(tmp_path: Path) -> None:
    """The suite's files are its own by any link; a file of the same name elsewhere is not."""
    (tmp_path / "link").symlink_to(SUITE)
    assert is_of_suite(FILES[0])
    assert is_of_suite(tmp_path / "link" / FILES[0].name)
    assert not is_of_suite(tmp_path / FILES[0].name)


def test_promises_are_read_from_docstrings() -> None:
    """What a list shows of a check is its docstring's first paragraph, on one line."""
    from clip_eval.suite.numbers import test_contrastive_head

    documented = inspect.getdoc(test_contrastive_head.test_loss_is_the_mean_of_both_cross_entropies)
    assert documented is not None
    first = " ".join(documented.partition("\n\n")[0].split())
    assert explain_check("contrastive_head.loss_is_the_mean_of_both_cross_entropies").check.promise == first
