"""What a tower has to compute, counted from its config, and what the machine can compute, measured in the run."""

from __future__ import annotations

from collections.abc import Callable

from clip_eval.config import ClipConfig, TextConfig, VisionConfig

__all__ = ["image_operations", "product_rate", "text_operations"]

_SIDE = 1024  # a product of this side keeps two cores busy for 10 ms, and its 12 MB do not fit a small cache
_REPEATS = 5


def image_operations(config: ClipConfig) -> int:
    """Return the floating-point operations of one image embedding, 2 for each multiply-add of a product.

    Normalisations, activations and softmax are left out, as usual: about 1 % of a ViT-B/32.
    """
    vision = config.vision
    patches = (vision.image_size // vision.patch_size) ** 2
    kernel = vision.num_channels * vision.patch_size**2
    embedding = 2 * patches * kernel * vision.hidden_size
    return embedding + _encoder(vision, patches + 1) + 2 * vision.hidden_size * config.projection_dim


def text_operations(config: ClipConfig, tokens: int) -> int:
    """Return the same for one text embedding of `tokens` tokens."""
    return _encoder(config.text, tokens) + 2 * config.text.hidden_size * config.projection_dim


def product_rate(dtype: str, device: str, timed: Callable[[Callable[[], object]], float]) -> float:
    """Return the floating-point operations a second of a square matrix product, the best of a few: a ceiling.

    Args:
        dtype: "float32", "bfloat16" or "float16".
        device: a torch device.
        timed: returns the seconds that a call takes; see `clip_eval.throughput.paired.stopwatch`.
    """
    import torch

    generator = torch.Generator(device=device).manual_seed(0)
    a, b = (
        torch.randn(_SIDE, _SIDE, generator=generator, device=device).to(getattr(torch, dtype)) for _ in range(2)
    )  # (side, side)
    torch.mm(a, b)
    return 2 * _SIDE**3 / min(timed(lambda: torch.mm(a, b)) for _ in range(_REPEATS))


def _encoder(config: TextConfig | VisionConfig, tokens: int) -> int:
    """Four projections, the two products of attention and the two of the MLP, a layer."""
    width, inner = config.hidden_size, config.intermediate_size
    layer = 4 * tokens * width**2 + 2 * tokens**2 * width + 2 * tokens * width * inner
    return 2 * config.num_hidden_layers * layer
