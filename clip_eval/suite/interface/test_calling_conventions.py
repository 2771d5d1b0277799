"""How a CLIP may be called: arguments by position, unusual tensors with the same values."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from clip_eval.families.family import EntryPoint
from clip_eval.oracle.expected.outputs import Oracle
from clip_eval.subject import projected_features
from clip_eval.subject.call_outcomes import ask
from clip_eval.subject.observations import Clip
from clip_eval.suite._calls import Small, enter, every_class, every_entry, expect_same, small
from clip_eval.verdict.compare import Compare
from clip_eval.verdict.deviations import Deviations

pytestmark = [pytest.mark.needs("objects"), pytest.mark.shallow]

ROWS = 2


@every_entry
def test_inputs_by_position(clip: Clip, compare: Compare, entry: EntryPoint) -> None:
    """Inputs by position, in the documented order, the first few or all, give what they give by keyword.

    CLIPModel takes return_loss after its inputs, get_image_features interpolate_pos_encoding.
    """
    names = entry.parameters[: entry.inputs]
    inputs = _all_inputs(clip, entry)
    expected = enter(clip.subject, entry, **inputs)
    for count in sorted({1, len(names) - 1, len(names)} - {0}):
        by_position = [inputs[name] for name in names[:count]]
        rest = {name: inputs[name] for name in names[count:]}
        answer = ask(partial(enter, clip.subject, entry, *by_position, **rest))
        name = f"{entry} with {count} of {len(names)} inputs by position"
        if answer.refusal is not None:
            compare.fail(answer.outcome, "what the call by keyword returns", name=name)
        expect_same(compare, answer.value, expected, name)


@every_class
def test_options_by_position(
    clip: Clip, compare: Compare, deviations: Deviations, tmp_path_factory: pytest.TempPathFactory, entry: EntryPoint
) -> None:
    """After the inputs come output_attentions, output_hidden_states and interpolate_pos_encoding, by position as by
    keyword.

    Shown on a tiny model of the same kind.
    """
    tiny = small(clip, tmp_path_factory)
    if deviations.hold("options-are-keyword-only"):
        _expect_keyword_only(tiny, compare, entry)
        return
    options = entry.parameters[entry.inputs :]
    for chosen in options:
        values: list[object] = [True if name == chosen else None for name in options[: options.index(chosen) + 1]]
        inputs = _padded_inputs(tiny, entry)
        answer = ask(partial(enter, tiny.subject, entry, *inputs.values(), *values, attention="eager"))
        name = f"{entry} with {chosen} by position"
        if answer.refusal is not None:
            compare.fail(answer.outcome, "what the call by keyword returns", name=name)
        expected = enter(tiny.subject, entry, **inputs, **{chosen: True}, attention="eager")
        expect_same(compare, answer.value, expected, name)


def _expect_keyword_only(tiny: Small, compare: Compare, entry: EntryPoint) -> None:
    """From 5.0 on only interpolate_pos_encoding follows the inputs by position, and only for images."""
    inputs = _padded_inputs(tiny, entry)
    taken = (True,) if entry.images else ()
    if entry.images:
        inputs["pixel_values"] = _twice_as_high(inputs["pixel_values"])  # (images, channels, 2 * side, side)
        expected = enter(tiny.subject, entry, **inputs, interpolate_pos_encoding=True)
        answer = ask(lambda: enter(tiny.subject, entry, *inputs.values(), *taken))
        if answer.refusal is not None:
            compare.fail(answer.outcome, "what interpolate_pos_encoding=True returns", name=f"{entry} with one more")
        expect_same(compare, answer.value, expected, f"{entry} with interpolate_pos_encoding by position")
    answer = ask(lambda: enter(tiny.subject, entry, *inputs.values(), *taken, True))
    compare.equal(
        type(answer.refusal).__name__, "TypeError", name=f"{entry} with more by position: {answer.outcome}"
    )  # fmt: skip


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "strided": lambda tensor: tensor.repeat_interleave(2, dim=-1)[..., ::2],
    "transposed": lambda tensor: tensor.transpose(0, -1).contiguous().transpose(0, -1),
}


@every_entry
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_layouts_mean_the_same(
    clip: Clip, oracle: Oracle, compare: Compare, deviations: Deviations, entry: EntryPoint, layout: str
) -> None:
    """Ids, masks and pixels that are not contiguous in memory give what contiguous ones give."""
    tensors = clip.subject.tensors(clip.inputs(entry, images=ROWS, texts=ROWS, mask="interior"))
    laid = {name: LAYOUTS[layout](tensor) for name, tensor in tensors.items()}
    compare.equal(any(tensor.is_contiguous() for tensor in laid.values()), False, name="a tensor lies row after row")
    _judge(clip, oracle, compare, deviations, entry, laid, layout)


IMAGE_FORMS: dict[str, Callable[[Any], Any]] = {
    "channels_last": lambda pixels: pixels.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
    "float64": lambda pixels: pixels.double(),
    "with_gradients": lambda pixels: pixels.clone().requires_grad_(),
}


@every_entry
@pytest.mark.parametrize("form", list(IMAGE_FORMS))
def test_forms_of_pixels(
    clip: Clip, oracle: Oracle, compare: Compare, deviations: Deviations, entry: EntryPoint, form: str
) -> None:
    """Pixels with channels last in memory, in float64, or requiring gradients give what plain float32 ones give."""
    if not entry.images:
        compare.equal("pixel_values" in entry.parameters, False, name=f"{entry} takes images")
        return
    tensors = clip.subject.tensors(clip.inputs(entry, images=ROWS, texts=ROWS, mask="interior"))
    tensors["pixel_values"] = IMAGE_FORMS[form](tensors["pixel_values"])
    _judge(clip, oracle, compare, deviations, entry, tensors, form)


@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_whole_numbers_are_pixels(clip: Clip, compare: Compare, dtype: str) -> None:
    """Integer pixels are used by their values, or refused."""
    levels = np.abs(np.rint(3 * clip.batch.pixel_values[:ROWS])).astype(dtype)  # (images, channels, side, side)
    expected = clip.subject.answer("CLIPVisionModel", {"pixel_values": levels.astype(np.float32)})
    answer = ask(lambda: clip.subject.answer("CLIPVisionModel", {"pixel_values": levels}))
    if answer.refusal is None:
        expect_same(compare, answer.value, expected, f"CLIPVisionModel of {dtype} pixels")
    else:
        compare.equal(bool(str(answer.refusal)), True, name=f"{dtype} pixels are refused with a reason")


@pytest.mark.parametrize("entry", ["CLIPTextModel", "CLIPModel"])
def test_ids_of_32_bits(clip: Clip, compare: Compare, entry: str) -> None:
    """Token ids and position ids as int32 give what int64 ones give, or are refused."""
    inputs = {**clip.texts(ROWS, "interior"), "position_ids": _places(clip)}
    images = clip.images(ROWS) if entry == "CLIPModel" else {}
    narrow = {name: values.astype(np.int32) for name, values in inputs.items()}  # (texts, tokens)
    answer = ask(lambda: clip.subject.answer(entry, {**narrow, **images}))
    if answer.refusal is None:
        expect_same(compare, answer.value, clip.subject.answer(entry, {**inputs, **images}), f"{entry} of int32 ids")
    else:
        compare.equal(bool(str(answer.refusal)), True, name="int32 ids are refused with a reason")


def _judge(
    clip: Clip, oracle: Oracle, compare: Compare, deviations: Deviations, entry: EntryPoint, tensors: Any, how: str
) -> None:
    """Compare with the reference: memory layouts choose kernels, so bits may differ from the plain call's."""
    answer = ask(lambda: enter(clip.subject, entry, **tensors))
    if answer.refusal is not None:
        compare.fail(answer.outcome, "the states of these inputs", name=f"{entry} with {how} tensors")
    oracle = oracle.of(entry.model_class)
    expected = oracle.text(texts=ROWS, mask="interior") if entry.texts else oracle.vision(images=ROWS)
    name = f"{entry} with {how} tensors"
    if entry.model_class == "CLIPModel" and entry.method == "forward":
        head = oracle.forward(images=ROWS, texts=ROWS, mask="interior")
        compare.close(answer.value.image_embeds, head.image_embeds, name=f"image_embeds of {name}")
        compare.close(answer.value.text_embeds, head.text_embeds, name=f"text_embeds of {name}")
        compare.close(answer.value.logits_per_text, head.logits_per_text, name=f"logits_per_text of {name}")
    elif entry.method != "forward":
        compare.close(projected_features(answer.value, clip.release), expected.projected, name=f"features of {name}")
    else:
        pooled = answer.value.get("pooler_output")
        wanted = expected.projected if pooled is None else expected.pooler_output
        compare.close(answer.value[0] if pooled is None else pooled, wanted, name=f"pooled states of {name}")


def _all_inputs(clip: Clip, entry: EntryPoint) -> dict[str, Any]:
    """Every input, with values such that a missing or swapped one changes the result."""
    inputs = clip.inputs(entry, images=ROWS, texts=ROWS, mask="interior")
    if entry.texts:
        inputs["position_ids"] = _places(clip)
    tensors = clip.subject.tensors(inputs)
    if "return_loss" in entry.parameters:
        tensors["return_loss"] = True
    if str(entry) == "get_image_features":
        tensors["pixel_values"] = _twice_as_high(tensors["pixel_values"])  # (images, channels, 2 * side, side)
        tensors["interpolate_pos_encoding"] = True
    return tensors


def _places(clip: Clip) -> Any:
    """Position ids from last to first, (1, tokens)."""
    return np.arange(clip.batch.input_ids.shape[1])[::-1][None].copy()


def _padded_inputs(tiny: Small, entry: EntryPoint) -> dict[str, Any]:
    """All inputs in the order of the parameters, None where the entry point has none."""
    inputs = tiny.inputs(entry)
    return {name: inputs.get(name) for name in entry.parameters[: entry.inputs]}


def _twice_as_high(pixels: Any) -> Any:
    """(images, channels, height, width) to (images, channels, 2 * height, width)."""
    return pixels.repeat_interleave(2, dim=2)
