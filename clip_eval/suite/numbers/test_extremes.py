"""Extreme inputs from a processor: outputs stay finite, in 16 bit too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clip_eval.families.config import ClipConfig, VisionConfig
from clip_eval.families.registry import entry_point
from clip_eval.probes.batches import end_token_id
from clip_eval.subject.observations import Clip
from clip_eval.subject.output_tree import tensors_of
from clip_eval.verdict.compare import Compare

BLACK, WHITE = -1.7923, 2.1459
"""The smallest and largest values of an image normalised as CLIP's are (https://github.com/openai/CLIP, `_transform`).
"""

every_attention = pytest.mark.parametrize(
    "attention", [None, pytest.param("eager", marks=pytest.mark.needs("attention"))], ids=["default", "eager"]
)


@pytest.mark.needs("options")
@every_attention
@pytest.mark.parametrize("length", ["longest", "one token"])
def test_outputs_are_finite(clip: Clip, compare: Compare, length: str, attention: str | None) -> None:
    """White, black, zero and checkered images, and texts of one repeated token, of end tokens only and of a single
    token, give finite states, maps, embeddings, logits and loss.
    """
    entry = entry_point(clip.holds.main_class)
    ids = _ids(clip.config, 1 if length == "one token" else clip.config.text.max_position_embeddings)
    texts = {"input_ids": ids} if entry.texts else {}
    inputs: dict[str, Any] = {**texts, **({"pixel_values": _pixels(clip.config.vision)} if entry.images else {})}
    options: dict[str, Any] = {"output_hidden_states": True, "output_attentions": True}
    if clip.holds.whole:
        options["return_loss"] = True
    out = clip.answer(entry, inputs, attention=attention, **options)
    for name, tensor in tensors_of(out, str(entry)).items():
        compare.equal(int((~tensor.isfinite()).sum()), 0, name=f"values of {name} that are not finite")


def _pixels(vision: VisionConfig) -> NDArray[np.float32]:
    side = vision.image_size
    y, x = np.mgrid[0:side, 0:side]  # (side, side)
    checkers = np.where((x + y) % 2, BLACK, WHITE)  # (side, side)
    planes = np.stack([np.full_like(checkers, value) for value in (WHITE, BLACK, 0.0)] + [checkers])
    return np.repeat(planes[:, None], vision.num_channels, axis=1).astype(np.float32)  # (images, channels, side, side)


def _ids(config: ClipConfig, tokens: int) -> NDArray[np.int64]:
    """Four texts: one repeated token and the end, the largest id repeated, end tokens only, any ids."""
    end = end_token_id(config.text)
    ids = np.empty((4, tokens), dtype=np.int64)  # (texts, tokens)
    ids[0], ids[1], ids[2] = 1 if end == 0 else 0, config.text.vocab_size - 1, end
    ids[3] = np.arange(tokens) % config.text.vocab_size
    ids[0, -1] = end
    return ids
