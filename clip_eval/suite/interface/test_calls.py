"""A call depends on its inputs alone: it keeps no state and changes nothing of the caller's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from clip_eval.families.family import EntryPoint
from clip_eval.families.registry import ENTRY_POINTS
from clip_eval.families.roles import MODEL_CLASSES, TEXT, VISION
from clip_eval.run.evidence import Evidence
from clip_eval.subject import Subject
from clip_eval.subject.observations import Clip
from clip_eval.subject.output_tree import tensors_of
from clip_eval.subject.tiny_clip import small_inputs, small_subject
from clip_eval.verdict.compare import Compare

IMAGES, TEXTS = 2, 3
STATES: dict[str, Any] = {"output_hidden_states": True}

pytestmark = [
    pytest.mark.needs("loading", "objects"),
    pytest.mark.shallow,
    # transformers 4 warns where get_*_features pass over an option, which no check here judges.
    pytest.mark.filterwarnings("ignore:The following named arguments are not valid:UserWarning"),
]

every_entry = pytest.mark.parametrize("entry", ENTRY_POINTS, ids=str)
every_class = pytest.mark.parametrize("model_class", MODEL_CLASSES)


@every_entry
def test_the_same_call_gives_the_same(clip: Clip, compare: Compare, entry: EntryPoint) -> None:
    """The same call twice in a row gives the same in every bit of every tensor."""
    inputs = clip.subject.tensors(clip.inputs(entry, images=IMAGES, texts=TEXTS, mask="interior"))
    first = _kept(clip.enter(entry, inputs, **STATES), entry)
    _same(compare, clip.enter(entry, inputs, **STATES), first, entry, "again")


@every_entry
def test_other_calls_leave_no_trace(clip: Clip, compare: Compare, entry: EntryPoint) -> None:
    """Calls with other inputs, sizes, masks, options, attention or gradients change neither later results nor outputs
    returned before.
    """
    inputs = clip.subject.tensors(clip.inputs(entry, images=IMAGES, texts=TEXTS, mask="interior"))
    returned = clip.enter(entry, inputs)
    first = _kept(returned, entry)
    _other_calls(clip, entry)
    _same(compare, returned, first, entry, "as returned before other calls")
    _same(compare, clip.enter(entry, inputs), first, entry, "after other calls")


@every_entry
def test_outputs_belong_to_the_caller(clip: Clip, compare: Compare, entry: EntryPoint) -> None:
    """Overwriting every tensor that a call returned changes no later result and no weight.

    Normalising features in place is common, and would break a model whose output is a view of a weight, a buffer or a
    cache.
    """
    inputs = clip.subject.tensors(clip.inputs(entry, images=IMAGES, texts=TEXTS))
    returned = clip.enter(entry, inputs, **STATES)
    first = _kept(returned, entry)
    for tensor in tensors_of(returned, str(entry)).values():
        tensor.zero_()
    _same(compare, clip.enter(entry, inputs, **STATES), first, entry, "after overwriting an earlier output")


@every_entry
def test_inputs_are_left_alone(clip: Clip, compare: Compare, entry: EntryPoint) -> None:
    """A call leaves the caller's ids, mask and pixels unchanged: values, shape, dtype and layout."""
    asking = {**STATES, "output_attentions": True, "attention": "eager"}
    for mask, options in (("padding", {}), ("interior", {}), ("interior", asking)):
        inputs = clip.subject.tensors(clip.inputs(entry, images=IMAGES, texts=TEXTS, mask=mask))
        before = {name: (tensor.clone(), _form(tensor)) for name, tensor in inputs.items()}
        clip.enter(entry, inputs, **options)
        for name, (values, form) in before.items():
            compare.equal(_form(inputs[name]), form, name=f"form of {name} after {entry}")
            compare.equal(inputs[name], values, name=f"{name} after {entry}")


@every_class
def test_training_mode_and_back(clip: Clip, compare: Compare, model_class: str) -> None:
    """A model that was called in training mode and put back gives what it gave before, bit for bit."""
    entry = _forward(model_class)
    inputs = clip.subject.tensors(clip.inputs(entry, images=IMAGES, texts=TEXTS))
    first = _kept(clip.enter(entry, inputs), entry)
    _in_training(clip.subject, model_class, lambda: clip.enter(entry, inputs))
    _same(compare, clip.enter(entry, inputs), first, entry, "after training mode")


@every_class
def test_training_mode_without_dropout_changes_nothing(
    clip: Clip, compare: Compare, evidence: Evidence, model_class: str
) -> None:
    """With attention_dropout 0, as in released CLIPs, training mode computes what evaluation mode does, bit for bit."""
    if any(_dropouts(clip).values()):
        evidence.not_applicable(f"the config has attention_dropout {_dropouts(clip)}")
    entry = _forward(model_class)
    inputs = clip.subject.tensors(clip.inputs(entry, images=IMAGES, texts=TEXTS))
    first = _kept(clip.enter(entry, inputs), entry)
    trained = _in_training(clip.subject, model_class, lambda: clip.enter(entry, inputs))
    _same(compare, trained, first, entry, "in training mode")


@pytest.mark.parametrize("attention", [None, "eager"], ids=["default", "eager"])
def test_dropout_acts_in_training_alone(clip: Clip, compare: Compare, tmp_path: Path, attention: str | None) -> None:
    """attention_dropout of the config drops attention weights in training mode only.

    Shown on a tiny model of the same kind, with and without it. Half of the attention weights are dropped at random, so
    all stay with a probability below 2e-15.
    """
    dropping = {"attention_dropout": 0.5}
    plain = small_subject(tmp_path / "plain", clip.subject, text={"attention_dropout": 0.0})
    small = small_subject(tmp_path / "dropping", clip.subject, text=dropping, vision=dropping)
    expected = _small_states(plain, attention)
    compare.equal(_small_states(small, attention), expected, name="states in evaluation mode with dropout")
    trained = _in_training(small, _tower_class(small), lambda: _small_states(small, attention))
    compare.equal(bool((trained == expected).all()), False, name="states in training mode are those without dropout")


@every_class
def test_models_share_nothing(clip: Clip, compare: Compare, tmp_path: Path, model_class: str) -> None:
    """Two models loaded from one checkpoint share no weight and no state: changing one leaves the other unchanged.

    Shown on a tiny model of the same kind.
    """
    subject = small_subject(tmp_path, clip.subject)
    entry = _forward(model_class)
    tensors = small_inputs(subject, entry)
    first = _kept(subject.call(model_class, **tensors), entry)
    other = subject.load_again(model_class)
    for parameter in other.parameters():
        parameter.data.zero_()
    for buffer in other.buffers():
        buffer.zero_()
    other(**tensors, **STATES)
    _same(compare, subject.call(model_class, **tensors), first, entry, "beside another model")


def _other_calls(clip: Clip, entry: EntryPoint) -> None:
    """One call of each other kind."""
    for images, texts, mask in ((IMAGES + 2, TEXTS + 2, "none"), (1, 1, "padding"), (IMAGES, TEXTS, "padding")):
        inputs = clip.subject.tensors(clip.inputs(entry, images=images, texts=texts, mask=mask))
        clip.enter(entry, inputs, **STATES)
    shorter = {
        name: tensor[:, : tensor.shape[1] // 2] if name != "pixel_values" else tensor.flip(0).flip(-1)
        for name, tensor in inputs.items()
    }  # (texts, tokens), (images, channels, height, width)
    clip.enter(entry, shorter, gradients=True)
    clip.enter(entry, inputs, **STATES, output_attentions=True, attention="eager")


def _small_states(subject: Subject, attention: str | None) -> Any:
    inputs = small_inputs(subject, _forward(_tower_class(subject)))
    return subject.call(_tower_class(subject), **inputs, attention=attention).last_hidden_state


def _tower_class(subject: Subject) -> str:
    return TEXT if subject.checkpoint.holds.texts else VISION


def _in_training(subject: Subject, model_class: str, call: Callable[[], Any]) -> Any:
    model = subject.model(model_class)
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    try:
        return call()
    finally:  # restore the mode as it was; whether it was right is another check
        for module, mode in modes:
            module.training = mode


def _dropouts(clip: Clip) -> dict[str, float]:
    raw = clip.subject.checkpoint.raw_config
    sections = {name: raw.get(name) for name in ("text_config", "vision_config")}
    return {
        name: float(section.get("attention_dropout") or 0.0) if isinstance(section, Mapping) else 0.0
        for name, section in sections.items()
    }


def _forward(model_class: str) -> EntryPoint:
    return next(entry for entry in ENTRY_POINTS if entry.model_class == model_class and entry.method == "forward")


def _form(tensor: Any) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)} {tensor.stride()} requires_grad={tensor.requires_grad}"


def _kept(output: Any, entry: EntryPoint) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in tensors_of(output, str(entry)).items()}


def _same(compare: Compare, observed: Any, expected: dict[str, Any], entry: EntryPoint, when: str) -> None:
    observed_leaves = tensors_of(observed, str(entry))
    compare.equal(sorted(observed_leaves), sorted(expected), name=f"tensors of {entry} {when}")
    for name, value in expected.items():
        compare.equal(observed_leaves[name], value, name=f"{name} {when}")
