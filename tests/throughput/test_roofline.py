"""Counted operations: the published figures, torch's own counter, and the measured ceiling."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from clip_eval.config import ClipConfig, TextConfig, VisionConfig
from clip_eval.throughput.roofline import image_operations, product_rate, text_operations


def vision(**changes: int) -> ClipConfig:
    """Return the documented default config, ViT-B/32, with another vision tower."""
    return ClipConfig(text=TextConfig(), vision=VisionConfig(**changes))


def test_vit_b_32_takes_what_is_known() -> None:
    """8.82 GFLOP an image and 5.96 a text of 77 tokens."""
    assert image_operations(vision()) / 1e9 == pytest.approx(8.82, abs=5e-3)
    assert text_operations(vision(), 77) / 1e9 == pytest.approx(5.96, abs=5e-3)


def test_counts_are_those_of_a_hand() -> None:
    """One layer of width 2, written out: patches, projections, attention, MLP, and the projection at the end."""
    tower = {"hidden_size": 2, "intermediate_size": 3, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = ClipConfig(
        text=TextConfig(**tower),
        vision=VisionConfig(**tower, image_size=4, patch_size=2, num_channels=1),
        projection_dim=5,
    )
    layer = 5 * 4 * 4 + 2 * 25 * 2 + 2 * 5 * 2 * 3  # multiply-adds of 5 tokens
    assert image_operations(config) == 2 * (4 * 4 * 2 + layer + 2 * 5)
    assert text_operations(config, 5) == 2 * (layer + 2 * 5)


@pytest.mark.parametrize("changes", [{}, {"patch_size": 16}])
def test_counts_agree_with_torch(changes: dict[str, int]) -> None:
    """Torch's counter sees the same operations in the floor, within 1 %, on tensors without data."""
    from clip_eval.inventory import expected_tensors
    from clip_eval.throughput.floor import Floor

    config = vision(**changes)
    weights = {
        name: torch.empty([axis.size for axis in axes], device="meta")
        for name, axes in expected_tensors(config).items()
    }
    floor = Floor(weights, config)
    with FlopCounterMode(display=False) as counter:
        floor.image_features(torch.empty(1, 3, 224, 224, device="meta"))
    assert counter.get_total_flops() == pytest.approx(image_operations(config), rel=0.01)
    with FlopCounterMode(display=False) as counter:
        floor.text_features(torch.zeros(1, 77, dtype=torch.int64, device="meta"))
    assert counter.get_total_flops() == pytest.approx(text_operations(config, 77), rel=0.01)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_ceiling_is_the_best_of_a_few_products(dtype: str) -> None:
    """The rate is the operations of one product over the shortest of its times; the first call is not timed."""
    times = iter([0.5, 0.25, 0.75, 0.5, 1.0])
    products = []

    def timed(call: object) -> float:
        products.append(call())
        return next(times)

    side = 1024
    assert product_rate(dtype, "cpu", timed) == 2 * side**3 / 0.25
    assert {(tuple(product.shape), product.dtype) for product in products} == {((side, side), getattr(torch, dtype))}
