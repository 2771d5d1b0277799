"""Teacher forcing: each module judged by itself, in the order of computation, and named by its path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clip_eval.oracle.expected.modules import Point
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings
from clip_eval.subject.forced_pass import ProbeSlice, forced_pass
from clip_eval.subject.observations import Clip, Question

LAYER = "text_model.encoder.layers.1"


@pytest.fixture(scope="module")
def healthy(bare_model: Path) -> Session:
    """A session whose reference all tests share."""
    return Session(Settings(model=str(bare_model)))


@pytest.fixture
def session(bare_model: Path, healthy: Session) -> Session:
    """A session whose model a test may spoil."""
    fresh = Session(Settings(model=str(bare_model)))
    fresh.candidate.__dict__["oracle"] = healthy.candidate.oracle
    return fresh


def _spoil(session: Session, module: str, forward: Callable[..., Any], *, model_class: str = "CLIPTextModel") -> None:
    found = session.candidate.subject.modules(model_class)[module]
    original = found.forward
    found.forward = lambda *args, **kwargs: forward(original, *args, **kwargs)


def _question(clip: Clip, model_class: str, **options: Any) -> Question:
    texts, images = clip.texts(4, "interior"), clip.images(3)
    inputs = {"CLIPModel": {**texts, **images}, "CLIPTextModel": texts, "CLIPVisionModel": images}[model_class]
    return Question(model_class, "forward", inputs, options)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("model_class", ["CLIPModel", "CLIPTextModel", "CLIPVisionModel"])
def test_healthy_modules_are_right(healthy: Session, model_class: str, attention: str) -> None:
    """On a healthy model every value lies within its bound, every leaf is seen, and no hook stays behind."""
    question = _question(healthy.candidate.clip, model_class, attention=attention)
    found = forced_pass(healthy.candidate.clip, healthy.candidate.oracle, question)
    assert found is not None
    assert found.unseen == ()
    assert [
        comparison.name
        for comparisons in found.comparisons.values()
        for comparison in comparisons
        if not comparison.is_right
    ] == []
    modules = healthy.candidate.subject.modules(model_class).values()
    assert [module for module in modules if module._forward_hooks or module._forward_pre_hooks] == []


def test_looks_follow_the_computation(healthy: Session) -> None:
    """Values come in the order of computation, each tensor once: what leaves one leaf and enters the next is one."""
    found = forced_pass(
        healthy.candidate.clip, healthy.candidate.oracle, _question(healthy.candidate.clip, "CLIPTextModel")
    )
    assert found is not None
    names = [comparison.name for comparison in found.comparisons["text"] if f"{LAYER}." in comparison.name]
    leaves = ["layer_norm1", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"]
    kept = [name.removeprefix(f"output of {LAYER}.") for name in names if name.startswith("output")]
    assert kept == [*leaves, "layer_norm2", "mlp.fc1", "mlp.activation_fn", "mlp.fc2"]
    assert f"input of {LAYER}.self_attn.out_proj" in names


@pytest.mark.parametrize(
    ("module", "place"),
    [
        ("self_attn.k_proj", "self_attn.k_proj"),
        ("self_attn", "self_attn"),
        ("mlp", "mlp"),
        ("layer_norm2", "layer_norm2"),
        ("mlp.activation_fn", "mlp.activation_fn"),
        ("", ""),
    ],
)
def test_the_module_that_is_wrong_is_named(session: Session, module: str, place: str) -> None:
    """A module whose result is off by a thousandth is named, and not one that holds it, or comes after it."""

    def off(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        output = original(*args, **kwargs)
        return (output[0] * 1.001, *output[1:]) if isinstance(output, tuple) else output * 1.001

    _spoil(session, f"{LAYER}.{module}".rstrip("."), off)
    observed = session.candidate.clip.text_model(texts=4, mask="interior").pooler_output
    named = session.candidate.localiser.first_divergence("text_model", observed)
    assert named == f"{LAYER}.{place}".rstrip(".")


def test_what_lies_between_leaves_is_named(session: Session) -> None:
    """The attention between v_proj and out_proj has no module of its own: self_attn is named."""
    session.candidate.subject.modules("CLIPTextModel")[f"{LAYER}.self_attn"].scale *= 1.001
    observed = session.candidate.clip.text_model(texts=4).last_hidden_state
    assert session.candidate.localiser.first_divergence("text_model.final_layer_norm", observed) == f"{LAYER}.self_attn"


def test_a_leaf_that_is_not_called_is_named(session: Session) -> None:
    """Where the activation is no longer called as a module, what enters fc2 tells of it."""
    modules = session.candidate.subject.modules("CLIPTextModel")
    mlp = modules[f"{LAYER}.mlp"]
    mlp.forward = lambda hidden_states: mlp.fc2(mlp.fc1(hidden_states).relu())
    observed = session.candidate.clip.text_model(texts=4).pooler_output
    assert session.candidate.localiser.first_divergence("text_model", observed) == f"{LAYER}.mlp.activation_fn"


def test_the_class_token_alone_is_the_class_embedding(session: Session) -> None:
    """Embeddings that are wrong in the class token only point at its parameter, which no module holds."""

    def off(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        tokens = original(*args, **kwargs)
        tokens[:, 0] += 0.5
        return tokens

    _spoil(session, "vision_model.embeddings", off, model_class="CLIPVisionModel")
    observed = session.candidate.clip.vision_model(images=2).pooler_output
    named = session.candidate.localiser.first_divergence("vision_model.post_layernorm", observed)
    assert named == "vision_model.embeddings.class_embedding"


def test_without_an_answer_the_whole_model_is_asked(session: Session) -> None:
    """A number that no call returned is traced by asking the whole model."""

    def off(original: Callable[..., Any], x: Any) -> Any:
        return original(x) * 1.001

    _spoil(session, "visual_projection", off, model_class="CLIPModel")
    assert session.candidate.localiser.first_divergence("logit_scale", 3.0) == "visual_projection"
    assert session.candidate.localiser.first_divergence("text_projection", 3.0) == "text_projection"


def test_nothing_wrong_leaves_the_place(healthy: Session) -> None:
    """Where every module is right, the place where the difference showed stands, and no place stays none."""
    observed = healthy.candidate.clip.text_model(texts=4, output_hidden_states=True).hidden_states[1]
    assert healthy.candidate.localiser.first_divergence(f"{LAYER}", observed) == LAYER
    assert healthy.candidate.localiser.first_divergence(None, observed) is None
    assert healthy.candidate.localiser.first_divergence(None) is None
    assert healthy.candidate.localiser.first_divergence(f"{LAYER}.mlp.fc1") == f"{LAYER}.mlp.fc1"


def test_a_module_that_writes_over_its_input_is_judged_on_what_it_got(session: Session) -> None:
    """What a module was given is kept as it was, though the module changes it in place."""

    def grow(original: Callable[..., Any], x: Any) -> Any:
        output = original(x)
        x *= 2
        return output

    _spoil(session, f"{LAYER}.mlp.fc2", grow)
    found = forced_pass(
        session.candidate.clip, session.candidate.oracle, _question(session.candidate.clip, "CLIPTextModel")
    )
    assert found is not None
    assert all(comparison.is_right for comparison in found.comparisons["text"])


def test_questions_are_matched_with_the_probe(healthy: Session) -> None:
    """A question is about the probe where its inputs are the first of it; other inputs have no expected values."""
    clip, batch = healthy.candidate.clip, healthy.candidate.batch
    ids = batch.input_ids[:3, :7]  # (texts, tokens)
    assert ProbeSlice.of(Question("CLIPTextModel", "forward", {"input_ids": ids}, {}), batch) == ProbeSlice(
        0, 3, 7, "padding"
    )
    assert ProbeSlice.of(_question(clip, "CLIPModel"), batch) == ProbeSlice(3, 4, batch.input_ids.shape[1], "interior")
    others = {"input_ids": batch.input_ids[::-1]}
    assert ProbeSlice.of(Question("CLIPTextModel", "forward", others, {}), batch) is None
    pixels = {"pixel_values": batch.pixel_values[:1], "interpolate": np.zeros(1)}
    assert ProbeSlice.of(Question("CLIPVisionModel", "forward", pixels, {}), batch) is None


def test_bounds_are_of_one_module(healthy: Session) -> None:
    """Looked-up embeddings and what was given are exact; a bound is far smaller than that of the whole tower."""
    modules = healthy.candidate.oracle.modules("interior")
    table, given = "text_model.embeddings.token_embedding", f"{LAYER}.layer_norm1"
    assert not modules.points[Point(table, "output")].bound.any()
    assert not modules.points[Point(given, "input")].bound.any()
    local = modules.points[Point("text_model", "last_hidden_state")].bound
    whole = healthy.candidate.oracle.text(texts=5, mask="interior").last_hidden_state.bound
    assert np.median(local) < np.median(whole) / 2


def test_cut_values_stay_shared(healthy: Session) -> None:
    """The first rows and tokens of a value that several points share are made once."""
    cut = healthy.candidate.oracle.modules("interior").rows(2).tokens(5)
    leaves, enters = (
        Point(f"{LAYER}.layer_norm1", "output"),
        Point(f"{LAYER}.self_attn.q_proj", "input"),
    )
    assert cut.points[leaves] is cut.points[enters]
    assert cut.points[leaves].value.shape[:2] == (2, 5)
    assert cut.points[Point("text_model.embeddings.position_embedding", "output")].value.shape[0] == 5
    assert Point("text_model", "pooler_output") not in cut.points
