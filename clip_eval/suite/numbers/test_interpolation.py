"""interpolate_pos_encoding: images of another size than the model's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clip_eval.families.config import VisionConfig
from clip_eval.families.family import EntryPoint
from clip_eval.families.registry import ENTRY_POINTS
from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.subject import projected_features
from clip_eval.subject.observations import Clip
from clip_eval.suite._calls import enter, expect_same
from clip_eval.verdict.compare import Compare

IMAGES = 2

pytestmark = [pytest.mark.needs("objects", "options"), pytest.mark.shallow]

IMAGE_ENTRIES = [entry for entry in ENTRY_POINTS if entry.images]
every_image_entry = pytest.mark.parametrize("entry", IMAGE_ENTRIES, ids=str)


def _wide(config: VisionConfig) -> tuple[int, int]:
    """As many patches as the model's own square if possible: their number must not decide."""
    side, patch = config.image_size // config.patch_size, config.patch_size
    rows, columns = (side // 2, 2 * side) if side % 2 == 0 else (max(1, side - 2), side + 2)
    return rows * patch, columns * patch


def _ragged(config: VisionConfig) -> tuple[int, int]:
    """One patch more on one axis, and pixels beyond the last whole patch on both."""
    return config.image_size + config.patch_size // 2, config.image_size + 2 * config.patch_size - 1


def _more(config: VisionConfig, down: int, right: int) -> tuple[int, int]:
    """Some patches more or less than the model's own square."""
    side = config.image_size // config.patch_size
    return max(1, side + down) * config.patch_size, max(1, side + right) * config.patch_size


SIZES: dict[str, Callable[[VisionConfig], tuple[int, int]]] = {
    "wide": _wide,
    "tall": lambda config: _more(config, 1, -1),
    "larger": lambda config: _more(config, 1, 1),
    "smaller": lambda config: _more(config, -1, -1),
    "ragged": _ragged,
}
"""Height and width in pixels. Ragged images have pixels beyond the last whole patch."""


@every_image_entry
def test_own_size_is_left_alone(clip: Clip, compare: Compare, entry: EntryPoint) -> None:
    """For images of the model's own size interpolate_pos_encoding changes nothing, bit for bit."""
    tensors = clip.subject.tensors(clip.inputs(entry, images=IMAGES, texts=1))
    expected = enter(clip.subject, entry, **tensors)
    observed = enter(clip.subject, entry, **tensors, interpolate_pos_encoding=True)
    expect_same(compare, observed, expected, f"{entry}(interpolate_pos_encoding=True)")


@pytest.mark.parametrize("size", list(SIZES))
def test_other_sizes_are_embedded_right(clip: Clip, oracle: Oracle, compare: Compare, size: str) -> None:
    """Images of another size have one token for each whole patch, row by row, with bicubically interpolated position
    embeddings; the class token keeps its own.
    """
    height, width = SIZES[size](clip.config.vision)
    there = oracle.of("CLIPVisionModel").resized(images=IMAGES, height=height, width=width, layers=0)
    out = clip.on(there.batch).vision_model(images=IMAGES, interpolate_pos_encoding=True, output_hidden_states=True)
    expected = there.vision(images=IMAGES).hidden_states[0]
    name = f"images of {height} x {width} pixels"
    compare.close(out.hidden_states[0], expected, name=f"hidden_states[0] of {name}", module="vision_model.embeddings")
    compare.equal(tuple(out.last_hidden_state.shape), expected.value.shape, name=f"shape of the states of {name}")


@every_image_entry
def test_other_sizes_by_every_way(clip: Clip, oracle: Oracle, compare: Compare, entry: EntryPoint) -> None:
    """Every class and method with images interpolates the same way: states, pooled states and features of a wide image
    are what weights and pixels determine.
    """
    height, width = _wide(clip.config.vision)
    there = oracle.of(entry.model_class).resized(images=1, height=height, width=width)
    expected = there.vision(images=1)
    tensors = clip.subject.tensors(clip.on(there.batch).inputs(entry, images=1, texts=1))
    out = enter(clip.subject, entry, **tensors, interpolate_pos_encoding=True)
    if entry.method != "forward":
        compare.close(projected_features(out, clip.release), expected.projected, name=f"{entry} of a wide image")
        return
    states = (out.vision_model_output if entry.texts else out).last_hidden_state
    compare.close(states, expected.last_hidden_state, name=f"{entry} last_hidden_state", module="vision_model")
    if entry.model_class == "CLIPVisionModelWithProjection":
        compare.close(out.image_embeds, expected.projected, name=f"{entry} image_embeds", module="visual_projection")
    if entry.model_class == "CLIPVisionModel":
        compare.close(out.pooler_output, expected.pooler_output, name=f"{entry} pooler_output", module="vision_model")
