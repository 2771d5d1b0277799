"""CLIPForImageClassification: the mean of the patches through a classifier, and the loss of each problem_type.

from_pretrained makes a classifier of any CLIP: it takes the vision tower and adds a new linear layer. Shown on a tiny
model of the candidate's kind, with a classifier drawn from a seed, or on the candidate if that is a classifier.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clip_eval.checkpoint.dtypes import round_values
from clip_eval.families.roles import CLASSIFIER
from clip_eval.oracle.expected.classifier import expected_loss
from clip_eval.subject.call_outcomes import ask
from clip_eval.subject.observations import Clip
from clip_eval.subject.output_tree import as_tuple, present_fields
from clip_eval.suite._calls import expect_same
from clip_eval.suite._classifier import CLASSES, Classifier, classifier
from clip_eval.suite._images import raised
from clip_eval.verdict.compare import Compare, to_array

pytestmark = pytest.mark.needs("loading", "objects", "options")

STATES: Mapping[str, Any] = {"output_hidden_states": True, "output_attentions": True}
FIELDS = ["loss", "logits", "hidden_states", "attentions"]


@dataclass(frozen=True, slots=True)
class Problem:
    """A kind of labels: how many a model has, their values, and the problem_type."""

    labels: int
    kind: str
    type: str


PROBLEMS: Mapping[str, Problem] = {
    "one_number": Problem(1, "numbers", "regression"),
    "a_choice": Problem(CLASSES, "choices", "single_label_classification"),
    "flags": Problem(CLASSES, "flags", "multi_label_classification"),
}
"""Labels from which problem_type is inferred, if none is set."""

STATED: Mapping[str, Problem] = {
    **PROBLEMS,
    "numbers": Problem(CLASSES, "numbers", "regression"),
    "a_single_flag": Problem(1, "flags", "multi_label_classification"),
}


@pytest.fixture
def three(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """The default classifier."""
    clip.holds.require(CLASSIFIER)
    return classifier(clip, tmp_path_factory)


@pytest.mark.parametrize("attention", [None, "eager"], ids=["default", "eager"])
@pytest.mark.parametrize("labels", [1, CLASSES])
def test_logits_are_those_of_the_patches(
    clip: Clip, compare: Compare, tmp_path_factory: pytest.TempPathFactory, labels: int, attention: str | None
) -> None:
    """Logits are the classifier's output for the last hidden state, averaged over the patches without the class
    token.
    """
    model = classifier(clip, tmp_path_factory, labels)
    observed = model.call(attention=attention).logits
    compare.close(observed, model.expected_logits(), name=f"logits of {labels} labels", module="classifier")


def test_states_are_the_towers(compare: Compare, three: Classifier) -> None:
    """Hidden states and attention maps are those of the vision tower, one a layer and in order, and are returned on
    request only.
    """
    out, expected = three.call(attention="eager", **STATES), three.oracle().vision(images=len(three.batch.pixel_values))
    for name in ("hidden_states", "attentions"):
        wanted = getattr(expected, name)
        compare.equal(type(out[name]).__name__, "tuple", name=f"type of {name}")
        compare.equal(len(out[name]), len(wanted), name=f"number of {name}")
        for index, (state, value) in enumerate(zip(out[name], wanted, strict=True)):
            compare.close(state, value, name=f"{name}[{index}]", module="vision_model")
        option: dict[str, Any] = {f"output_{name}": True}
        asked = three.call(attention="eager", **option)
        compare.equal(list(present_fields(asked)), ["logits", name], name=f"fields with output_{name}")
        expect_same(compare, asked[name], out[name], name)
    compare.equal(list(present_fields(three.call())), ["logits"], name="fields by default")


def test_fields_come_in_order(compare: Compare, three: Classifier) -> None:
    """The output is an ImageClassifierOutput of loss, logits, hidden_states and attentions, as an object, a dict and
    the tuple of return_dict=False; return_dict=True is the default.
    """
    labels, _ = three.labels_of("choices")
    for options, fields in (({}, ["logits"]), ({"labels": labels, **STATES}, FIELDS)):
        out = three.call(attention="eager", **options)
        compare.equal(type(out).__name__, "ImageClassifierOutput", name="type of the output")
        compare.equal(list(out.keys()), fields, name="fields of the output")
        for position, name in enumerate(fields):
            held = getattr(out, name) is out[name] and out[position] is out[name]
            compare.equal(held, True, name=f"{name} by attribute, by name and by position is one thing")
        expect_same(compare, out.to_tuple(), as_tuple(out), "to_tuple()")
        plain = three.call(attention="eager", return_dict=False, **options)
        expect_same(compare, plain, as_tuple(out), "return_dict=False")
        expect_same(compare, three.call(attention="eager", return_dict=True, **options), out, "return_dict=True")


@pytest.mark.parametrize("problem", list(PROBLEMS))
def test_problems_are_inferred(
    clip: Clip, compare: Compare, tmp_path_factory: pytest.TempPathFactory, problem: str
) -> None:
    """Without a problem_type one label means regression, several with integer labels single-label and with float labels
    multi-label classification; the loss is that problem's.
    """
    _judge_loss(compare, classifier(clip, tmp_path_factory, PROBLEMS[problem].labels), PROBLEMS[problem], stated=False)


@pytest.mark.parametrize("problem", list(STATED))
def test_problems_are_stated(
    clip: Clip, compare: Compare, tmp_path_factory: pytest.TempPathFactory, problem: str
) -> None:
    """With a problem_type in the config the loss is the mean squared error, the cross entropy, or the binary cross
    entropy of the logits, whatever the labels are.
    """
    _judge_loss(compare, classifier(clip, tmp_path_factory, STATED[problem].labels), STATED[problem], stated=True)


def _judge_loss(compare: Compare, model: Classifier, problem: Problem, *, stated: bool) -> None:
    given, values = model.labels_of(problem.kind)
    out = model.call(labels=given, problem=problem.type if stated else None)
    compare.equal(out.logits, model.call().logits, name="logits beside a loss")
    expected = expected_loss(problem.type, to_array(out.logits), values, model.subject.precision)
    compare.close(out.loss, expected, name=f"{problem.type} loss of {problem.labels} labels")
    compare.equal(str(out.loss.dtype), str(out.logits.dtype), name="dtype of the loss")


def test_an_unknown_problem_is_refused(compare: Compare, three: Classifier) -> None:
    """An unknown problem_type is refused, not replaced by another."""
    labels, _ = three.labels_of("choices")
    refusal = raised(lambda: three.call(labels=labels, problem="no_such_problem"))
    compare.equal(refusal != "nothing", True, name=f"an unknown problem_type raises {refusal}")


def test_labels_follow_the_pixels(compare: Compare, three: Classifier) -> None:
    """Labels may be given by position after the pixels; a call without pixels is refused."""
    labels, _ = three.labels_of("choices")
    expect_same(compare, three.call(labels), three.call(labels=labels), "labels by position")
    answer = ask(lambda: three.subject.call(CLASSIFIER, labels=labels), AttributeError)
    compare.equal(answer.refusal is not None, True, name=f"a call without pixels: {answer.outcome}")


def test_images_do_not_mix(compare: Compare, three: Classifier) -> None:
    """Repeating a call gives the same, and each image has the same logits in a smaller batch."""
    whole = three.call()
    expect_same(compare, three.call(), whole, "the same call again")
    expected = three.expected_logits()[:2]
    compare.close(three.call(images=2).logits, expected, name="logits of the first two images")


def test_a_clip_becomes_a_classifier(compare: Compare, three: Classifier) -> None:
    """from_pretrained of a CLIP's directory takes its vision tower, every value as in the file, adds a new classifier
    of num_labels labels, and reports only that as missing.

    Of a candidate that is a classifier nothing is missing, and its classifier is the file's, too.
    """
    report, head = three.small.loading_report(CLASSIFIER), ["classifier.bias", "classifier.weight"]
    missing = [] if three.is_candidate else head
    compare.equal(sorted(report.missing), missing, name="what is missing in a CLIP")
    compare.equal([*report.unexpected, *report.mismatched], [], name="what does not fit in a CLIP")
    model = three.subject.model(CLASSIFIER)
    checkpoint, dtype = three.small.checkpoint, three.subject.dtype
    shape = (three.labels, checkpoint.config.vision.hidden_size)
    compare.equal(int(model.num_labels), three.labels, name="num_labels of the model")
    compare.equal(tuple(model.classifier.weight.shape), shape, name="shape of the classifier")
    held = {three.subject.family.canonical_name(name, CLASSIFIER): value for name, value in model.named_parameters()}
    tower = {name for name in checkpoint.tensors if name.startswith("vision_model.")}
    compare.equal(sorted(held), sorted({*tower, *head}), name="parameters")
    weights = checkpoint.weights(dtype)
    for name in sorted({*tower, *(head if three.is_candidate else ())}):
        compare.equal(held[name], round_values(weights[name].astype(np.float32), dtype), name=name, module=name)


def test_a_classifier_is_saved_and_loaded(compare: Compare, three: Classifier, tmp_path: Path) -> None:
    """A classifier that was saved and loaded gives the same outputs, with the labels and their names."""
    three.subject.save(CLASSIFIER, tmp_path)
    again = three.subject.load_again(CLASSIFIER, tmp_path)
    model = three.subject.model(CLASSIFIER)
    compare.equal(dict(again.config.id2label), dict(model.config.id2label), name="names of the labels")
    for name, value in model.state_dict().items():
        compare.equal(again.state_dict()[name], value, name=f"{name}, saved and loaded")
