"""The declared checks, read from the suite's source: what a run must account for, whatever pytest collected.

A check is a test function in `clip_eval/suite/test_<chapter>.py`. Its id is `chapter.name`, the first sentence of its
docstring its promise, the rest says why it matters. A module's `SCOPE` (default "contract") says what its checks
speak for. Reading source instead of importing keeps torch out of listings and makes deselection visible.
"""

from __future__ import annotations

import ast
import difflib
import inspect
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from clip_eval.errors import UsageError
from clip_eval.run_record import Scope
from clip_eval.verdict import DeclaredCheck

__all__ = ["SUITE", "Case", "Explained", "check_id", "declared_checks", "explain_check", "find_case", "is_of_suite"]

SUITE = Path(__file__).parent / "suite"


@dataclass(frozen=True, slots=True)
class Explained:
    """A declared check with the rest of its docstring and the line it starts at."""

    check: DeclaredCheck
    why: str
    line: int


@dataclass(frozen=True, slots=True)
class Case:
    """One test of the suite: a declared check and, where that is parametrised, the case of it."""

    check: DeclaredCheck
    case: str | None = None


@cache
def declared_checks() -> tuple[DeclaredCheck, ...]:
    """Return every check of the suite in file order, chapters by name."""
    return tuple(entry.check for entry in _explained())


def explain_check(wanted: str) -> Explained:
    """Return the check with id `wanted`.

    Raises:
        UsageError: there is no such check; the nearest id is named.
    """
    found = {entry.check.id: entry for entry in _explained()}
    if wanted not in found:
        near = difflib.get_close_matches(wanted, found, n=1, cutoff=0.3)
        hint = f"The nearest is {near[0]}" if near else "`clip-eval checks` lists them"
        raise UsageError("there is no such check", where=wanted, fix=hint)
    return found[wanted]


def check_id(path: Path, function: str) -> str:
    """Return the id of test `function` in suite file `path`."""
    return f"{path.stem.removeprefix('test_')}.{function.removeprefix('test_')}"


def is_of_suite(path: Path) -> bool:
    """Say whether a test file is one of the suite's own, whatever link it is reached by."""
    return path.parent.resolve() == SUITE.resolve()


def find_case(name: str) -> Case | None:
    """Return the case that FILE::FUNCTION or FILE::FUNCTION[CASE] names; None where no such check is declared.

    Args:
        name: FILE may have folders in front, which do not count.
    """
    file, _, test = name.partition("::")
    function, bracket, case = test.partition("[")
    check = _by_id().get(check_id(Path(file), function))
    return None if check is None else Case(check, case.removesuffix("]") if bracket else None)


@cache
def _by_id() -> dict[str, DeclaredCheck]:
    return {check.id: check for check in declared_checks()}


@cache
def _explained() -> tuple[Explained, ...]:
    return tuple(entry for path in sorted(SUITE.glob("test_*.py")) for entry in _of_file(path))


def _of_file(path: Path) -> list[Explained]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    scope = _scope(tree)
    return [
        _explain(path, node, scope)
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def _explain(path: Path, node: ast.FunctionDef, scope: Scope) -> Explained:
    promise, _, why = inspect.cleandoc(ast.get_docstring(node) or "").partition("\n\n")
    identity = check_id(path, node.name)
    chapter = identity.partition(".")[0]
    check = DeclaredCheck(id=identity, chapter=chapter, scope=scope, promise=" ".join(promise.split()))
    return Explained(check, why, node.lineno)


def _scope(tree: ast.Module) -> Scope:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "SCOPE" for t in node.targets):
            scope: Scope = ast.literal_eval(node.value)
            return scope
    return "contract"
