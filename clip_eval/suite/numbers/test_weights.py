"""The weights in memory are those of the file."""

from __future__ import annotations

import numpy as np
import pytest

from clip_eval.families.roles import MODEL_CLASSES
from clip_eval.subject.observations import Clip
from clip_eval.verdict.compare import Compare

NARROW = ("bfloat16", "float16")
"""Stored dtypes that float32 is rounded to."""


@pytest.mark.parametrize("model_class", MODEL_CLASSES)
def test_every_weight_is_loaded(clip: Clip, compare: Compare, model_class: str) -> None:
    """Loading leaves no weight missing, unexpected or of another shape.

    transformers only prints a report and continues with random values, or refuses. Other checks of a class that does
    not load every weight are not run, with a reference to this one.
    """
    if finding := clip.runtime.loading_finding(model_class):
        raise finding
    report = clip.runtime.loading_report(model_class)
    for kind, names in (
        ("missing", report.missing),
        ("unexpected", report.unexpected),
        ("mismatched", report.mismatched),
    ):
        compare.equal(names, (), name=f"{kind} weights of {model_class}")


@pytest.mark.needs("weights")
@pytest.mark.parametrize("model_class", MODEL_CLASSES)
def test_values_are_those_of_the_file(clip: Clip, compare: Compare, model_class: str) -> None:
    """Every tensor in memory equals the file's, rounded to the subject's dtype, in every element.

    A tensor that was initialised, transposed, tied or cast on the way computes something else. Of a variant, such as
    model.fp16.safetensors beside model.safetensors, each is that of the file without variant, rounded.
    """
    _judge_variant(clip, compare, model_class)
    expected = clip.checkpoint.weights(clip.dtype)
    seen = 0
    for name, values in clip.subject.state(model_class):
        if name.endswith(".position_ids"):
            continue  # a buffer of 0, 1, 2, ..., which some releases have in the state dict
        compare.equal(values, expected[name], name=f"{model_class} {name}", module=name.rpartition(".")[0])
        seen += 1
    compare.equal(seen > 0, True, name=f"{model_class} has weights")


def test_values_are_finite(clip: Clip, compare: Compare) -> None:
    """No weight of the file is NaN or infinite, nor becomes so in the subject's dtype."""
    weights = clip.checkpoint.weights(clip.dtype)
    for name in weights:
        broken = int(np.count_nonzero(~np.isfinite(weights[name])))
        compare.equal(broken, 0, name=f"non-finite values in {name}", module=name.rpartition(".")[0])


@pytest.mark.needs("weights")
@pytest.mark.parametrize("model_class", MODEL_CLASSES)
def test_dtype_and_device_are_those_asked_for(clip: Clip, compare: Compare, model_class: str) -> None:
    """Every floating-point weight has the requested dtype and is on the requested device."""
    for name, dtype, device in clip.subject.placement(model_class):
        compare.equal(dtype, clip.dtype, name=f"dtype of {model_class} {name}", module=name.rpartition(".")[0])
        compare.equal(device, clip.subject.device.partition(":")[0], name=f"device of {model_class} {name}")


@pytest.mark.needs("modules")
@pytest.mark.parametrize("model_class", MODEL_CLASSES)
def test_model_is_in_evaluation_mode(clip: Clip, compare: Compare, model_class: str) -> None:
    """A loaded model is in evaluation mode, with all its modules."""
    training = [
        name or model_class for name, module in clip.subject.model(model_class).named_modules() if module.training
    ]
    compare.equal(training, [], name=f"modules of {model_class} in training mode")


def _judge_variant(clip: Clip, compare: Compare, model_class: str) -> None:
    """Compare each weight of a variant with the one that it is a variant of, both in the narrower of their dtypes."""
    original = clip.checkpoint.original()
    if original is None:
        return
    dtypes = {clip.checkpoint.dtype, original.dtype} & set(NARROW) or {"float32"}
    if len(dtypes) > 1:  # bfloat16 and float16 round to different numbers
        return
    dtype = next(iter(dtypes))
    here, there = clip.checkpoint.digests(dtype), original.digests(dtype)
    for name in filter(lambda name: clip.family.belongs_to(name, model_class), here):
        same = here[name] == there.get(name)
        compare.equal(same, True, name=f"{name} is that of model.safetensors", module=name.rpartition(".")[0])
