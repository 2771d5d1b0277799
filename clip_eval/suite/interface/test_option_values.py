"""Options in every form: True, 1, NumPy's True, a list; False, 0, None; in the config; at load.

Shown on a tiny model of the candidate's kind, as only transformers and the config matter here.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from clip_eval.families.family import EntryPoint
from clip_eval.subject import features_are_tensors
from clip_eval.subject.call_outcomes import ask
from clip_eval.subject.observations import Clip
from clip_eval.subject.output_tree import as_tuple
from clip_eval.suite._calls import Small, every_class, every_entry, expect_same, small
from clip_eval.verdict.compare import Compare
from clip_eval.verdict.deviations import Deviations

pytestmark = pytest.mark.needs("loading", "options")

STATES = ("output_hidden_states", "output_attentions")
TRUE: dict[str, object] = {"1": 1, "numpy.True": np.bool_(True)}
FALSE: dict[str, object] = {"False": False, "0": 0, "numpy.False": np.bool_(False), "None": None}
BOTH = {"output_hidden_states": True, "output_attentions": True, "attention": "eager"}

every_state = pytest.mark.parametrize("option", STATES)


@pytest.fixture
def tiny(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The tiny model."""
    return small(clip, tmp_path_factory)


@every_class
@pytest.mark.parametrize("value", list(TRUE))
def test_true_values_do_what_true_does(
    compare: Compare, deviations: Deviations, tiny: Small, entry: EntryPoint, value: str
) -> None:
    """An option given as 1 or as NumPy's True does what True does, or is refused; it is never ignored."""
    for option in _options(entry):
        expected = tiny.enter(entry, **{option: True}, attention="eager")
        answer = ask(partial(tiny.enter, entry, **{option: TRUE[value]}, attention="eager"))
        name = f"{entry}({option}={value})"
        if option == "output_hidden_states" and value == "1" and deviations.hold("listed-hidden-states"):
            _expect_listed(compare, answer.value, expected, [1], name)
        elif answer.refusal is None:
            expect_same(compare, answer.value, expected, name)
        else:
            compare.equal(bool(str(answer.refusal)), True, name=f"{name} is refused with a reason: {answer.outcome}")


@every_class
@pytest.mark.parametrize("value", list(FALSE))
def test_false_values_do_what_false_does(compare: Compare, tiny: Small, entry: EntryPoint, value: str) -> None:
    """An option given as False, 0, NumPy's False or None is off, as it is by default, or is refused."""
    expected = tiny.enter(entry)
    for option in _options(entry):
        answer = ask(partial(tiny.enter, entry, **{option: FALSE[value]}))
        name = f"{entry}({option}={value})"
        if answer.refusal is None:
            expect_same(compare, answer.value, expected, name)
        else:
            compare.equal(value in ("0", "numpy.False"), True, name=f"{name} may be refused: {answer.outcome}")


@every_class
def test_listed_hidden_states(compare: Compare, deviations: Deviations, tiny: Small, entry: EntryPoint) -> None:
    """output_hidden_states given as a list counts as true: every hidden state is returned, and is right."""
    expected = tiny.enter(entry, output_hidden_states=True)
    observed = tiny.enter(entry, output_hidden_states=[0])
    name = f"{entry}(output_hidden_states=[0])"
    if deviations.hold("listed-hidden-states"):
        _expect_listed(compare, observed, expected, [0], name)
    elif deviations.hold("listed-layers"):
        for where, states in _states(expected).items():
            compare.equal(len(_states(observed)[where]), len(states) - 1, name=f"{name}{where}, number of entries")
            compare.equal(_states(observed)[where][0], states[1], name=f"{name}{where}[0]")
    else:
        expect_same(compare, observed, expected, name)


@every_class
@pytest.mark.parametrize("value", ["False", "0", "numpy.False"])
def test_return_dict_off(compare: Compare, deviations: Deviations, tiny: Small, entry: EntryPoint, value: str) -> None:
    """return_dict given as False, 0 or NumPy's False gives the plain tuple of every field, nested outputs as tuples,
    with hidden states, attention maps and loss too.
    """
    ignored = value != "False" and _ignores_zero(deviations, entry)
    for more in _returned(entry):
        expected = tiny.enter(entry, **more)
        observed = tiny.enter(entry, return_dict=FALSE[value], **more)
        name = f"{entry}({', '.join([f'return_dict={value}', *more])})"
        expect_same(compare, observed, expected if ignored else as_tuple(expected), name)
        if not ignored:
            expect_same(compare, expected.to_tuple(), as_tuple(expected), f"to_tuple() of {name}")


@every_class
@pytest.mark.parametrize("value", ["True", "1", "None"])
def test_return_dict_on(compare: Compare, tiny: Small, entry: EntryPoint, value: str) -> None:
    """return_dict given as True, 1 or None gives the default output object."""
    observed = tiny.enter(entry, return_dict={"True": True, "1": 1, "None": None}[value])
    expect_same(compare, observed, tiny.enter(entry), f"{entry}(return_dict={value})")


@every_class
@every_state
def test_options_in_the_config(
    compare: Compare, deviations: Deviations, tiny: Small, entry: EntryPoint, option: str
) -> None:
    """An option set in the loaded model's config is the default of a call; a call may override it."""
    off = tiny.enter(entry, attention="eager")
    on = tiny.enter(entry, **{option: True}, attention="eager")

    def configured(**options: Any) -> Any:
        return tiny.configured(entry, {option: True}, attention="eager", **options)

    whole = entry.model_class == "CLIPModel"
    unasked = whole and deviations.hold("full-config-is-not-asked")
    expect_same(compare, configured(), off if unasked else on, f"{entry} with config.{option}")
    expect_same(compare, configured(**{option: True}), on, f"{entry}({option}=True) with config.{option}")
    expect_same(compare, configured(**{option: False}), off, f"{entry}({option}=False) with config.{option}")
    silent = unasked or deviations.hold("none-overrules-the-config")
    expect_same(compare, configured(**{option: None}), off if silent else on, f"{entry}({option}=None) with config")
    expect_same(compare, tiny.enter(entry, attention="eager"), off, f"{entry} after config.{option} was put back")


@every_state
@pytest.mark.parametrize("tower", ["text", "vision"])
def test_options_in_a_nested_config(
    clip: Clip, compare: Compare, deviations: Deviations, tiny: Small, option: str, tower: str
) -> None:
    """CLIPModel goes by its own config: an option set in text_config or vision_config changes nothing."""
    entry = clip.family.entry_point("CLIPModel")
    observed = tiny.configured(entry, {f"{tower}_config.{option}": True}, attention="eager")
    expected = tiny.enter(entry, attention="eager")
    if deviations.hold("full-config-is-not-asked"):
        asked = tiny.enter(entry, **{option: True}, attention="eager")
        for name in ("text_model_output", "vision_model_output"):
            wanted = asked if name.startswith(tower) else expected
            expect_same(compare, observed[name], wanted[name], f"CLIPModel's {name} with {tower}_config.{option}")
        return
    expect_same(compare, observed, expected, f"CLIPModel with {tower}_config.{option}")


@every_class
def test_return_dict_in_the_config(compare: Compare, deviations: Deviations, tiny: Small, entry: EntryPoint) -> None:
    """return_dict=False in the config gives tuples by default; return_dict in a call overrides the config."""
    expected = tiny.enter(entry, output_hidden_states=True)
    broken = _breaks(deviations, entry)
    for return_dict, result in ((None, as_tuple(expected)), (False, as_tuple(expected)), (True, expected)):
        options: dict[str, Any] = {} if return_dict is None else {"return_dict": return_dict}
        answer = ask(
            partial(tiny.configured, entry, {"return_dict": False}, output_hidden_states=True, **options),
            AttributeError,
        )
        name = f"{entry}({options}) with config.return_dict=False"
        if broken:
            compare.equal(type(answer.refusal).__name__, "AttributeError", name=f"{name}: {answer.outcome}")
        elif answer.refusal is not None:
            compare.fail(answer.outcome, "an output", name=name)
        else:
            expect_same(compare, answer.value, result, name)


@pytest.mark.parametrize("tower", ["text", "vision"])
def test_return_dict_in_a_nested_config(
    clip: Clip, compare: Compare, deviations: Deviations, tiny: Small, tower: str
) -> None:
    """return_dict=False in text_config or vision_config means nothing to CLIPModel."""
    entry = clip.family.entry_point("CLIPModel")
    values = {f"{tower}_config.return_dict": False}
    answer = ask(lambda: tiny.configured(entry, values), AttributeError)
    name = f"CLIPModel with {tower}_config.return_dict=False"
    if deviations.hold("return-dict-in-a-nested-config-breaks"):
        compare.equal(type(answer.refusal).__name__, "AttributeError", name=f"{name}: {answer.outcome}")
    elif answer.refusal is not None:
        compare.fail(answer.outcome, "what the call returns without it", name=name)
    else:
        expect_same(compare, answer.value, tiny.enter(entry), name)


@every_class
@pytest.mark.parametrize("option", [*STATES, "return_dict"])
def test_options_at_load(compare: Compare, deviations: Deviations, tiny: Small, entry: EntryPoint, option: str) -> None:
    """An option given to from_pretrained is the default of that model's calls.

    Attention maps are requested under eager attention: a model loaded with sdpa by name refuses to return them.
    """
    value = option != "return_dict"
    asked: dict[str, Any] = {option: value}
    if option == "output_attentions":
        asked["attn_implementation"] = "eager"
    model = tiny.subject.load_again(entry.model_class, **asked)
    inputs = tiny.inputs(entry)
    name = f"{entry}.from_pretrained({option}={value})"
    if option == "return_dict" and _breaks(deviations, entry):
        answer = ask(lambda: model(**inputs), AttributeError)
        compare.equal(type(answer.refusal).__name__, "AttributeError", name=f"{name}: {answer.outcome}")
        return
    if value:
        unasked = entry.model_class == "CLIPModel" and deviations.hold("full-config-is-not-asked")
        expected = model(**inputs, **{option: not unasked})
    else:
        expected = as_tuple(tiny.enter(entry))
        expect_same(compare, model(**inputs, return_dict=False), expected, f"{name}(return_dict=False)")
    expect_same(compare, model(**inputs), expected, name)


@every_entry
@every_state
def test_features_take_options(
    clip: Clip, compare: Compare, deviations: Deviations, tiny: Small, entry: EntryPoint, option: str
) -> None:
    """If features come in an output object, hidden states and attention maps come on request, the same as the tower's
    own.
    """
    if entry.method == "forward" or features_are_tensors(clip.release):
        answer = tiny.enter(entry)
        held = entry.method == "forward" or type(answer).__name__ == "Tensor"
        compare.equal(held, True, name=f"{entry} gives a tensor and nothing else")
        return
    own = option.removeprefix("output_")
    observed = tiny.enter(entry, **{option: True}, attention="eager")
    if deviations.hold("nested-states-missing"):
        compare.equal(observed.get(own), None, name=f"{entry} {own}")
        return
    tower = clip.family.entry_point("CLIPTextModel" if entry.texts else "CLIPVisionModel")
    expected = tiny.enter(tower, **{option: True}, attention="eager")
    expect_same(compare, observed[own], expected[own], f"{entry} {own}")
    plain = tiny.enter(entry, attention="eager")
    expect_same(compare, {name: observed[name] for name in plain}, dict(plain.items()), f"{entry} with {own}")
    expect_same(compare, tiny.enter(entry, return_dict=False), as_tuple(tiny.enter(entry)), f"{entry} as a tuple")


def _breaks(deviations: Deviations, entry: EntryPoint) -> bool:
    """Whether return_dict=False in the config of a class is known to break its calls."""
    if entry.model_class == "CLIPModel":
        return deviations.hold("return-dict-in-the-config-breaks")
    projected = entry.model_class.endswith("WithProjection")
    return projected and deviations.hold("return-dict-in-the-config-breaks-projections")


def _ignores_zero(deviations: Deviations, entry: EntryPoint) -> bool:
    """Whether a class is known to take only False itself for return_dict=False."""
    if entry.model_class.endswith("WithProjection"):
        return deviations.hold("zero-return-dict-is-ignored-with-projection")
    return entry.model_class != "CLIPModel" and deviations.hold("zero-return-dict-is-ignored")


def _options(entry: EntryPoint) -> list[str]:
    """The options of an entry point that are on or off."""
    return [name for name in entry.parameters if name.startswith(("output", "return_loss", "interpolate"))]


def _returned(entry: EntryPoint) -> list[dict[str, Any]]:
    """Options that request more outputs, alone and together."""
    loss: list[dict[str, Any]] = [{"return_loss": True}, {"return_loss": True, **BOTH}]
    return [{}, {"output_hidden_states": True}, dict(BOTH), *(loss if entry.model_class == "CLIPModel" else [])]


def _states(output: Any) -> dict[str, Any]:
    """The hidden states in an output, by path."""
    if "hidden_states" in output:
        return {".hidden_states": output.hidden_states}
    nested = [name for name in ("text_model_output", "vision_model_output") if name in output]
    return {f".{name}{path}": states for name in nested for path, states in _states(output[name]).items()}


def _expect_listed(compare: Compare, observed: Any, expected: Any, kept: list[int], name: str) -> None:
    """Assert the hidden states of these numbers, None for the others, and all else as in `expected`."""
    compare.equal(list(_states(observed)), list(_states(expected)), name=f"where {name} has hidden states")
    for where, states in _states(expected).items():
        listed = _states(observed)[where]
        compare.equal(len(listed), len(states), name=f"number of entries, {name}{where}")
        for index, state in enumerate(states):
            compare.equal(listed[index], state if index in kept else None, name=f"{name}{where}[{index}]")
    for field, value in expected.items():
        if field != "hidden_states" and not hasattr(value, "items"):
            expect_same(compare, observed[field], value, f"{name}.{field}")
