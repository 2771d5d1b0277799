"""Gradients: training passes them to every weight, and they are the derivative of the outputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clip_eval.families.family import EntryPoint
from clip_eval.families.registry import ENTRY_POINTS, entry_point
from clip_eval.families.roles import MODEL_CLASSES
from clip_eval.oracle.expected.directional_derivative import direction, logit_factors, slope
from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.probes.batches import Batch
from clip_eval.run.evidence import Evidence
from clip_eval.subject import projected_features
from clip_eval.subject.observations import Clip
from clip_eval.subject.output_tree import tensors_of
from clip_eval.verdict import budgets
from clip_eval.verdict.compare import Compare, Expected, to_array

ROWS = 3
TOKENS = 12
"""Tokens of the texts for the derivative; the reference runs four times."""

pytestmark = pytest.mark.needs("gradients", "objects")
every_class = pytest.mark.parametrize("model_class", MODEL_CLASSES)


@every_class
def test_weights_are_ready_to_be_trained(clip: Clip, compare: Compare, model_class: str) -> None:
    """Every weight of a loaded model is a parameter that requires a gradient, and gradient checkpointing is off."""
    model = clip.subject.model(model_class)
    for name, parameter in model.named_parameters():
        compare.equal(bool(parameter.requires_grad), True, name=f"{name} of {model_class} requires a gradient")
    recomputing = [name for name, module in model.named_modules() if getattr(module, "gradient_checkpointing", False)]
    compare.equal(recomputing, [], name=f"modules of {model_class} with gradient checkpointing")


@every_class
def test_they_reach_every_weight(clip: Clip, compare: Compare, model_class: str) -> None:
    """A gradient reaches every weight: of CLIPModel from its loss, of each tower from its pooled state or embedding.

    It is finite in float32 and bfloat16, and in float32 no tensor's gradient is all zero. The bias of the keys is
    excepted: softmax is invariant to it. Float16 over- and underflows in training without loss scaling.
    """
    entry = next(entry for entry in ENTRY_POINTS if entry.model_class == model_class and entry.method == "forward")
    scalar = _scalar(clip, entry)
    seen = 0
    for name, gradient in clip.subject.gradients(model_class, scalar):
        compare.equal(gradient is not None, True, name=f"a gradient reaches {name}", module=name.rpartition(".")[0])
        if clip.dtype != "float16":
            finite = bool(gradient.isfinite().all())
            compare.equal(finite, True, name=f"the gradient of {name} is finite", module=name.rpartition(".")[0])
        if clip.dtype == "float32" and not name.endswith("k_proj.bias"):
            compare.equal(bool(gradient.any()), True, name=f"the gradient of {name} is not zero")
        seen += 1
    compare.equal(seen > 0, True, name=f"{model_class} has weights")


@pytest.mark.shallow
@pytest.mark.parametrize("entry", ENTRY_POINTS, ids=str)
def test_recording_them_changes_no_value(clip: Clip, oracle: Oracle, compare: Compare, entry: EntryPoint) -> None:
    """With gradients enabled every output requires one, with gradients disabled none does, and the values are the
    reference's either way.
    """
    inputs = clip.subject.tensors(clip.inputs(entry, images=ROWS, texts=ROWS))
    plain = clip.enter(entry, inputs)
    recorded = clip.enter(entry, inputs, gradients=True)
    for name, tensor in tensors_of(plain, str(entry)).items():
        compare.equal(bool(tensor.requires_grad), False, name=f"{name} carries a gradient while they are disabled")
    for name, tensor in tensors_of(recorded, str(entry)).items():
        compare.equal(bool(tensor.requires_grad), True, name=f"{name} carries a gradient")
    for name, observed, expected in _judged(clip, oracle, entry, recorded):
        compare.close(observed, expected, name=f"{name} of {entry} with gradients")


def test_they_are_the_slope_of_the_logits(clip: Clip, oracle: Oracle, compare: Compare, evidence: Evidence) -> None:
    """Along a direction that moves every weight of CLIPModel, the gradients give the derivative of the reference's
    logits.

    Of a tower alone they give that of its embeddings or pooled states. A layer cut off from the backward pass, or a
    missing factor in it, spoils training while every output is right.
    """
    if clip.dtype != "float32":
        evidence.not_applicable("judged in float32: gradients of 16 bit are too coarse to tell")
    batch = _few(clip.batch)
    expected = slope(clip.family.network, oracle.weights, clip.config, batch, towers=clip.holds.towers)
    entry = entry_point(clip.holds.main_class)
    few = clip.on(batch)
    output = clip.enter(entry, clip.subject.tensors(few.inputs(entry, images=ROWS, texts=ROWS)), gradients=True)
    values = output.logits_per_text if clip.holds.whole else _pooled(clip, entry, output)
    factors = clip.subject.tensors({"factors": logit_factors(*values.shape)})["factors"].to(values.dtype)
    observed, squares = 0.0, 0.0
    for name, gradient in clip.subject.gradients(entry.model_class, (values * factors).sum()):
        compare.equal(gradient is not None, True, name=f"a gradient reaches {name}")
        products = to_array(gradient) * direction(name, oracle.weights[name])  # the shape of the weight
        observed += float(products.sum())
        squares += float(np.square(products).sum())
    budget = budgets.slope(_relative_error(oracle), squares**0.5)
    slope_of = "logits" if clip.holds.whole else "pooled states"
    compare.within(np.asarray(observed), np.asarray(expected), budget, name=f"slope of the {slope_of}")


def _scalar(clip: Clip, entry: EntryPoint) -> Any:
    """One number that depends on every pooled output of a model."""
    inputs = clip.subject.tensors(clip.inputs(entry, images=ROWS, texts=ROWS))
    if entry.model_class == "CLIPModel":
        return clip.enter(entry, inputs, gradients=True, return_loss=True).loss
    pooled = _pooled(clip, entry, clip.enter(entry, inputs, gradients=True))  # (rows, channels)
    factors = {"factors": np.linspace(-1, 1.5, pooled.numel(), dtype=np.float32).reshape(pooled.shape)}
    return (pooled * clip.subject.tensors(factors)["factors"].to(pooled.dtype)).sum()


def _pooled(clip: Clip, entry: EntryPoint, output: Any) -> Any:
    if entry.method != "forward":
        return projected_features(output, clip.release)
    if entry.model_class.endswith("WithProjection"):
        return output.text_embeds if entry.texts else output.image_embeds
    return output.pooler_output


def _judged(clip: Clip, oracle: Oracle, entry: EntryPoint, output: Any) -> list[tuple[str, Any, Expected]]:
    """Name, observed and expected value of an entry point's pooled outputs."""
    if entry.model_class == "CLIPModel" and entry.method == "forward":
        head = oracle.forward(images=ROWS, texts=ROWS)
        names = ("text_embeds", "image_embeds", "logits_per_text", "logits_per_image")
        return [(name, output[name], getattr(head, name)) for name in names]
    oracle = oracle.of(entry.model_class)
    tower = oracle.text(texts=ROWS) if entry.texts else oracle.vision(images=ROWS)
    plain = entry.model_class in ("CLIPTextModel", "CLIPVisionModel")
    return [("pooled state", _pooled(clip, entry, output), tower.pooler_output if plain else tower.projected)]


def _few(batch: Batch) -> Batch:
    """Two short texts and two images."""
    rows, cut = slice(1, 3), (slice(1, 3), slice(None, TOKENS))
    return replace(
        batch,
        pixel_values=batch.pixel_values[rows],
        input_ids=batch.input_ids[cut],
        attention_mask=batch.attention_mask[cut],
        interior_mask=batch.interior_mask[cut],
    )


def _relative_error(oracle: Oracle) -> float:
    """Root mean square rounding error of the states of all towers, each relative to the size of its state."""
    towers = [oracle.text(texts=ROWS) if name == "text" else oracle.vision(images=ROWS) for name in oracle.holds.towers]
    states = [
        state
        for tower in towers
        for state in (*tower.hidden_states, tower.pooler_output, tower.embedding)
        if state is not None
    ]
    relative = [_root_mean_square(state.bound) / _root_mean_square(state.value) for state in states]
    return _root_mean_square(np.asarray(relative)) / budgets.SIGMAS


def _root_mean_square(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.square(values).mean()))
