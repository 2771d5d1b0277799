"""Budgets: constants are the arithmetic's own, scalar rules hold for torch, and healthy models stay inside."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.drawn import normal, stored
from support.resizing import RESIZED, torch_resize

import clip_eval
from clip_eval.oracle.preprocessing.image_processor import preprocess
from clip_eval.probes.images import pattern
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings
from clip_eval.user_values import DTYPES
from clip_eval.verdict import budgets
from clip_eval.verdict.compare import Compare, Expected, to_array
from clip_eval.verdict.measurement import Measurement

every_dtype = pytest.mark.parametrize("dtype", DTYPES)


@every_dtype
def test_unit_roundoff_is_half_of_eps(dtype: str) -> None:
    """The unit roundoff and the smallest normal number are those that torch states for the dtype."""
    import torch

    information = torch.finfo(getattr(torch, dtype))
    assert budgets.UNIT_ROUNDOFF[dtype] == information.eps / 2
    assert budgets.SMALLEST_NORMAL[dtype] == information.tiny


@every_dtype
def test_a_rounding_has_the_stated_mean_size(dtype: str) -> None:
    """Rounding a number of any mantissa errs by ROUNDING times u in the root mean square, and by u at most."""
    values = np.exp(normal(100_000))  # (numbers,)
    relative = (to_array(stored(values, dtype)) - values) / values / budgets.UNIT_ROUNDOFF[dtype]  # (numbers,)
    assert np.abs(relative).max() <= 1.0
    assert float(np.sqrt((relative**2).mean())) == pytest.approx(budgets.ROUNDING, abs=0.02)


def test_pixels_of_float32_processing() -> None:
    """Rescaling and normalising every uint8 level in float32 stays within the budget; one level more does not."""
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    levels = np.arange(256)  # (levels,)
    budget = budgets.pixels(mean, std)
    for centre, deviation in zip(mean, std, strict=True):
        single = (levels.astype(np.float32) * np.float32(1 / 255) - np.float32(centre)) / np.float32(deviation)
        exact = (levels / 255 - centre) / deviation  # (levels,)
        assert np.abs(single - exact).max() <= budget.bound
        assert np.diff(exact).min() > 100 * budget.bound
    wider = budgets.pixels(mean, std, levels=1)
    assert wider.bound >= 1 / 255 / min(std)


@pytest.mark.parametrize("size", [(41, 90), (90, 41), (9, 7), (5, 3), (3, 4), (1, 6)])
def test_torch_resizes_pictures_within_two_levels(size: tuple[int, int]) -> None:
    """A resize of uint8 by torch, whose torchvision's is, stays within its budget of Pillow's in the same order of
    passes, and one of real numbers within that for those: another filter does not.
    """
    levels = pattern(*size)
    whole = torch_resize(levels, np.uint8)
    expected = preprocess(Image.fromarray(levels), RESIZED, passes="rows first")
    assert np.abs(whole - expected).max() <= budgets.OTHER_RESIZE
    real = torch_resize(levels, np.float32)
    bound = budgets.real_resize(*size)
    assert np.abs(real - preprocess(levels.astype(np.float64), RESIZED)).max() <= bound
    other = replace(RESIZED, resample=int(Image.Resampling.BILINEAR))
    assert np.abs(real - preprocess(levels.astype(np.float64), other)).max() > 100 * bound


def judged(session: Session, attention: str) -> list[tuple[Any, Expected, Any]]:
    """Everything that the small model returns under one attention implementation, with what is expected of it and
    which elements count.
    """
    clip, oracle = session.candidate.clip, session.candidate.oracle
    text = clip.text_model(texts=5, mask="interior", attention=attention, output_hidden_states=True)
    vision = clip.vision_model(images=5, attention=attention, output_hidden_states=True)
    out = clip.forward(images=4, texts=4, attention=attention, return_loss=True)
    texts, images = oracle.text(texts=5, mask="interior"), oracle.vision(images=5)
    expected = oracle.forward(images=4, texts=4)
    assert expected.loss is not None
    real = clip.real(5, "interior")[:, :, None]  # (texts, tokens, 1)
    return [
        *((a, b, real) for a, b in zip(text.hidden_states, texts.hidden_states, strict=True)),
        *((a, b, None) for a, b in zip(vision.hidden_states, images.hidden_states, strict=True)),
        (text.last_hidden_state, texts.last_hidden_state, real),
        *((getattr(out, name), getattr(expected, name), None) for name in ("text_embeds", "image_embeds")),
        *((getattr(out, name), getattr(expected, name), None) for name in ("logits_per_text", "logits_per_image")),
        (out.loss, expected.loss, None),
    ]


@every_dtype
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_healthy_models_stay_inside(bare_model: Path, dtype: str, attention: str) -> None:
    """Every state, embedding, logit and loss of a healthy model is within its bound, in each dtype."""
    recorded: list[Measurement] = []
    session = Session(Settings(model=str(bare_model), dtype=dtype))
    for number, (observed, expected, where) in enumerate(judged(session, attention)):
        Compare(recorded.append).close(observed, expected, name=str(number), where=where)
    assert max(measurement.ratio or 0.0 for measurement in recorded) < 0.8


@every_dtype
def test_bounds_are_no_wider_than_healthy_models_need(bare_model: Path, dtype: str) -> None:
    """Errors of a healthy model are 0.2 to 2 times the standard deviation that its bounds are made of."""
    session = Session(Settings(model=str(bare_model), dtype=dtype))
    for observed, expected, where in judged(session, "eager"):
        if expected.value.size < 100:
            continue  # too few elements for a mean
        counts = np.broadcast_to(True if where is None else where, expected.value.shape)  # the shape of the value
        errors = (to_array(observed) - expected.value)[counts]  # (elements that count,)
        deviations = expected.bound[counts] / budgets.SIGMAS  # (elements that count,)
        assert 0.2 < np.sqrt((errors**2).mean() / (deviations**2).mean()) < 2.0


def test_a_sample_has_the_spread_it_was_drawn_with() -> None:
    """Mean and standard deviation of drawn values stay inside, those of values a tenth wider do not."""
    values = normal(20_000)  # (values,)
    means, spreads = budgets.sample(1.0, values.size)
    assert abs(values.mean()) < means.bound
    assert abs(values.std() - 1) < spreads.bound < abs(1.1 * values.std() - 1)


def test_tolerances_are_named_in_one_place() -> None:
    """No module but budgets.py and rounding.py, and the oracle's epsilons from configs, states a small number."""
    allowed = {"budgets.py", "rounding.py", "config.py"}
    found = {}
    for path in Path(clip_eval.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        small = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and type(node.value) is float and 0 < abs(node.value) < 1e-3
        ]
        if small and path.name not in allowed:
            found[path.name] = small
    assert found == {}
