"""Counted operations and bytes: the published figures, torch's own counter, the ceilings, and which of them binds."""

from __future__ import annotations

import pytest
import torch
from timing.published import SHAPES
from torch.utils.flop_counter import FlopCounterMode

from clip_eval.families.clip.family import CLIP
from clip_eval.families.config import ClipConfig, TextConfig, VisionConfig
from clip_eval.throughput import roofline
from clip_eval.throughput.roofline import Ceilings, Roof, Work, ceilings, image_operations, roof, text_operations, work

VIT_B_32 = SHAPES["vit-b-32"]
every_shape = pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)


def tiny() -> ClipConfig:
    """Return one layer of width 2, small enough to count by hand."""
    tower = {"hidden_size": 2, "intermediate_size": 3, "num_hidden_layers": 1, "num_attention_heads": 1}
    return ClipConfig(
        text=TextConfig(**tower, vocab_size=100, max_position_embeddings=5),
        vision=VisionConfig(**tower, image_size=4, patch_size=2, num_channels=1),
        projection_dim=5,
    )


def test_vit_b_32_takes_what_is_known() -> None:
    """8.82 GFLOP an image and 5.96 a text of 77 tokens."""
    assert image_operations(VIT_B_32) / 1e9 == pytest.approx(8.82, abs=5e-3)
    assert text_operations(VIT_B_32, 77) / 1e9 == pytest.approx(5.96, abs=5e-3)


def test_counts_are_those_of_a_hand() -> None:
    """One layer of width 2, written out: patches, projections, attention, MLP, and the projection at the end."""
    layer = 5 * 4 * 4 + 2 * 25 * 2 + 2 * 5 * 2 * 3  # multiply-adds of 5 tokens
    assert image_operations(tiny()) == 2 * (4 * 4 * 2 + layer + 2 * 5)
    assert text_operations(tiny(), 5) == 2 * (layer + 2 * 5)
    assert image_operations(tiny(), projected=False) == 2 * (4 * 4 * 2 + layer)
    assert text_operations(tiny(), 5, projected=False) == 2 * layer


def test_bytes_are_those_of_a_hand() -> None:
    """Each weight once a batch, of the token table the rows that occur, the inputs, and the embeddings."""
    layer = 4 * (2 * 2 + 2) + (2 * 3 + 3) + (3 * 2 + 2) + 2 * (2 + 2)
    images = work(CLIP, tiny(), "images", rows=3, tokens=5, dtype="float32")
    assert images.bytes == 4 * (2 * 4 + 2 + 5 * 2 + (2 + 2) * 2 + layer + 2 * 5) + 3 * 16 * 4 + 3 * 5 * 4
    texts = work(CLIP, tiny(), "texts", rows=3, tokens=5, dtype="bfloat16")
    assert texts.bytes == 2 * (15 * 2 + 5 * 2 + (2 + 2) + layer + 2 * 5) + 2 * 15 * 8 + 3 * 5 * 2
    many = work(CLIP, tiny(), "texts", rows=1000, tokens=5, dtype="bfloat16")
    pooled = work(CLIP, tiny(), "texts", rows=3, tokens=5, dtype="bfloat16", projected=False)
    assert texts.bytes - pooled.bytes == 2 * 2 * 5 + 3 * (5 - 2) * 2
    assert many.bytes - 2 * 5000 * 8 - 5000 * 2 == 2 * (100 * 2 + 5 * 2 + (2 + 2) + layer + 2 * 5)


def test_a_pair_is_an_image_and_a_text_and_all_logits() -> None:
    """Both towers' work, and a product of all embeddings with each other."""
    images, texts, pairs = (
        work(CLIP, tiny(), kind, rows=3, tokens=5, dtype="float32") for kind in ("images", "texts", "pairs")
    )
    assert pairs == images + texts + Work(2 * 9 * 5, 9 * 4)


@every_shape
def test_counts_agree_with_torch(config: ClipConfig) -> None:
    """Torch's counter sees the same operations in the floor, to the last one, on tensors without data."""
    from clip_eval.families.clip.plain_forward import ClipPlainForward
    from clip_eval.families.clip.tensors import expected_tensors

    weights = {
        name: torch.empty([axis.size for axis in axes], device="meta")
        for name, axes in expected_tensors(config).items()
    }
    floor = ClipPlainForward(weights, config)
    pixels, ids = torch.empty(2, 3, 224, 224, device="meta"), torch.zeros(2, 77, dtype=torch.int64, device="meta")
    calls = {
        "images": lambda: floor.image_features(pixels),
        "texts": lambda: floor.text_features(ids),
        "pairs": lambda: floor.logits(ids, pixels),
    }
    for kind, call in calls.items():
        with FlopCounterMode(display=False) as counter:
            call()
        counted = work(CLIP, config, kind, rows=2, tokens=77, dtype="float32").operations
        assert counter.get_total_flops() == counted, kind


def test_the_longer_of_both_binds() -> None:
    """A batch takes at least as long as its products, and as its bytes; the share is of the longer one."""
    limits = Ceilings(operations_per_s=100.0, bytes_per_s=10.0)
    assert roof(Work(200, 10), limits, 4.0) == Roof(2.0, 0.5, "products")
    assert roof(Work(100, 40), limits, 5.0) == Roof(4.0, 0.8, "copies")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_ceilings_are_the_best_of_a_few(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates are of the shortest of a few products, as a linear layer has them, and of a few copies; the first of either
    is not timed.
    """
    monkeypatch.setitem(roofline._COPIED_BYTES, "cpu", 1000)
    times = iter([0.5, 0.25, 0.75, 0.5, 1.0, 4.0, 2.0, 3.0, 4.0, 5.0])
    made = []

    def timed(call: object) -> float:
        made.append(call())
        return next(times)

    side = 1024
    assert ceilings(dtype, "cpu", timed) == Ceilings(2 * side**3 / 0.25, 2 * 1000 / 2.0)
    products, copies = made[:5], made[5:]
    generator = torch.Generator().manual_seed(0)
    factors = (torch.randn(side, side, generator=generator).to(getattr(torch, dtype)) for _ in range(2))
    assert torch.equal(products[0], torch.nn.functional.linear(*factors))
    assert {(tuple(product.shape), product.dtype) for product in products} == {((side, side), getattr(torch, dtype))}
    assert {copy.nbytes for copy in copies} == {1000}
