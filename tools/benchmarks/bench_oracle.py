"""How long the oracle takes against torch in float64, at the shape of ViT-B/32. Run on demand, by naming this file.

Both compute the same batch with the same weights and the same number of threads, one after the other in every round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from clip_eval.families.clip.config import parse_config
from clip_eval.oracle import Contrast, contrast, text_tower, vision_tower

# The oracle may be slow, but a gate waits for it: at 2.5 a ViT-B/32 stays within seconds on two cores.
LARGEST_RATIO = 2.5
BATCH = 4
ROUNDS = 7
# Torch's fused attention and NumPy's plain one differ by rounding alone; a shortcut in either would show here.
RELATIVE_L2 = 1e-12


@dataclass(frozen=True)
class _Work:
    """One batch, computed by each program."""

    oracle: Callable[[], Contrast]
    torch: Callable[[], object]


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@pytest.fixture(scope="module")
def work():
    """ViT-B/32 with random weights, which both programs read from the same memory, 4 images and 4 full texts."""
    torch.manual_seed(0)
    settings = CLIPConfig(attn_implementation="sdpa")
    model = CLIPModel(settings).double().eval()
    weights = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    config = parse_config(settings.to_dict(), where="CLIPConfig()")
    rng = np.random.default_rng(0)
    ids = rng.integers(0, config.text.eos_token_id, size=(BATCH, config.text.max_position_embeddings))
    ids[:, -1] = config.text.eos_token_id
    side = config.vision.image_size
    pixels = rng.standard_normal((BATCH, config.vision.num_channels, side, side))

    def oracle():
        texts, images = text_tower(weights, config.text, ids), vision_tower(weights, config.vision, pixels)
        return contrast(texts.projected, images.projected, weights["logit_scale"])

    def floor():
        with torch.inference_mode():
            return model(input_ids=torch.from_numpy(ids), pixel_values=torch.from_numpy(pixels), return_loss=True)

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # transformers 4.57 makes its causal mask in the default dtype
    yield _Work(oracle, floor)
    torch.set_default_dtype(before)


def test_oracle_keeps_pace_with_torch(work, benchmark):
    """The median over interleaved rounds of oracle time by torch time is within its bound."""
    observed, expected = work.oracle().logits_per_text, work.torch().logits_per_text.numpy()
    assert np.linalg.norm(observed - expected) / np.linalg.norm(expected) < RELATIVE_L2
    ratios = []

    def pair():
        torch_s = _seconds(work.torch)
        ratios.append(_seconds(work.oracle) / torch_s)

    benchmark.pedantic(pair, rounds=ROUNDS, warmup_rounds=1)
    timed = ratios[-ROUNDS:]  # with --benchmark-disable there is one round, which is its own median
    ratio = statistics.median(timed)
    benchmark.extra_info.update(median_ratio=ratio, ratios=timed, torch_threads=torch.get_num_threads())
    print(f"oracle / torch float64: median {ratio:.2f} of {len(timed)} rounds {[round(r, 2) for r in timed]}")
    assert ratio <= LARGEST_RATIO
