"""What users do with an output object: index, slice, unpack, search, copy, pickle, and make one.

Shown on a tiny model of the candidate's kind, as only transformers matters here.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import pytest

from clip_eval.families.family import EntryPoint
from clip_eval.subject.call_outcomes import ask
from clip_eval.subject.observations import Clip
from clip_eval.subject.output_tree import as_tuple
from clip_eval.suite._calls import every_class, expect_same, small
from clip_eval.verdict.compare import Compare

pytestmark = pytest.mark.needs("objects")

_TOWER = ["last_hidden_state", "pooler_output", "hidden_states", "attentions"]
_PROJECTED = ["last_hidden_state", "hidden_states", "attentions"]
FIELDS = {
    "CLIPModel": [
        "loss",
        "logits_per_image",
        "logits_per_text",
        "text_embeds",
        "image_embeds",
        "text_model_output",
        "vision_model_output",
    ],
    "CLIPTextModel": _TOWER,
    "CLIPVisionModel": _TOWER,
    "CLIPTextModelWithProjection": ["text_embeds", *_PROJECTED],
    "CLIPVisionModelWithProjection": ["image_embeds", *_PROJECTED],
}

full_and_plain = pytest.mark.parametrize("states", [False, True], ids=["plain", "states"])


@every_class
@full_and_plain
def test_outputs_are_indexed_like_tuples(
    clip: Clip, compare: Compare, tmp_path_factory: pytest.TempPathFactory, entry: EntryPoint, states: bool
) -> None:
    """Indices from either end and slices work on the present fields in order; an index out of range raises
    IndexError.
    """
    output = _output(clip, tmp_path_factory, entry, states)
    values = as_tuple(output)
    for name, observed, expected in (
        ("[-1]", output[-1], values[-1]),
        ("[1:]", output[1:], values[1:]),
        ("[:2]", output[:2], values[:2]),
        ("[::-1]", output[::-1], values[::-1]),
        ("as a tuple", output.to_tuple(), values),
    ):
        expect_same(compare, _plain(observed), expected, f"{entry} output {name}")
    answer = ask(lambda: output[len(values)])
    compare.equal(type(answer.refusal).__name__, "IndexError", name=f"{entry} output [{len(values)}]: {answer.outcome}")


@every_class
@full_and_plain
def test_outputs_are_read_like_dicts(
    clip: Clip, compare: Compare, tmp_path_factory: pytest.TempPathFactory, entry: EntryPoint, states: bool
) -> None:
    """Iteration, keys, values, items, length and `in` cover the present fields in order; an absent name raises
    KeyError, and `get` returns None for it.
    """
    output = _output(clip, tmp_path_factory, entry, states)
    present = [name for name in FIELDS[entry.model_class] if getattr(output, name) is not None]
    compare.equal(list(output), present, name=f"iterating over {entry} output")
    compare.equal(list(output.keys()), present, name=f"keys of {entry} output")
    compare.equal(list(dict(output)), present, name=f"dict of {entry} output")
    compare.equal(len(output), len(present), name=f"length of {entry} output")
    compare.equal([name for name, _ in output.items()], present, name=f"items of {entry} output")
    for name, value in zip(present, output.values(), strict=True):
        compare.equal(name in output, True, name=f"{name!r} in {entry} output")
        compare.equal(output[name] is value and output.get(name) is value, True, name=f"{name} of {entry} output")
    absent = [name for name in FIELDS[entry.model_class] if name not in present]
    for name in (*absent, "no_such_field"):
        compare.equal(name in output, False, name=f"{name!r} in {entry} output")
        compare.equal(output.get(name), None, name=f"get({name!r}) of {entry} output")
        refusal = _raised(partial(output.__getitem__, name))
        compare.equal(refusal, "KeyError", name=f"[{name!r}] of {entry} output")


@every_class
def test_fields_of_the_class(
    clip: Clip, compare: Compare, tmp_path_factory: pytest.TempPathFactory, entry: EntryPoint
) -> None:
    """An output class is a dataclass with the documented fields in order, all optional, and takes them by keyword and
    by position.
    """
    output = _output(clip, tmp_path_factory, entry, True)
    kind = type(output)
    compare.equal([one.name for one in fields(kind)], FIELDS[entry.model_class], name=f"fields of {kind.__name__}")
    compare.equal(list(kind()), [], name=f"fields of an empty {kind.__name__}")
    expect_same(compare, kind(**output), output, f"{kind.__name__} made by keyword")
    everything = [getattr(output, name) for name in FIELDS[entry.model_class]]
    expect_same(compare, kind(*everything), output, f"{kind.__name__} made by position")


@every_class
@pytest.mark.parametrize("way", ["copy", "deepcopy", "pickle"])
def test_copies_are_the_same(
    clip: Clip, compare: Compare, tmp_path_factory: pytest.TempPathFactory, entry: EntryPoint, way: str
) -> None:
    """A copy, a deep copy and a pickled copy have the output's type, fields and every bit."""
    output = _output(clip, tmp_path_factory, entry, True)
    ways: dict[str, Callable[[Any], Any]] = {
        "copy": copy.copy,
        "deepcopy": copy.deepcopy,
        "pickle": lambda one: pickle.loads(pickle.dumps(one)),
    }
    observed = ways[way](output)
    expect_same(compare, observed, output, f"{way} of {entry} output")
    expect_same(compare, observed.to_tuple(), as_tuple(output), f"tuple of {way} of {entry} output")
    attributes = {name: getattr(observed, name) for name in output}
    expect_same(compare, attributes, dict(output.items()), f"attributes of {way} of {entry} output")


@every_class
def test_fields_can_be_set(
    clip: Clip, compare: Compare, tmp_path_factory: pytest.TempPathFactory, entry: EntryPoint
) -> None:
    """A field that is set by attribute or by name reads the same by attribute, name, position and in the tuple."""
    for by_name in (False, True):
        output = copy.copy(_output(clip, tmp_path_factory, entry, False))
        name = next(iter(output))
        value = output[name] + 1
        if by_name:
            output[name] = value
        else:
            setattr(output, name, value)
        for how, observed in (
            ("attribute", getattr(output, name)),
            ("name", output[name]),
            ("position", output[0]),
            ("tuple", output.to_tuple()[0]),
        ):
            compare.equal(observed is value, True, name=f"{name} of {entry} output by {how} after it was set")


def _output(clip: Clip, directories: pytest.TempPathFactory, entry: EntryPoint, states: bool) -> Any:
    tiny = small(clip, directories)
    options: dict[str, Any] = {"output_hidden_states": True, "output_attentions": True} if states else {}
    loss = {"return_loss": True} if states and entry.model_class == "CLIPModel" else {}
    return clip.once(
        ("the tiny model's output", str(entry), states),
        lambda: tiny.enter(entry, attention="eager", **options, **loss),
    )


def _plain(value: Any) -> Any:
    """A value with nested outputs as tuples."""
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    return as_tuple(value)


def _raised(read: Any) -> str:
    try:
        read()
    except (KeyError, AttributeError, IndexError) as error:
        return type(error).__name__
    return "nothing"
