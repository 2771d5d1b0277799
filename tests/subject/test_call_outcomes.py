"""Calls: what became of one, and when two answers are the same."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from clip_eval.families.clip.family import CLIP
from clip_eval.subject.call_outcomes import REFUSALS, Answer, ask
from clip_eval.subject.output_tree import as_tuple, parts, same
from clip_eval.suite._calls import expect_same
from clip_eval.verdict.compare import Compare, Mismatch
from clip_eval.verdict.measurement import Measurement

torch = pytest.importorskip("torch")


class Output(OrderedDict[str, Any]):
    """Stands for a model output: fields by name."""


def _answer(value: float = 1.0) -> Output:
    states = (torch.zeros(2), torch.full((2,), value))
    return Output(pooled=torch.ones(3), states=states, nested=Output(last=torch.arange(2), none=None))


def _compare() -> tuple[Compare, list[Measurement]]:
    recorded: list[Measurement] = []
    return Compare(recorded.append), recorded


def test_every_way_in_has_its_parameters() -> None:
    """Each entry point has documented parameters, distinct, its inputs first."""
    for entry in (*CLIP.entry_points, CLIP.classifier):
        assert len(set(entry.parameters)) == len(entry.parameters)
        assert 0 < entry.inputs <= len(entry.parameters)
        assert not any(one.startswith("output_") for one in entry.parameters[: entry.inputs])


def test_parts_are_found_at_every_depth() -> None:
    """Containers are described, tensors are themselves, None is a word; paths say where."""
    answer = _answer()
    found = parts(answer, "out")
    assert list(found) == [
        "out", "out.pooled", "out.states", "out.states[0]", "out.states[1]", "out.nested", "out.nested.last",
        "out.nested.none",
    ]  # fmt: skip
    assert found["out"] == "Output: pooled, states, nested"
    assert found["out.states"] == "tuple of 2"
    assert found["out.nested.none"] == "None"
    assert found["out.pooled"] is answer["pooled"]


@pytest.mark.parametrize(
    "change",
    [
        lambda output: output["states"][1].add_(1e-7),
        lambda output: output.pop("nested"),
        lambda output: output.move_to_end("pooled"),
        lambda output: output.update(states=list(output["states"])),
        lambda output: output.update(states=output["states"][:1]),
        lambda output: output.update(pooled=torch.ones(3, 1)),
        lambda output: output.update(pooled=torch.ones(3).double()),
        lambda output: output["nested"].update(none=torch.zeros(1)),
        lambda output: output.update(pooled=None),
    ],
    ids=["value", "gone", "order", "list", "shorter", "shape", "dtype", "filled", "emptied"],
)
def test_every_difference_is_seen(change: Any) -> None:
    """A bit, a field, an order, a type, a length, a shape or a dtype that differs makes answers differ."""
    changed = _answer()
    change(changed)
    compare, recorded = _compare()
    assert not same(changed, _answer())
    with pytest.raises(Mismatch):
        expect_same(compare, changed, _answer(), "answer")
    assert not recorded[-1].passed


def test_same_answers_are_the_same() -> None:
    """Equal answers pass, with a measurement for each tensor."""
    compare, recorded = _compare()
    expect_same(compare, _answer(), _answer(), "answer")
    assert same(_answer(), _answer())
    assert len(recorded) == 4
    assert all(measurement.passed for measurement in recorded)


def test_nothing_to_compare_is_no_pass() -> None:
    """Answers without any tensor are not the same by absence, and NaN equals nothing."""
    compare, _ = _compare()
    with pytest.raises(Mismatch):
        expect_same(compare, (), (), "answer")
    assert not same(torch.tensor([np.nan]), torch.tensor([np.nan]))


@pytest.mark.parametrize("kind", REFUSALS)
def test_refusals_are_answers(kind: type[Exception]) -> None:
    """An exception of a kind that refuses a call is what became of it, and is told with its message."""

    def refuse() -> None:
        raise kind("does not fit\nin detail")

    answer = ask(refuse)
    assert type(answer.refusal) is kind
    assert answer.outcome == f"raises {kind.__name__}: does not fit"


def test_other_exceptions_go_through() -> None:
    """What is no refusal is not swallowed, unless it is named; nor is a lack of memory."""

    class OutOfMemoryError(RuntimeError):
        pass

    def broken(error: Exception) -> Any:
        raise error

    with pytest.raises(AttributeError):
        ask(lambda: broken(AttributeError()))
    assert ask(lambda: broken(AttributeError()), AttributeError).outcome == "raises AttributeError: no message"
    with pytest.raises(OutOfMemoryError):
        ask(lambda: broken(OutOfMemoryError()))


def test_an_answer_says_what_it_is() -> None:
    """A call that returned is told by the type of its value."""
    assert Answer(value=(1, 2)).outcome == "returns tuple"


def test_tuples_are_made_of_the_fields() -> None:
    """Nested outputs become tuples, everything else stays as it is."""
    answer = _answer()
    made = as_tuple(answer)
    assert made[0] is answer["pooled"]
    assert made[1] is answer["states"]
    assert made[2] == (answer["nested"]["last"], None)
