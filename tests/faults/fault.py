"""What a fault is, and the decorators that make one of a plain function.

A fault's id is `kind.name` from the module and the function that defines it, what it does is the function's docstring.
Nothing about it is written anywhere else.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import Version
from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from clip_eval.families.roles import WHOLE
from faults.patching import after_loading, module_at

__all__ = ["Fault", "in_file", "in_loaded_model", "in_module", "in_transformers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One defect.

    Attributes:
        id: `kind.name`.
        what: what is wrong, in words.
        seen_by: ids of the checks that must fail. Others may fail besides.
        diverges_at: module paths that a failing check of `seen_by` may name as the first that diverges, each as a
            prefix; () where no module is to be named.
        patch: patches transformers through the MonkeyPatch that it is given, which puts everything back.
        edit: edits the files of a copy of the checkpoint.
        options: pytest options of the run, such as --clip-dtype.
        releases: transformers releases in which the defect can exist.
        baseline: only the comparison with a baseline pack can see it.
        converted: only the comparison with the original that the checkpoint was converted from can see it.
        on: the class that the checkpoint is saved by: the whole model, or a part of it.
    """

    id: str
    what: str
    seen_by: tuple[str, ...]
    diverges_at: tuple[str, ...] = ()
    patch: Callable[[MonkeyPatch], None] | None = None
    edit: Callable[[Path], None] | None = None
    options: tuple[str, ...] = ()
    releases: SpecifierSet = field(default_factory=SpecifierSet)
    baseline: bool = False
    converted: bool = False
    on: str = WHOLE

    @property
    def kind(self) -> str:
        """What part of a CLIP is defective: the name of the module that defines the fault."""
        return self.id.partition(".")[0]

    @property
    def chapters(self) -> frozenset[str]:
        """The chapters of the suite that have the checks which must fail."""
        return frozenset(check.partition(".")[0] for check in self.seen_by)

    def applies(self, release: Version) -> bool:
        """Say whether the defect can exist in transformers `release`."""
        return self.releases.contains(release, prereleases=True)

    def places(self, module: str) -> bool:
        """Say whether `module` lies at or below a place where this fault is to be found."""
        return any(module == place or module.startswith(f"{place}.") for place in self.diverges_at)


def in_transformers(*seen_by: str, **details: Any) -> Callable[[Callable[[MonkeyPatch], None]], Fault]:
    """Make a fault of a function that patches transformers through the MonkeyPatch that it is given."""
    return lambda patch: _fault(patch, seen_by, patch=patch, **details)


def in_loaded_model(*seen_by: str, **details: Any) -> Callable[[Callable[[Any], None]], Fault]:
    """Make a fault of a function that spoils each model right after `from_pretrained` made it."""
    return lambda spoil: _fault(spoil, seen_by, patch=lambda patch: after_loading(patch, spoil), **details)


def in_module(path: str, *seen_by: str, **details: Any) -> Callable[[Callable[[Any], None]], Fault]:
    """Make a fault of a function that spoils the module at `path` of each model that has it, right after loading.

    The module, or one inside of it, is what must be named, unless `diverges_at` says otherwise.
    """
    details.setdefault("diverges_at", (path,))

    def make(spoil: Callable[[Any], None]) -> Fault:
        def spoil_model(model: Any) -> None:
            module = module_at(model, path)
            if module is not None:
                spoil(module)

        return _fault(spoil, seen_by, patch=lambda patch: after_loading(patch, spoil_model), **details)

    return make


def in_file(*seen_by: str, **details: Any) -> Callable[[Callable[[Path], None]], Fault]:
    """Make a fault of a function that edits the files of a copy of the checkpoint."""
    return lambda edit: _fault(edit, seen_by, edit=edit, **details)


def _fault(function: Callable[..., None], seen_by: tuple[str, ...], **details: Any) -> Fault:
    kind = function.__module__.rpartition(".")[2]
    what = " ".join(inspect.cleandoc(function.__doc__ or "").split())
    return Fault(id=f"{kind}.{function.__name__}", what=what, seen_by=seen_by, **details)
