"""Imports point down only: the layers of the package, and what may be loaded at import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import clip_eval

ROOT = Path(clip_eval.__file__).parent
LAYERS: tuple[frozenset[str], ...] = tuple(
    frozenset(layer.split())
    for layer in (
        "__init__ _unpickle budgets children deviations display errors foreign hard_texts leaving measurement nearest "
        "paths progress schemas",
        "compare config files hub interpreters machine run_record settings speeds tensor_names tensors",
        "causes",
        "acceptances fingerprints inventory library option_values oracle places policy reasons run_folder",
        "edge_images probes processor_files report rounding verdict",
        "checkpoint",
        "recomputed teacher",
        "calling checks classified convert expect slope subject watched",
        "forcing observe outcomes",
        "looks pixel_settings token_routes",
        "baseline localise repro tasks throughput",
        "session small_model",
        "hermetic keywords provenance suite",
        "approval benching following recorder",
        "api bench_command path_commands",
        "cli plugin",
        "__main__",
    )
)
"""Lowest first. A module or package may import from lower layers and, where it is a package, from itself.

What `clip_eval/__init__.py` loads in a function is no import of its layer: it hands out `api` to those who ask.
"""

NOTHING_OF_THE_PACKAGE = (
    *("_unpickle", "budgets", "deviations", "errors", "foreign", "hard_texts", "leaving", "measurement", "nearest"),
    *("paths", "schemas", "children", "progress"),
)
ORACLE_MAY_IMPORT = {"config", "errors", "files", "foreign"}
MAY_LOAD_TORCH = {"_unpickle", "benching", "throughput"}
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
IMPORTS = [
    entry
    for module, path in MODULES.items()
    for entry in imports(module, path)
    if module != "__init__" or entry.at_load
]
BY_MODULE = {module: [entry for entry in IMPORTS if entry.importer == module] for module in MODULES}


def layer_of(name: str) -> int:
    """The layer of a module or package, by its first name."""
    found = [level for level, names in enumerate(LAYERS) if name in names]
    assert len(found) == 1, f"{name} is in {len(found)} layers: name its place in LAYERS"
    return found[0]


def test_every_module_has_one_layer() -> None:
    """Each module and package is in exactly one layer, and every name in a layer exists."""
    found = {module.partition(".")[0] for module in MODULES}
    assert found == frozenset().union(*LAYERS)
    assert sum(map(len, LAYERS)) == len(found)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    """A module imports from lower layers only, in functions too; a package's parts import each other."""
    own = module.partition(".")[0]
    for entry in BY_MODULE[module]:
        if entry.own is not None and entry.own != own and not entry.for_types:
            assert layer_of(entry.own) < layer_of(own), f"{module} imports {entry.imported}"


def test_there_are_no_cycles() -> None:
    """No chain of imports leads back, inside of packages either, nor through imports in functions."""
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for entry in IMPORTS:
        target = entry.imported.removeprefix("clip_eval").removeprefix(".") or "__init__"
        if entry.own is not None and not entry.for_types and target != entry.importer:
            graph[entry.importer].add(target)
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("name", NOTHING_OF_THE_PACKAGE)
def test_the_lowest_layer_stands_alone(name: str) -> None:
    """Modules of the lowest layer import nothing of the package but themselves."""
    for module in MODULES:
        if module.partition(".")[0] == name:
            assert {entry.own for entry in BY_MODULE[module]} <= {None, name}, module


def test_the_oracle_is_independent() -> None:
    """The oracle names config, errors and files of the package, and neither torch nor transformers anywhere."""
    for entry in IMPORTS:
        if entry.importer.partition(".")[0] == "oracle":
            assert entry.own in {None, "oracle"} | ORACLE_MAY_IMPORT, entry
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


@pytest.mark.parametrize("module", ["__init__", "plugin", "suite", "run_record", "verdict", "report", "cli", "checks"])
def test_nothing_heavy_is_loaded_with_it(module: str) -> None:
    """Importing the module loads neither torch nor transformers nor NumPy, directly or through others."""
    assert not loaded_libraries(module) & HEAVY


@pytest.mark.parametrize("module", [module for module in MODULES if module.partition(".")[0] not in MAY_LOAD_TORCH])
def test_torch_is_not_loaded_with_it(module: str) -> None:
    """Importing the module loads neither torch nor transformers: collecting the suite is quick."""
    assert not loaded_libraries(module) & {"torch", "transformers"}
