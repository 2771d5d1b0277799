"""The declared checks, read from the suite's source: a run must account for all of them, whatever pytest collected.

A check is a test function in `clip_eval/suite/*/test_<chapter>.py`. Its id is `chapter.name`, the first sentence of its
docstring its promise, the rest says why it matters. A module's `SCOPE` (default "contract") is the scope of its checks,
`needs` marks of module and function are what they need of the runtime. A test of `test_tasks.py` is one check of each
task, with the task's name as chapter. Reading source instead of importing keeps torch out of listings and makes
deselection visible.
"""

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Iterator
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
    "primary_scores",
    "task_check_id",
]

SUITE = Path(__file__).parents[1] / "suite"

_TASKS = Path(__file__).parents[1] / "tasks"
_FOR_EACH_TASK = "test_tasks.py"

_NAMED_AT_MOST = 5


@dataclass(frozen=True, slots=True)
class Explained:
    """A declared check with the rest of its docstring and the line it starts at."""

    check: DeclaredCheck
    why: str
    line: int


@dataclass(frozen=True, slots=True)
class Case:
    """One test of the suite: a declared check and, if parametrised, its case."""

    check: DeclaredCheck
    case: str | None = None


@cache
def declared_checks() -> tuple[DeclaredCheck, ...]:
    """Return every check of the suite in file order, chapters by name."""
    return tuple(entry.check for entry in _explained())


@cache
def primary_scores() -> dict[str, str]:
    """Return each task with the name that its judged score has in run records."""
    return {task["name"]: f"{task['name']}_{task['primary']}" for task in _tasks()}


def find_checks(wanted: str) -> tuple[DeclaredCheck, ...]:
    """Return the checks that a user may mean by `wanted`, at least one, in file order.

    Args:
        wanted: an id, with or without a case; a chapter; the end or another part of an id; or what pytest prints,
            such as test_masks.py::test_padding[left].

    Raises:
        UsageError: nothing has that name; the message has the nearest ids.
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
    raise UsageError("no check has that name", where=wanted, fix=hint)


def explain_check(wanted: str) -> Explained:
    """Return the one check that `wanted` names, as `find_checks` reads it.

    Raises:
        UsageError: none or several match; the message has ids.
    """
    matching = find_checks(wanted)
    if len(matching) > 1:
        ids = ", ".join(check.id for check in matching[:_NAMED_AT_MOST])
        more = f" and {len(matching) - _NAMED_AT_MOST} more" if len(matching) > _NAMED_AT_MOST else ""
        raise UsageError(f"{len(matching)} checks have that name", where=wanted, fix=f"Name one of {ids}{more}")
    return next(entry for entry in _explained() if entry.check == matching[0])


def nearest_checks(word: str) -> tuple[str, ...]:
    """Return the few ids or chapters nearest to a misspelt id, check name or chapter; maybe none."""
    checks = declared_checks()
    known = {check.chapter: check.chapter for check in checks}
    known |= {name: check.id for check in checks for name in (check.id.partition(".")[2], check.id)}
    near = difflib.get_close_matches(_as_id(word), known, n=2, cutoff=0.6)
    return tuple(dict.fromkeys(known[name] for name in near))


def _as_id(wanted: str) -> str:
    """The check id of a test as pytest prints it; other text in lower case."""
    file, _, test = wanted.strip().lower().rpartition("::")
    if Path(file).name == _FOR_EACH_TASK and "[" in test:
        return test.partition("[")[2].removesuffix("]")
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


def task_check_id(function: str, task: str, score: str) -> str:
    """Return the id of the check of one task that test `function` of test_tasks.py is; it is also the test's case.

    Args:
        function: its name, in which "score" stands for the primary score.
        task: its name.
        score: name of its primary score.
    """
    return f"{task}.{function.removeprefix('test_').replace('score', score, 1)}"


@cache
def is_of_suite(path: Path) -> bool:
    """Return whether a test file is one of the suite's own, links resolved."""
    return path.resolve().is_relative_to(SUITE.resolve())


def find_case(name: str) -> Case | None:
    """Return the case that FILE::FUNCTION or FILE::FUNCTION[CASE] names; None if that check is not declared.

    Args:
        name: FILE may have folders in front, which do not count.
    """
    file, _, test = name.partition("::")
    function, bracket, case = test.partition("[")
    if Path(file).name == _FOR_EACH_TASK:
        check = _by_id().get(case.removesuffix("]"))
        return None if check is None else Case(check)
    check = _by_id().get(check_id(Path(file), function))
    return None if check is None else Case(check, case.removesuffix("]") if bracket else None)


@cache
def _by_id() -> dict[str, DeclaredCheck]:
    return {check.id: check for check in declared_checks()}


@cache
def _explained() -> tuple[Explained, ...]:
    explained = [entry for path in SUITE.rglob("test_*.py") for entry in _of_file(path)]
    return tuple(
        sorted(explained, key=lambda entry: entry.check.chapter)
    )  # stable: checks of a chapter keep their order


def _of_file(path: Path) -> Iterator[Explained]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tests = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    scope, needs = _scope(tree), _module_needs(tree)
    if path.name != _FOR_EACH_TASK:
        yield from (_explain(check_id(path, node.name), node, scope, needs) for node in tests)
        return
    for task in _tasks():
        for node in tests:
            identity = task_check_id(node.name, task["name"], task["primary"])
            yield _explain(identity, node, scope, needs, claim=task["claim"])


def _explain(
    identity: str, node: ast.FunctionDef, scope: Scope, needs: tuple[str, ...], *, claim: str = ""
) -> Explained:
    promise, _, why = inspect.cleandoc(ast.get_docstring(node) or "").partition("\n\n")
    own = (name for decorator in node.decorator_list for name in _needs(decorator))
    check = DeclaredCheck(
        id=identity,
        chapter=identity.partition(".")[0],
        scope=scope,
        promise=" ".join(promise.split()).replace("{claim}", claim),
        needs=tuple(sorted({*needs, *own})),
    )
    return Explained(check, why, node.lineno)


def _module_needs(tree: ast.Module) -> tuple[str, ...]:
    """The names of `pytestmark = pytest.mark.needs(...)`, alone or in a list."""
    assigned = (node for node in tree.body if isinstance(node, ast.Assign))
    values = (node.value for node in assigned if any(ast.unparse(target) == "pytestmark" for target in node.targets))
    marks = (mark for value in values for mark in (value.elts if isinstance(value, ast.List) else [value]))
    return tuple(name for mark in marks for name in _needs(mark))


def _needs(mark: ast.expr) -> list[str]:
    """The names in `pytest.mark.needs(...)`; empty for another expression."""
    if not isinstance(mark, ast.Call) or ast.unparse(mark.func) != "pytest.mark.needs":
        return []
    return [ast.literal_eval(name) for name in mark.args]


def _tasks() -> Iterator[dict[str, str]]:
    """The string arguments of each `TASK = Task(...)` in the package of tasks, by keyword."""
    for path in sorted(_TASKS.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TASK":
                assert isinstance(node.value, ast.Call), path
                texts = (keyword for keyword in node.value.keywords if isinstance(keyword.value, ast.Constant))
                yield {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in texts}


def _scope(tree: ast.Module) -> Scope:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "SCOPE" for t in node.targets):
            scope: Scope = ast.literal_eval(node.value)
            return scope
    return "contract"
