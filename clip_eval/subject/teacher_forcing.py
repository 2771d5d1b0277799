"""Teacher forcing: one real forward pass of a subject in which every module gets the oracle's value as its input.

Hooks replace only the hidden state that enters a module: masks, positions and keywords stay transformers' own. They
keep the value that they replace, and the module's output for the oracle's value. Unlike direct calls of submodules,
whose signatures change with every release, hooks work in all of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_eval.families.family import Tower
from clip_eval.families.roles import POOLED, STATES
from clip_eval.oracle.expected.modules import ExpectedModules, Point
from clip_eval.subject import Subject

__all__ = ["Forced", "force"]


@dataclass(frozen=True, slots=True)
class Forced:
    """The result of a forced pass.

    Attributes:
        seen: the values at each point, one for each call of the module, as tensors in the oracle's layout.
        output: what the model returned.
    """

    seen: Mapping[Point, Sequence[Any]]
    output: Any


def force(
    subject: Subject, model_class: str, expected: Sequence[ExpectedModules], call: Callable[[], object]
) -> Forced:
    """Run `call` with every module forced for which `expected` has a value.

    Args:
        subject: the loaded subject.
        model_class: the class that `call` calls.
        expected: of one tower or of both, for the rows of the call.
        call: calls the model.
    """
    pass_ = _Pass(subject)
    with contextlib.ExitStack() as stack:
        for name, module in subject.modules(model_class).items():
            for tower in expected:
                stack.enter_context(pass_.hooked(name, module, tower))
        output = call()
    return Forced(pass_.seen, output)


@dataclass(slots=True)
class _Pass:
    """Keeps what the hooks of one pass see."""

    subject: Subject
    seen: dict[Point, list[Any]] = field(default_factory=dict)
    _copies: dict[tuple[Any, ...], tuple[Any, Any]] = field(default_factory=dict)

    @property
    def _text(self) -> Tower:
        return self.subject.family.text

    @property
    def _vision(self) -> Tower:
        return self.subject.family.vision

    @contextlib.contextmanager
    def hooked(self, name: str, module: Any, expected: ExpectedModules) -> Iterator[None]:
        """Hook one module in the block, if a value is expected of it."""
        handles = []
        if Point(name, "input") in expected.points:
            before = self._before(name, expected)
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        if name in (self._text.module, self._vision.module) and Point(name, STATES) in expected.points:
            handles.append(module.register_forward_hook(self._after_tower(name, expected)))
        elif Point(name, "output") in expected.points:
            handles.append(module.register_forward_hook(self._after(name, expected)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _before(self, name: str, expected: ExpectedModules) -> Callable[..., Any]:
        def hook(module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
            where = _first_tensor(arguments, keywords)
            if where is None:
                return None
            observed = arguments[where] if isinstance(where, int) else keywords[where]
            self._keep(Point(name, "input"), observed)
            replaced = self._as(observed, expected.input_of(name))
            if isinstance(where, int):
                return (*arguments[:where], replaced, *arguments[where + 1 :]), keywords
            return arguments, {**keywords, where: replaced}

        return hook

    def _after(self, name: str, expected: ExpectedModules) -> Callable[..., Any]:
        def hook(module: Any, arguments: Any, output: Any) -> Any:
            observed = output[0] if isinstance(output, tuple) else output
            self._keep(Point(name, "output"), observed)
            if name in (
                self._text.projection,
                self._vision.projection,
            ):  # the head, which follows, is not a module and has no input to replace
                return self._as(observed, expected.output_of(name))
            return None

        return hook

    def _after_tower(self, name: str, expected: ExpectedModules) -> Callable[..., Any]:
        def hook(module: Any, arguments: Any, output: Any) -> None:
            for index, what in enumerate((STATES, POOLED)):
                if Point(name, what) in expected.points:
                    self._keep(Point(name, what), output[index])

        return hook

    def _as(self, observed: Any, value: NDArray[np.float32] | None) -> Any:
        """The oracle's value as a tensor of the dtype, device and layout of the one it replaces. If the shapes differ,
        the latter is returned, and the comparison fails.
        """
        if value is None or tuple(observed.shape) != value.shape:
            return observed
        return self.subject.tensors({"value": value})["value"].to(observed.dtype)

    def _keep(self, point: Point, observed: Any) -> None:
        """Keep a copy, since a module may write over its input, in the oracle's layout. One tensor seen at several
        points is kept once.
        """
        key = (observed.data_ptr(), observed._version, observed.shape, observed.stride())
        if key not in self._copies:
            self._copies[key] = observed, self._laid_out(point, observed.detach().clone())
        self.seen.setdefault(point, []).append(self._copies[key][1])

    def _laid_out(self, point: Point, kept: Any) -> Any:
        if point.module.endswith(".patch_embedding") and point.what == "output" and kept.ndim == 4:
            kept = kept.flatten(2).transpose(1, 2)  # (images, patches, width)
        if point.is_shared and kept.ndim == 3 and len(kept) == 1:
            kept = kept[0]  # (tokens, width)
        return kept


def _first_tensor(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> int | str | None:
    """The place of the hidden state: the first tensor argument, by position or by keyword."""
    for index, value in enumerate(arguments):
        if hasattr(value, "detach"):
            return index
    return next((name for name, value in keywords.items() if hasattr(value, "detach")), None)
