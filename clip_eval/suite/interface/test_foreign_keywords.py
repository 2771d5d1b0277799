"""Keywords of other entry points and of attention kernels: refused, or without effect.

A release that passes unknown keywords on lets them reach a kernel. Shown on a tiny model of the candidate's kind.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from clip_eval.baseline.surface.keywords import foreign_keywords
from clip_eval.families.family import EntryPoint
from clip_eval.families.registry import ENTRY_POINTS
from clip_eval.subject import quiet
from clip_eval.subject.call_outcomes import Answer, ask
from clip_eval.subject.observations import Clip
from clip_eval.suite._calls import Small, enter, every_entry, expect_same, small
from clip_eval.verdict.compare import Compare
from clip_eval.verdict.deviations import Deviations

pytestmark = pytest.mark.needs("loading", "objects")

CAUSAL = "is_causal"
STATES = ("output_attentions", "output_hidden_states")
"""More fields that the feature methods return from 5.0 on."""

text_entries = pytest.mark.parametrize("entry", [one for one in ENTRY_POINTS if not one.images], ids=str)
image_entries = pytest.mark.parametrize("entry", [one for one in ENTRY_POINTS if one.images], ids=str)


@pytest.fixture
def tiny(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The tiny model."""
    return small(clip, tmp_path_factory)


@every_entry
def test_foreign_keywords_change_nothing(compare: Compare, tiny: Small, entry: EntryPoint) -> None:
    """Inputs of the other tower and arguments of attention kernels are refused, or change nothing in any bit."""
    expected = tiny.enter(entry)
    for shown, keyword in foreign_keywords(entry, tiny.subject).items():
        if not shown.startswith((CAUSAL, *STATES)):
            answer = _ask(partial(tiny.enter, entry, **keyword))
            _expect_nothing(compare, answer, expected, f"{entry}({shown})")


@text_entries
def test_texts_are_causal_already(compare: Compare, tiny: Small, entry: EntryPoint) -> None:
    """is_causal=True changes nothing for texts, whose tokens never see later ones; or it is refused."""
    _expect_nothing(compare, _ask(lambda: tiny.enter(entry, is_causal=True)), tiny.enter(entry), f"{entry}(is_causal)")


@image_entries
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_images_stay_bidirectional(
    compare: Compare, deviations: Deviations, tiny: Small, entry: EntryPoint, attention: str
) -> None:
    """is_causal=True does not make the vision tower causal: every patch sees every other; or it is refused."""
    expected = tiny.enter(entry, attention=attention)
    answer = _ask(lambda: tiny.enter(entry, is_causal=True, attention=attention))
    name = f"{entry}(is_causal=True) under {attention}"
    if deviations.hold("is-causal-reaches-the-kernel", attention=attention):
        compare.equal(answer.refusal is None, True, name=f"{name} is taken: {answer.outcome}")
        inputs = tiny.inputs(entry)
        inputs["pixel_values"] = -inputs["pixel_values"]  # (images, channels, side, side)
        other = enter(tiny.subject, entry, **inputs, is_causal=True, attention=attention)
        compare.equal(_pooled(answer.value), _pooled(other), name=f"{name} sees the class token alone")
        return
    _expect_nothing(compare, answer, expected, name)


def _ask(call: Callable[[], Any]) -> Answer:
    """The result of a call; the warning that 4.x gives about unknown keywords does not count as a refusal."""
    with quiet():
        return ask(call, KeyError)  # what 5.0 reads after a kernel's TypeError


def _pooled(output: Any) -> Any:
    """The output computed from the class token, (images, projection or width)."""
    return output["image_embeds" if "image_embeds" in output else "pooler_output"]


def _expect_nothing(compare: Compare, answer: Answer, expected: object, name: str) -> None:
    if answer.refusal is None:
        expect_same(compare, answer.value, expected, name)
    else:
        compare.equal(bool(str(answer.refusal)), True, name=f"{name} is refused with a reason: {answer.outcome}")
