"""Imports point down only: the layers of the package, and what may be loaded at import."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import clip_eval

ROOT = Path(clip_eval.__file__).parent
ORDER: tuple[str, ...] = (
    *("__main__", "__init__", "cli", "plugin", "api"),
    *("suite", "run", "evaluation", "history", "tasks", "baseline", "embedding", "throughput"),
    *("subject", "report", "oracle", "probes"),
    *("verdict", "checkpoint", "families", "dataset", "paths"),
    *("processes", "progress", "files", "user_values", "nearest", "errors", "version"),
)
"""Highest first. A package imports from those after it, and from itself."""

ALONE = ("paths", "errors", "version")
REFERENCE = ("families", "oracle.preprocessing")
REFERENCE_MAY_IMPORT = {"checkpoint", "errors", "families", "files"}
MAY_LOAD_TORCH = {"checkpoint._unpickle", "families.clip.plain_forward", "throughput"}
"""A program of its own, and modules of torch, which are imported when they are timed."""

HEAVY = {"torch", "transformers", "numpy"}


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement of the package.

    Attributes:
        importer: dotted module that imports, without the package's name.
        imported: dotted module it names: in full, whether of this package or not.
        at_load: outside of functions and of `if TYPE_CHECKING`.
        for_types: inside of `if TYPE_CHECKING`.
    """

    importer: str
    imported: str
    at_load: bool
    for_types: bool

    @property
    def own(self) -> str | None:
        """The module or package of this project that is imported, by its first name; None for another library's."""
        head, _, rest = self.imported.partition(".")
        return None if head != "clip_eval" else rest.partition(".")[0] or "__init__"


def modules() -> dict[str, Path]:
    """Every module by dotted name without the package's; a package by its own name."""
    names = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)] = path
    return names


def imports(module: str, path: Path) -> Iterator[Import]:
    """The import statements of a module, in order."""
    yield from _imports(module, ast.parse(path.read_text(encoding="utf-8")), at_load=True, for_types=False)


def _imports(module: str, node: ast.AST, *, at_load: bool, for_types: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        inner = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        typing = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        for name in _named(child):
            yield Import(module, name, at_load, for_types)
        yield from _imports(module, child, at_load=at_load and not inner and not typing, for_types=for_types or typing)


def _named(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        known = {f"clip_eval.{name}" for name in MODULES}
        full = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in known else str(node.module) for name in full]
    return []


MODULES = modules()
IMPORTS = [entry for module, path in MODULES.items() for entry in imports(module, path)]
BY_MODULE = {module: [entry for entry in IMPORTS if entry.importer == module] for module in MODULES}


def test_every_package_has_its_place() -> None:
    """Each module and package of the top folder stands in the order once, and nothing else does."""
    assert sorted(ORDER) == sorted({module.partition(".")[0] for module in MODULES})


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    """A package imports from later ones only: in functions and for type checkers, too."""
    assert not list(upward(BY_MODULE[module]))


def upward(entries: Iterable[Import]) -> Iterator[Import]:
    """The imports that name an earlier package than the one they stand in."""
    for entry in entries:
        own = entry.importer.partition(".")[0]
        if entry.own not in (None, own) and ORDER.index(str(entry.own)) <= ORDER.index(own):
            yield entry


def test_there_are_no_circles() -> None:
    """No chain of imports leads back to where it began, inside of packages and in functions either."""
    circle_free(IMPORTS)


def circle_free(entries: Iterable[Import]) -> None:
    """Raises CycleError where imports lead back; those for type checkers load nothing."""
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for entry in entries:
        target = entry.imported.removeprefix("clip_eval").removeprefix(".") or "__init__"
        if entry.own is not None and not entry.for_types and target != entry.importer:
            graph[entry.importer].add(target)
    TopologicalSorter(graph).prepare()


PLANTED = {
    "at the top": "from clip_eval.run.session import Session",
    "in a function": "def late():\n    from clip_eval.run.session import Session",
    "for type checkers": "if TYPE_CHECKING:\n    from clip_eval.run.session import Session",
    "of the package itself": "from clip_eval import gate",
}


@pytest.mark.parametrize("code", PLANTED.values(), ids=PLANTED)
def test_a_planted_import_that_points_up_is_seen(code: str) -> None:
    """The rule sees each way to write an import."""
    assert list(upward(_imports("families.reference.encoder", ast.parse(code), at_load=True, for_types=False)))


def test_a_planted_circle_is_seen() -> None:
    """Two modules of one package that import each other, one of them in a function, are a circle."""
    there = _imports(
        "paths.fields", ast.parse("from clip_eval.paths.lint import Linter"), at_load=True, for_types=False
    )
    back = ast.parse("def late():\n    from clip_eval.paths.fields import ID")
    with pytest.raises(CycleError):
        circle_free([*there, *_imports("paths.lint", back, at_load=True, for_types=False)])


@pytest.mark.parametrize("name", ALONE)
def test_what_stands_alone_imports_nothing_of_the_package(name: str) -> None:
    """Path templates, errors and the version import nothing of the package but themselves."""
    for module in MODULES:
        if module.partition(".")[0] == name:
            assert {entry.own for entry in BY_MODULE[module]} <= {None, name}, module


def test_the_oracle_is_independent() -> None:
    """The references name only each other, checkpoint, files and errors; neither they nor the oracle torch or
    transformers.
    """
    for entry in IMPORTS:
        if entry.importer.startswith(REFERENCE):
            assert entry.own in {None, "oracle"} | REFERENCE_MAY_IMPORT, entry
        package = entry.importer.partition(".")[0]
        if package in ("families", "oracle") and entry.importer not in MAY_LOAD_TORCH:
            assert entry.imported.partition(".")[0] not in ("torch", "transformers", "tokenizers"), entry


def reached_at_load(module: str) -> set[str]:
    """Modules of the package that importing `module` loads, packages on the way included."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in MODULES and name not in found:
            found.add(name)
            waiting += [name.rpartition(".")[0]] if "." in name else []
            waiting += [
                entry.imported.removeprefix("clip_eval.")
                for entry in BY_MODULE[name]
                if entry.at_load and entry.own is not None
            ]
    return found


def loaded_libraries(module: str) -> set[str]:
    """Other libraries that importing `module` loads, by their first names."""
    named = {
        entry.imported.partition(".")[0]
        for name in reached_at_load(module)
        for entry in BY_MODULE[name]
        if entry.at_load and entry.own is None
    }
    return named - {"__future__"}


@pytest.mark.parametrize(
    "module",
    ["__init__", "plugin", "suite", "verdict.run_record", "verdict.decide", "report", "cli", "run.declared_checks"],
)
def test_nothing_heavy_is_loaded_with_it(module: str) -> None:
    """Importing the module loads neither torch nor transformers nor NumPy, directly or through others."""
    assert not loaded_libraries(module) & HEAVY


@pytest.mark.parametrize(
    "module", [module for module in MODULES if not {module, module.partition(".")[0]} & MAY_LOAD_TORCH]
)
def test_torch_is_not_loaded_with_it(module: str) -> None:
    """Importing the module loads neither torch nor transformers: collecting the suite is quick."""
    assert not loaded_libraries(module) & {"torch", "transformers"}


def test_nothing_depends_on_the_process() -> None:
    """`hash` gives the same bytes another number in each process, and two runs of one candidate are to be equal."""
    asked = [
        module
        for module, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hash"
    ]
    assert asked == []
