"""The result of a teacher-forced pass: each value that enters or leaves a module with its expected value, in the order
of computation, and the module to blame if that value is the first to be wrong.

A module is named by its path in the checkpoint: the leaf whose output is wrong, or, where a value is wrong before it
enters a leaf and all leaves before are right, the module that holds what lies between them (the attention between
`v_proj` and `out_proj`, a residual between `out_proj` and `layer_norm2`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_eval.families import roles
from clip_eval.families.family import Family
from clip_eval.oracle.expected.modules import ExpectedModules, Point
from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.probes.batches import Batch
from clip_eval.subject.observations import Clip, Question
from clip_eval.subject.teacher_forcing import Forced, force
from clip_eval.verdict.compare import Expected, agrees

__all__ = ["ForcedPass", "ModuleComparison", "ProbeSlice", "forced_pass"]


@dataclass(frozen=True, slots=True)
class ModuleComparison:
    """One value of a forced pass with its expected value.

    Attributes:
        name: what is compared.
        module: the module to name if the values differ and all before were right.
        observed: a tensor.
        expected: value and bound.
        where: elements that count; None for all.
    """

    name: str
    module: str
    observed: Any
    expected: Expected
    where: NDArray[np.bool_] | None

    @property
    def is_right(self) -> bool:
        """True where every element that counts lies within its bound."""
        return agrees(self.observed, self.expected, where=self.where)


@dataclass(frozen=True, slots=True)
class ForcedPass:
    """A forced pass.

    Attributes:
        comparisons: all values, part by part ("vision", "text", "head"), each in the order of computation.
        unseen: leaves that hold weights of the model and were not called.
    """

    comparisons: Mapping[str, Iterable[ModuleComparison]]
    unseen: tuple[str, ...]


def forced_pass(
    clip: Clip, oracle: Oracle, question: Question, *, parts: Collection[str] = ("vision", "text", "head")
) -> ForcedPass | None:
    """Repeat a question with every module forced; None if its inputs are not the probe's.

    Args:
        clip: the subject and its probe.
        oracle: the expected values on the same probe.
        question: the call to repeat.
        parts: the towers that are forced and compared; for the head alone, both projections are.
    """
    probe = ProbeSlice.of(question, clip.batch)
    if probe is None:
        return None
    oracle = oracle.of(question.model_class)
    expected = probe.expected(oracle, parts)
    forced = force(
        clip.subject,
        question.model_class,
        tuple(expected.values()),
        lambda: clip.subject.answer(question.model_class, question.inputs, method=question.method, **question.options),
    )
    comparisons: dict[str, Iterable[ModuleComparison]] = {
        part: _comparisons(clip.family, forced, modules, probe.real(clip) if part == "text" else None)
        for part, modules in expected.items()
        if part in parts
    }
    if "head" in parts and len(expected) == 2 and hasattr(forced.output, roles.LOGITS_PER_TEXT):
        comparisons["head"] = _head(forced.output, oracle, probe)
    return ForcedPass(comparisons, _unseen(clip, question, forced, expected))


@dataclass(frozen=True, slots=True)
class ProbeSlice:
    """The part of a batch that a question uses: its first images, first texts and their first tokens, and a mask."""

    images: int
    texts: int
    tokens: int
    mask: str

    @classmethod
    def of(cls, question: Question, batch: Batch) -> ProbeSlice | None:
        """Return the part that a question uses; None if its inputs are not the batch's."""
        pixels, ids = question.inputs.get("pixel_values"), question.inputs.get("input_ids")
        if set(question.inputs) - {"pixel_values", "input_ids", "attention_mask"}:
            return None
        images = 0 if pixels is None else len(pixels)
        texts, tokens = (0, 0) if ids is None else ids.shape
        same = (pixels is None or np.array_equal(pixels, batch.pixel_values[:images])) and (
            ids is None or np.array_equal(ids, batch.input_ids[:texts, :tokens])
        )
        attention_mask = question.inputs.get("attention_mask")
        masks = [
            kind for kind in ("padding", "interior") if _is_mask(attention_mask, batch.mask(kind)[:texts, :tokens])
        ]
        return cls(images, texts, tokens, masks[0]) if same and masks else None

    def expected(self, oracle: Oracle, parts: Collection[str]) -> dict[str, ExpectedModules]:
        """The expected values of each tower's modules, for the head alone those of its projection."""
        expected = {}
        towers = {"vision", "text"} & set(parts)
        modules_of = oracle.modules if towers else oracle.projection
        if self.images and (not towers or "vision" in towers):
            expected["vision"] = modules_of("vision", self.images).rows(self.images)
        if self.texts and (not towers or "text" in towers):
            modules = modules_of(self.mask, self.texts).rows(self.texts)
            whole = self.tokens == oracle.batch.input_ids.shape[1]
            expected["text"] = modules if whole else modules.tokens(self.tokens)
        return expected

    def real(self, clip: Clip) -> NDArray[np.bool_]:
        """Which tokens count, (texts, tokens)."""
        return clip.real(self.texts, self.mask)[:, : self.tokens]


def _is_mask(attention_mask: NDArray[Any] | None, mask: NDArray[np.int64]) -> bool:
    """Whether every token that counts sees the same keys under the given mask. In a causal tower no mask, a mask of
    ones and the padding mask are the same to it.
    """
    return attention_mask is None or bool(np.all(attention_mask)) or np.array_equal(attention_mask, mask)


def _comparisons(
    family: Family, forced: Forced, expected: ExpectedModules, real: NDArray[np.bool_] | None
) -> Iterator[ModuleComparison]:
    """All values of one tower, in the order of computation; of each call of a module, if there were several."""
    before: Point | None = None
    unseen: Point | None = None
    done: set[tuple[int, int]] = set()  # a tensor that appears at several points is compared once
    for point, value in expected.points.items():
        if point not in forced.seen:
            unseen = unseen or point
            continue
        for observed in forced.seen[point]:
            if (id(observed), id(value)) not in done:
                done.add((id(observed), id(value)))
                counts = None if real is None or value.value.ndim != 3 else real[:, :, None]  # (texts, tokens, 1)
                yield from _split(
                    family,
                    ModuleComparison(str(point), _module(point, before, unseen), observed, value, counts),
                    point,
                )
        before, unseen = point, None


def _split(family: Family, comparison: ModuleComparison, point: Point) -> Iterator[ModuleComparison]:
    """Of the vision embeddings, token 0 apart: the class embedding belongs to no module. If only token 0 differs, blame
    class_embedding.
    """
    if (
        str(point) != f"output of {family.vision.module}.embeddings"
        or comparison.observed.shape != comparison.expected.value.shape
    ):
        yield comparison
        return
    yield ModuleComparison(
        comparison.name, comparison.module, comparison.observed[:, 1:], comparison.expected[:, 1:], None
    )
    yield ModuleComparison(
        f"{comparison.name}, class token",
        f"{comparison.module}.class_embedding",
        comparison.observed[:, :1],
        comparison.expected[:, :1],
        None,
    )


def _module(point: Point, before: Point | None, unseen: Point | None) -> str:
    """The module to blame for a wrong value at `point`: for an output, the module itself; for an input, the innermost
    module that holds both it and the last one seen, or the first module on the way that was not seen.
    """
    if point.what != "input":
        return point.module
    if unseen is not None:
        return unseen.module
    if before is None:
        return point.module.rpartition(".")[0]
    return _common(before.module, point.module) or point.module


def _common(one: str, other: str) -> str:
    """The innermost module that holds both, or is one of them."""
    shared = []
    for left, right in zip(one.split("."), other.split("."), strict=False):
        if left != right:
            break
        shared.append(left)
    return ".".join(shared).removesuffix(".layers")


def _head(output: Any, oracle: Oracle, probe: ProbeSlice) -> Iterator[ModuleComparison]:
    expected = oracle.head(images=probe.images, texts=probe.texts, mask=probe.mask)
    for name, module in oracle.family.head.items():
        blamed = name if name in roles.EMBEDDINGS else module  # no module normalises: the embedding is blamed instead
        yield ModuleComparison(f"{name} of {roles.WHOLE}", blamed, output[name], getattr(expected, name), None)


def _unseen(clip: Clip, question: Question, forced: Forced, expected: Mapping[str, ExpectedModules]) -> tuple[str, ...]:
    """Leaves whose weights the model has, and which were not called."""
    with_weights = {name.rpartition(".")[0] for name in clip.subject.weights(question.model_class)}
    points: Sequence[Point] = [point for modules in expected.values() for point in modules.points]
    return tuple(
        point.module
        for point in points
        if point.what == "output" and point.module in with_weights and point not in forced.seen
    )
