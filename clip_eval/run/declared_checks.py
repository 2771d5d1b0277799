"""The declared checks, read from the suite's source: what a run must account for, whatever pytest collected.

A check is a test function in `clip_eval/suite/*/test_<chapter>.py`. Its id is `chapter.name`, the first sentence of its
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
from clip_eval.verdict.decide import DeclaredCheck
from clip_eval.verdict.run_record import Scope

__all__ = [
    "SUITE",
    "Case",
    "Explained",
    "check_id",
    "declared_checks",
    "explain_check",
    "find_case",
    "find_checks",
    "is_of_suite",
    "nearest_checks",
]

SUITE = Path(__file__).parents[1] / "suite"

_NAMED_AT_MOST = 5


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


def find_checks(wanted: str) -> tuple[DeclaredCheck, ...]:
    """Return the checks that a user may mean by `wanted`, at least one, in file order.

    Args:
        wanted: an id, with or without a case; a chapter; the end or another part of an id; or what pytest prints,
            such as test_masks.py::test_padding[left].

    Raises:
        UsageError: nothing is called so; the nearest ids are named.
    """
    word = _as_id(wanted)
    ids = _by_id()
    if word in ids:
        return (ids[word],)
    for fits in (_is_chapter, _ends_so, _holds):
        if found := tuple(check for check in ids.values() if fits(check, word)):
            return found
    near = nearest_checks(word)
    hint = f"The nearest is {', '.join(near)}" if near else "`clip-eval checks` lists them"
    raise UsageError("there is no such check", where=wanted, fix=hint)


def explain_check(wanted: str) -> Explained:
    """Return the one check that `wanted` names, as `find_checks` reads it.

    Raises:
        UsageError: there is no such check, or several are meant; ids are named.
    """
    found = find_checks(wanted)
    if len(found) > 1:
        ids = ", ".join(check.id for check in found[:_NAMED_AT_MOST])
        more = f" and {len(found) - _NAMED_AT_MOST} more" if len(found) > _NAMED_AT_MOST else ""
        raise UsageError(f"{len(found)} checks are called so", where=wanted, fix=f"Name one of {ids}{more}")
    return next(entry for entry in _explained() if entry.check == found[0])


def nearest_checks(word: str) -> tuple[str, ...]:
    """Return the ids or chapters that a misspelt id, name of a check or chapter is nearest to; few or none."""
    checks = declared_checks()
    known = {check.chapter: check.chapter for check in checks}
    known |= {name: check.id for check in checks for name in (check.id.partition(".")[2], check.id)}
    near = difflib.get_close_matches(_as_id(word), known, n=2, cutoff=0.6)
    return tuple(dict.fromkeys(known[name] for name in near))


def _as_id(wanted: str) -> str:
    """What pytest prints of a test as the id of its check; another text as it is, in lower case."""
    file, _, test = wanted.strip().lower().rpartition("::")
    name = test.partition("[")[0].removeprefix("test_")
    return f"{Path(file).stem.removeprefix('test_')}.{name}" if file else name.removesuffix(".py")


def _is_chapter(check: DeclaredCheck, word: str) -> bool:
    return check.chapter == word


def _ends_so(check: DeclaredCheck, word: str) -> bool:
    return check.id.endswith((f".{word}", f"_{word}"))


def _holds(check: DeclaredCheck, word: str) -> bool:
    return bool(word) and word in check.id


def check_id(path: Path, function: str) -> str:
    """Return the id of test `function` in suite file `path`."""
    return f"{path.stem.removeprefix('test_')}.{function.removeprefix('test_')}"


@cache
def is_of_suite(path: Path) -> bool:
    """Say whether a test file is one of the suite's own, whatever link it is reached by."""
    return path.resolve().is_relative_to(SUITE.resolve())


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
    return tuple(
        entry for path in sorted(SUITE.rglob("test_*.py"), key=lambda path: path.name) for entry in _of_file(path)
    )


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
