"""The oracle against transformers in torch float64: another program, the same mathematics.

Eager attention takes its softmax in float32 whatever the model's dtype, an error of about 1e-8. Where attention maps
are compared, that one function is held to float64; the test without this replacement uses torch's fused attention.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import CLIPConfig, CLIPModel, CLIPTextModelWithProjection, CLIPVisionModelWithProjection
from transformers.activations import ACT2FN

from clip_eval.families.clip.config import parse_config
from clip_eval.families.reference.arithmetic import ACTIVATIONS, EXACT
from clip_eval.oracle import Contrast, TowerStates, contrast, text_tower, vision_tower

# Two float64 programs of some ten layers differ by a few hundred units of 2.2e-16; a wrong formula by 1e-4 and more.
RELATIVE_L2 = 1e-12

PAD, EOS, ADDED = 1, 50, 60
TRUE_EOS, LEGACY = EOS, 2
CASES = [("quick_gelu", TRUE_EOS), ("quick_gelu", LEGACY), ("gelu", TRUE_EOS), ("gelu", LEGACY)]


def _texts(eos):
    """Six texts of nine tokens and their mask; `eos` ends them, except where 60, an added token, is the largest id."""
    ids = np.random.default_rng(1).integers(3, 49, size=(6, 9))  # (texts, tokens)
    mask = np.ones_like(ids)  # (texts, tokens)
    ids[:, -1] = eos
    ids[0, 2] = ADDED  # an id above the end, before it
    ids[1, 4], ids[1, 5:], mask[1, 5:] = eos, PAD, 0  # padded on the right
    mask[2, 3] = 0  # one token inside the text masked
    ids[3, :3], mask[3, :3] = PAD, 0  # padded on the left
    ids[4, -1] = 5  # no end at all
    ids[5, 4:7] = eos  # several ends
    return ids, mask


def _spread(name, values):
    """Standard normal values, scaled to what their tensor does."""
    if "norm" in name and name.endswith("weight"):
        return 1.0 + 0.2 * values
    if "embedding" in name and "patch" not in name:
        return values
    return values * (2.0 / np.sqrt(values[0].size) if values.ndim > 1 else 0.2)


def _model(hidden_act, eos):
    """A CLIP whose widths all differ, with weights that spread activations and embeddings."""
    shared = {"hidden_act": hidden_act, "num_attention_heads": 4}
    config = CLIPConfig(
        text_config=shared
        | {"hidden_size": 32, "intermediate_size": 72, "num_hidden_layers": 3, "max_position_embeddings": 12}
        | {"vocab_size": 64, "bos_token_id": 0, "eos_token_id": eos, "pad_token_id": PAD, "projection_dim": 20},
        vision_config=shared
        | {"hidden_size": 48, "intermediate_size": 56, "num_hidden_layers": 4, "image_size": 18, "patch_size": 6}
        | {"projection_dim": 20},
        projection_dim=20,
    )
    model = CLIPModel(config).double()
    rng = np.random.default_rng(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = rng.standard_normal(tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(np.asarray(_spread(name, values))))
        model.logit_scale.fill_(2.5)
    return model


@dataclass(frozen=True)
class Case:
    """One checkpoint, computed twice from its files."""

    expected: dict[str, Any]  # by torch: "text", "vision" (the towers), "model", "wide" (fewer images than texts)
    texts: TowerStates
    images: TowerStates
    head: Contrast
    wide: Contrast
    real: np.ndarray  # (texts, tokens) bool


@pytest.fixture(autouse=True, scope="module")
def float64_by_default():
    """New tensors are float64: transformers 4.57 makes its causal mask in torch's default dtype, where it overflows."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def _softmax_in_float64(scores, dim=-1, dtype=None):
    """Stands in for torch's softmax, whatever dtype the caller asks for."""
    return torch.softmax(scores.double(), dim=dim)


def _expected(path, attention, ids, mask, pixels):
    load = {"dtype": torch.float64, "attn_implementation": attention}
    everything = {"output_hidden_states": True, "output_attentions": attention == "eager"}
    text = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    images = torch.from_numpy(pixels)
    model = CLIPModel.from_pretrained(path, **load)
    with torch.inference_mode():
        return {
            "text": CLIPTextModelWithProjection.from_pretrained(path, **load)(**text, **everything),
            "text_states": model.text_model(**text),
            "vision": CLIPVisionModelWithProjection.from_pretrained(path, **load)(pixel_values=images, **everything),
            "vision_states": model.vision_model(pixel_values=images),
            "model": model(**text, pixel_values=images, return_loss=True),
            "wide": model(**text, pixel_values=images[:4]),
        }


def _observed(path, ids, mask, pixels):
    config = parse_config(json.loads((path / "config.json").read_text(encoding="utf-8")), where="config.json")
    weights = load_file(path / "model.safetensors")
    texts = text_tower(weights, config.text, ids, mask)
    images = vision_tower(weights, config.vision, pixels)
    head = contrast(texts.projected, images.projected, weights["logit_scale"])
    wide = contrast(texts.projected, images.projected[:4], weights["logit_scale"])
    return texts, images, head, wide


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{'legacy' if case[1] == LEGACY else 'eos'}")
def checkpoint(request, tmp_path_factory):
    """A checkpoint on disk with its inputs: path, ids, mask, pixels."""
    hidden_act, eos = request.param
    path = tmp_path_factory.mktemp("checkpoint")
    _model(hidden_act, eos).save_pretrained(path)
    ids, mask = _texts(ADDED if eos == LEGACY else eos)
    pixels = np.random.default_rng(3).standard_normal((6, 3, 18, 18))  # (images, channels, height, width)
    return path, ids, mask, pixels


@pytest.fixture(scope="module")
def case(checkpoint):
    """Both programs' results, torch's with eager attention."""
    path, ids, mask, pixels = checkpoint
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "softmax", _softmax_in_float64)
        expected = _expected(path, "eager", ids, mask, pixels)
    return Case(expected, *_observed(path, ids, mask, pixels), real=mask == 1)


def _same(observed, expected):
    expected = expected.numpy()
    assert observed.shape == expected.shape
    error = np.linalg.norm(observed - expected) / np.linalg.norm(expected)  # ()
    assert error < RELATIVE_L2


def test_embeddings_spread(case):
    """The weights make a model in which errors could show: no two embeddings point the same way."""
    for embeds in (case.head.text_embeds, case.head.image_embeds):
        cosines = embeds @ embeds.T - np.eye(len(embeds))  # (n, n)
        assert cosines.max() < 0.95


def test_text_hidden_states_agree(case):
    """Every hidden state at every real position."""
    for observed, expected in zip(case.texts.hidden_states, case.expected["text"].hidden_states, strict=True):
        _same(observed[case.real], expected[torch.from_numpy(case.real)])
    _same(case.texts.last_hidden_state[case.real], case.expected["text"].last_hidden_state[torch.from_numpy(case.real)])


def test_text_attention_maps_agree(case):
    """Every attention map, rows of real positions, all keys."""
    for observed, expected in zip(case.texts.attentions, case.expected["text"].attentions, strict=True):
        _same(observed.swapaxes(1, 2)[case.real], expected.swapaxes(1, 2)[torch.from_numpy(case.real)])


def test_text_pooled_and_projected_states_agree(case):
    """The tower's own pooled state, and the projection of it."""
    _same(case.texts.pooler_output, case.expected["text_states"].pooler_output)
    _same(case.texts.projected, case.expected["text"].text_embeds)


def test_vision_hidden_states_agree(case):
    """Every hidden state."""
    for observed, expected in zip(case.images.hidden_states, case.expected["vision"].hidden_states, strict=True):
        _same(observed, expected)
    _same(case.images.last_hidden_state, case.expected["vision"].last_hidden_state)


def test_vision_attention_maps_agree(case):
    """Every attention map."""
    for observed, expected in zip(case.images.attentions, case.expected["vision"].attentions, strict=True):
        _same(observed, expected)


def test_vision_pooled_and_projected_states_agree(case):
    """The tower's own pooled state, and the projection of it."""
    _same(case.images.pooler_output, case.expected["vision_states"].pooler_output)
    _same(case.images.projected, case.expected["vision"].image_embeds)


def test_embeddings_logits_and_loss_agree(case):
    """The contrastive head with as many images as texts."""
    expected = case.expected["model"]
    for name in ("text_embeds", "image_embeds", "logits_per_text", "logits_per_image", "loss"):
        _same(getattr(case.head, name), expected[name])


def test_rectangular_logits_agree(case):
    """Four images and six texts; no loss."""
    _same(case.wide.logits_per_text, case.expected["wide"].logits_per_text)
    _same(case.wide.logits_per_image, case.expected["wide"].logits_per_image)
    assert case.wide.loss is None


def test_fused_attention_agrees(checkpoint):
    """Nothing replaced in torch: hidden states, pooled states, logits and loss under its fused attention."""
    path, ids, mask, pixels = checkpoint
    expected, real = _expected(path, "sdpa", ids, mask, pixels), mask == 1
    texts, images, head, _ = _observed(path, ids, mask, pixels)
    for observed, other in zip(texts.hidden_states, expected["text"].hidden_states, strict=True):
        _same(observed[real], other[torch.from_numpy(real)])
    for observed, other in zip(images.hidden_states, expected["vision"].hidden_states, strict=True):
        _same(observed, other)
    _same(texts.pooler_output, expected["text_states"].pooler_output)
    _same(head.logits_per_text, expected["model"].logits_per_text)
    _same(head.loss, expected["model"].loss)


def test_no_mask_agrees(checkpoint):
    """Without an attention mask, padding is read like any token."""
    path, ids, _, _ = checkpoint
    config = parse_config(json.loads((path / "config.json").read_text(encoding="utf-8")), where="config.json")
    observed = text_tower(load_file(path / "model.safetensors"), config.text, ids)
    model = CLIPModel.from_pretrained(path, dtype=torch.float64, attn_implementation="sdpa")
    with torch.inference_mode():
        expected = model.text_model(input_ids=torch.from_numpy(ids))
    _same(observed.last_hidden_state, expected.last_hidden_state)
    _same(observed.pooler_output, expected.pooler_output)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activation_agrees(name):
    """Each activation over the range that models reach; transformers documents `selu` for CLIP and has no such name."""
    x = np.linspace(-12.0, 12.0, 4801)  # (points,)
    function = torch.nn.SELU() if name == "selu" else ACT2FN[name]
    _same(EXACT.activation(x, name), function(torch.from_numpy(x)))
