"""One model in several threads at once: each thread gets what it would get alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clip_eval.errors import NotAskable
from clip_eval.families.family import EntryPoint
from clip_eval.families.registry import ENTRY_POINTS
from clip_eval.oracle.expected.fields import ExpectedTower
from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.subject.observations import Clip
from clip_eval.subject.output_tree import tensors_of
from clip_eval.verdict.compare import Compare
from clip_eval.verdict.deviations import Deviations

pytestmark = [pytest.mark.needs("modules", "objects"), pytest.mark.shallow]

COUNTS = (2, 4, 1, 3)
"""Rows in each thread, in the order of their start; neither the first nor the last is an extreme."""

MEETING_S = 2.0
"""How long a thread waits for the others inside the model; if calls are serialised, it waits in vain."""

STATES: dict[str, Any] = {"output_hidden_states": True}
FORWARDS = tuple(entry for entry in ENTRY_POINTS if entry.method == "forward")


@pytest.mark.parametrize("entry", FORWARDS, ids=str)
def test_threads_do_not_mix(
    clip: Clip, oracle: Oracle, compare: Compare, deviations: Deviations, entry: EntryPoint
) -> None:
    """Four threads that call one model at once, with other sizes and hidden states, each get what the reference gives,
    and a later call is bit for bit as before.

    The threads meet inside the model, so that a shared recorder is seen every time and not by chance.
    """
    inputs = clip.subject.tensors(clip.inputs(entry, images=2, texts=3))
    before = {name: tensor.clone() for name, tensor in tensors_of(clip.enter(entry, inputs), str(entry)).items()}
    outputs = _in_threads(clip, entry)
    missing = entry.model_class == "CLIPModel" and deviations.hold("nested-states-missing")
    mixed = not missing and deviations.hold("states-mixed-between-threads")
    for count, output in outputs.items():
        if isinstance(output, Exception):
            compare.fail(f"{type(output).__name__}: {output}", "an output", name=f"{entry} in a thread of {count} rows")
        for tower in _towers(clip, oracle, entry, output, count):
            tower.judge_last(compare)
            if missing:
                compare.equal(tower.output.hidden_states, None, name=f"hidden_states, {tower.name}")
            elif not mixed:
                tower.judge_states(compare)
    if mixed:
        foreign = [len(state) != count for count, output in outputs.items() for state in output.hidden_states]
        compare.equal(any(foreign), True, name="some thread has hidden_states of another")
    for name, tensor in tensors_of(clip.enter(entry, inputs), str(entry)).items():
        compare.equal(tensor, before[name], name=f"{name} after threads")


@dataclass(frozen=True, slots=True)
class _Tower:
    """A tower's outputs in one thread, the expected ones, and which states count."""

    name: str
    output: Any
    expected: ExpectedTower
    where: NDArray[np.bool_] | None

    def judge_last(self, compare: Compare) -> None:
        observed, expected = self.output.last_hidden_state, self.expected.last_hidden_state
        compare.close(observed, expected, name=f"last_hidden_state, {self.name}", where=self.where)

    def judge_states(self, compare: Compare) -> None:
        states, expected = self.output.hidden_states, self.expected.hidden_states
        compare.equal(len(states), len(expected), name=f"number of hidden_states, {self.name}")
        for index, (state, value) in enumerate(zip(states, expected, strict=True)):
            compare.close(state, value, name=f"hidden_states[{index}], {self.name}", where=self.where)


def _towers(clip: Clip, oracle: Oracle, entry: EntryPoint, output: Any, count: int) -> Iterator[_Tower]:
    nested = entry.model_class == "CLIPModel"
    oracle = oracle.of(entry.model_class)
    if entry.texts:
        own = output.text_model_output if nested else output
        where = clip.real(count)[:, :, None]  # (texts, tokens, 1)
        yield _Tower(f"{entry}, {count} texts in a thread", own, oracle.text(texts=count), where)
    if entry.images:
        own = output.vision_model_output if nested else output
        yield _Tower(f"{entry}, {count} images in a thread", own, oracle.vision(images=count), None)


def _in_threads(clip: Clip, entry: EntryPoint) -> dict[int, Any]:
    """Call one entry point with these row counts, a thread each; all wait for each other before and after the model's
    second layer, or its only one.
    """
    results: dict[int, Any] = {}
    tensors = {n: clip.subject.tensors(clip.inputs(entry, images=n, texts=n)) for n in COUNTS}

    def work(count: int) -> None:
        try:
            results[count] = clip.enter(entry, tensors[count], **STATES)
        except Exception as error:  # the check judges what a thread raises
            results[count] = error

    meeting = threading.Barrier(len(COUNTS))
    with clip.subject.paused_at_layer(entry.model_class, lambda: _meet(meeting)):
        threads = [threading.Thread(target=work, args=(count,)) for count in COUNTS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for result in results.values():
        if isinstance(result, NotAskable):
            raise result
    return {count: results[count] for count in COUNTS}  # as started, not as ended


def _meet(meeting: threading.Barrier) -> None:
    try:
        meeting.wait(timeout=MEETING_S)
    except threading.BrokenBarrierError:
        return  # a model that serialises calls is fine too
