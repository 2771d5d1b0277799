"""Shared by the checks of calls: a tiny model of the candidate's kind, and calls of its entry points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from clip_eval.families.family import EntryPoint
from clip_eval.families.registry import ENTRY_POINTS
from clip_eval.subject import Subject
from clip_eval.subject.observations import Clip
from clip_eval.subject.output_tree import described, parts, structure
from clip_eval.subject.tiny_clip import small_subject
from clip_eval.verdict.compare import Compare

__all__ = ["Small", "enter", "every_class", "every_entry", "expect_same", "small"]

_IDS = [[5, 1, 3, 4, 6, 6, 6, 6], [5, 2, 6, 6, 6, 6, 6, 6], [5, 7, 3, 6, 1, 6, 6, 6]]
_MASK = [[1, 0, 1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0, 0]]
_ROWS = len(_IDS)

every_entry = pytest.mark.parametrize("entry", ENTRY_POINTS, ids=str)
every_class = pytest.mark.parametrize("entry", [one for one in ENTRY_POINTS if one.method == "forward"], ids=str)


@dataclass(frozen=True, slots=True)
class Small:
    """A tiny model of the candidate's kind, with as many texts as images, so that it has a loss."""

    subject: Subject

    def inputs(self, entry: EntryPoint) -> dict[str, Any]:
        """Return new tensors by keyword: ids and an interior mask (texts, tokens), pixels (images, channels, 8, 8)."""
        vision = self.subject.checkpoint.config.vision
        shape = (_ROWS, vision.num_channels, vision.image_size, vision.image_size)
        pixels = np.sin(np.arange(np.prod(shape), dtype=np.float32)).reshape(shape)  # (images, channels, side, side)
        texts = {"input_ids": np.array(_IDS), "attention_mask": np.array(_MASK)} if entry.texts else {}
        return self.subject.tensors({**texts, **({"pixel_values": pixels} if entry.images else {})})

    def enter(self, entry: EntryPoint, **options: Any) -> Any:
        """Call an entry point with its inputs and these options by keyword."""
        return enter(self.subject, entry, **self.inputs(entry), **options)

    def configured(
        self, entry: EntryPoint, values: Mapping[str, object], *, attention: str | None = None, **options: Any
    ) -> Any:
        """Call an entry point with other values of config fields, given by dotted name."""
        with self.subject.configured(entry.model_class, values, attention=attention):
            return self.enter(entry, **options)


def enter(subject: Subject, entry: EntryPoint, *arguments: object, **keywords: Any) -> Any:
    """Call an entry point with exactly these arguments."""
    return subject.call(entry.model_class, *arguments, method=entry.method, **keywords)


def small(clip: Clip, directories: pytest.TempPathFactory) -> Small:
    """Return the tiny model, made once a session."""
    return Small(clip.once("the tiny model of calls", lambda: small_subject(directories.mktemp("small"), clip.subject)))


def expect_same(compare: Compare, observed: Any, expected: Any, name: str) -> None:
    """Assert that two outputs are equal everywhere: types, keys, shapes, and every bit of every tensor."""
    __tracebackhide__ = True
    observed_leaves, expected_leaves = parts(observed), parts(expected)
    if structure(observed_leaves) != structure(expected_leaves):
        path = next(
            path
            for path in {**expected_leaves, **observed_leaves}
            if described(observed_leaves, path) != described(expected_leaves, path)
        )
        compare.fail(described(observed_leaves, path), described(expected_leaves, path), name=f"{name}{path}")
    tensors = [path for path, part in expected_leaves.items() if hasattr(part, "detach")]
    if not tensors:
        compare.fail("no tensor", "at least one tensor to compare", name=name)
    for path in tensors:
        compare.equal(observed_leaves[path], expected_leaves[path], name=f"{name}{path}")
