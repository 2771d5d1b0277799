"""Every module of both towers by itself: with exact input, its output is what its weights determine.

The checks of whole towers bound an error by all rounding errors before it, amplified by the network. Here nothing comes
before: in one real forward pass, hooks replace each module's input with the oracle's hidden state, and every input and
output is judged by its own rounding error. Only these checks may see a small error of one module in a network that
amplifies rounding.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.subject.forced_pass import ForcedPass, ModuleComparison, forced_pass
from clip_eval.subject.observations import Clip, Question
from clip_eval.verdict.compare import Compare
from clip_eval.verdict.measurement import Measurement, worst

TEXTS, IMAGES = 5, 3

pytestmark = pytest.mark.needs("modules")

every_attention = pytest.mark.parametrize(
    "attention", [None, pytest.param("eager", marks=pytest.mark.needs("attention"))], ids=["default", "eager"]
)


@every_attention
@pytest.mark.parametrize("route", ["CLIPModel", "CLIPTextModel"])
def test_text_tower(clip: Clip, oracle: Oracle, compare: Compare, route: str, attention: str | None) -> None:
    """With exact inputs, every leaf of the text tower computes what its weights determine, and the values between
    leaves (attention, residuals, pooling) are right too.
    """
    _judge(_forced(clip, oracle, route, attention, "text"), "text", compare)


@every_attention
@pytest.mark.parametrize("route", ["CLIPModel", "CLIPVisionModel"])
def test_vision_tower(clip: Clip, oracle: Oracle, compare: Compare, route: str, attention: str | None) -> None:
    """With exact inputs, every leaf of the vision tower computes what its weights determine, and the values between
    leaves (attention, residuals, pooling) are right too.
    """
    _judge(_forced(clip, oracle, route, attention, "vision"), "vision", compare)


def test_head(clip: Clip, oracle: Oracle, compare: Compare) -> None:
    """With exact projections, CLIPModel normalises, multiplies and scales them as defined."""
    _judge(_forced(clip, oracle, "CLIPModel", None, "head"), "head", compare)


def _forced(clip: Clip, oracle: Oracle, route: str, attention: str | None, part: str) -> ForcedPass:
    """A forced pass of the probe in which one part is forced; tokens inside the texts are hidden, so that the mask has
    to be followed. Of large towers few rows are asked: each of them meets every weight.
    """
    inputs: dict[str, Any] = {}
    if route != "CLIPVisionModel":
        inputs |= clip.texts(min(TEXTS, oracle.rows_that_fit("interior")), "interior")
    if route != "CLIPTextModel":
        inputs |= clip.images(min(IMAGES, oracle.rows_that_fit("vision")))
    comparisons = forced_pass(clip, oracle, Question(route, "forward", inputs, {"attention": attention}), parts=(part,))
    assert comparisons is not None, "the inputs are the probe's"
    return comparisons


def _judge(found: ForcedPass, part: str, compare: Compare) -> None:
    """Compare along the network; leave one measurement a module of the first rank, the worst, not hundreds."""
    kept: dict[str, list[Measurement]] = {}
    try:
        for comparison in found.comparisons.get(part, ()):
            kept.setdefault(_rank(comparison), [])
            judge = Compare(kept[_rank(comparison)].append)
            judge.close(
                comparison.observed,
                comparison.expected,
                name=comparison.name,
                where=comparison.where,
                module=comparison.module,
            )
    finally:
        _record(compare, kept.values())
    compare.equal(len(kept) > 0, True, name=f"values of the {part} part were seen")
    compare.equal(found.unseen, (), name="leaves that were not called")


def _rank(comparison: ModuleComparison) -> str:
    """An encoder layer, or a module beside the layers."""
    before, found, after = comparison.name.partition(".layers.")
    return before.rpartition(" ")[2] + found + after.partition(".")[0]


def _record(compare: Compare, kept: Iterable[list[Measurement]]) -> None:
    for measurements in kept:
        found = worst(measurements)
        if found is not None:
            compare.record(found)
