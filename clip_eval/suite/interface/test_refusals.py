"""Inputs that do not fit are refused with an exception, or handled right; nothing is silently cut, stretched or
dropped.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from clip_eval.families.config import VisionConfig
from clip_eval.families.family import EntryPoint
from clip_eval.families.registry import ENTRY_POINTS
from clip_eval.run.evidence import Evidence
from clip_eval.subject.call_outcomes import ask
from clip_eval.subject.observations import Clip
from clip_eval.suite._calls import enter, every_entry, expect_same
from clip_eval.verdict.compare import Compare
from clip_eval.verdict.deviations import Deviations

pytestmark = [pytest.mark.needs("modules", "objects"), pytest.mark.shallow]

IMAGES, TEXTS = 2, 3

every_text_entry = pytest.mark.parametrize("entry", [entry for entry in ENTRY_POINTS if entry.texts], ids=str)
every_image_entry = pytest.mark.parametrize("entry", [entry for entry in ENTRY_POINTS if entry.images], ids=str)


@every_entry
def test_missing_inputs(clip: Clip, compare: Compare, deviations: Deviations, entry: EntryPoint) -> None:
    """A call without the ids or the pixels that a model needs is refused, and the message names what is missing."""
    inputs = clip.subject.tensors(clip.inputs(entry, images=1, texts=1))
    for missing in [name for name in ("input_ids", "pixel_values") if name in inputs]:
        given = {name: tensor for name, tensor in inputs.items() if name != missing}
        for how, keywords in (("without", given), ("with None as", {**given, missing: None})):
            answer = ask(partial(enter, clip.subject, entry, **keywords), AttributeError)
            name = f"{entry} {how} {missing}"
            required = entry.method != "forward" and how == "without"
            if missing == "pixel_values" and not required and deviations.hold("missing-pixels-are-looked-into"):
                compare.equal(type(answer.refusal).__name__, "AttributeError", name=f"{name}: {answer.outcome}")
                continue
            compare.equal(isinstance(answer.refusal, (ValueError, TypeError)), True, name=f"{name}: {answer.outcome}")
            compare.equal(missing in str(answer.refusal), True, name=f"{name} is named: {answer.outcome}")


MISFITS: dict[str, Callable[[VisionConfig], tuple[int, ...]]] = {
    "larger": lambda config: (
        config.num_channels,
        config.image_size + config.patch_size,
        config.image_size + config.patch_size,
    ),
    "a_pixel_larger": lambda config: (config.num_channels, config.image_size + 1, config.image_size + 1),
    "a_pixel_smaller": lambda config: (config.num_channels, config.image_size - 1, config.image_size - 1),
    "wider": lambda config: (config.num_channels, config.image_size, config.image_size + config.patch_size),
    "twice_and_half": lambda config: (config.num_channels, config.image_size // 2, config.image_size * 2),
}
"""Shapes of images that fit with interpolate_pos_encoding only."""

UNFIT: dict[str, Callable[[VisionConfig], tuple[int, ...]]] = {
    "a_channel_more": lambda config: (config.num_channels + 1, config.image_size, config.image_size),
    "a_channel_less": lambda config: (config.num_channels - 1, config.image_size, config.image_size),
    "channels_last": lambda config: (config.image_size, config.image_size, config.num_channels),
    "less_than_a_patch": lambda config: (config.num_channels, config.patch_size - 1, config.patch_size - 1),
    "a_batch_of_batches": lambda config: (1, config.num_channels, config.image_size, config.image_size),
}
"""Shapes of images that never fit."""


@every_image_entry
@pytest.mark.parametrize("shape", [*MISFITS, *UNFIT])
def test_images_that_do_not_fit(clip: Clip, compare: Compare, entry: EntryPoint, shape: str) -> None:
    """Images of another size or with other channels than the model's are refused, not cropped, scaled or padded.

    With interpolate_pos_encoding too, other channels and images smaller than a patch are refused.
    """
    texts = clip.subject.tensors(clip.texts(1)) if entry.texts else {}
    size = {**MISFITS, **UNFIT}[shape](clip.config.vision)
    pixels = clip.subject.tensors({"pixel_values": np.zeros((1, *size), dtype=np.float32)})
    for options in ({}, {"interpolate_pos_encoding": True}) if shape in UNFIT else ({},):
        answer = ask(partial(enter, clip.subject, entry, **texts, **pixels, **options))
        _expect_refusal(compare, answer, f"{entry}({', '.join(options)}) of images {shape} {size}")


@every_image_entry
def test_an_image_without_a_batch(clip: Clip, compare: Compare, entry: EntryPoint) -> None:
    """A single image without a batch axis is refused, or treated as a batch of one."""
    tensors = clip.subject.tensors(clip.inputs(entry, images=1, texts=1))
    expected = enter(clip.subject, entry, **tensors)
    alone = {**tensors, "pixel_values": tensors["pixel_values"][0]}  # (channels, height, width)
    answer = ask(lambda: enter(clip.subject, entry, **alone))
    _expect_right_or_refused(compare, answer, expected, f"{entry} of an image without a batch")


@every_text_entry
def test_a_text_without_a_batch(clip: Clip, compare: Compare, entry: EntryPoint) -> None:
    """A single text without a batch axis is refused, or treated as a batch of one."""
    tensors = clip.subject.tensors(clip.inputs(entry, images=1, texts=1, mask="none"))
    expected = enter(clip.subject, entry, **tensors)
    alone = {**tensors, "input_ids": tensors["input_ids"][0]}  # (tokens,)
    _expect_right_or_refused(compare, ask(lambda: enter(clip.subject, entry, **alone)), expected, f"{entry} of one row")


@every_text_entry
@pytest.mark.parametrize("given", ["ids", "mask", "positions"])
def test_texts_that_are_too_long(clip: Clip, compare: Compare, entry: EntryPoint, given: str) -> None:
    """A text with one token more than the model has positions is refused, with ids alone, with a mask and with valid
    position ids; it is never cut.
    """
    longest = clip.config.text.max_position_embeddings
    inputs = clip.inputs(entry, images=1, texts=1, mask="none")
    ids = np.resize(inputs["input_ids"], (1, longest + 1))  # (1, tokens + 1)
    more = {"ids": {}, "mask": {"attention_mask": np.ones_like(ids)}, "positions": {"position_ids": np.zeros_like(ids)}}
    tensors = clip.subject.tensors({**inputs, "input_ids": ids, **more[given]})
    _expect_refusal(compare, ask(lambda: enter(clip.subject, entry, **tensors)), f"{entry} of {longest + 1} tokens")


@every_text_entry
@pytest.mark.parametrize("where", ["input_ids", "position_ids"])
def test_ids_out_of_range(clip: Clip, compare: Compare, evidence: Evidence, entry: EntryPoint, where: str) -> None:
    """Ids below 0, or as large as the vocabulary or the number of positions, are refused, not wrapped or clipped."""
    if not clip.subject.device.startswith("cpu"):
        evidence.not_applicable("on an accelerator such an id ends the process, in every release")
    inputs = clip.inputs(entry, images=1, texts=1)
    inputs["position_ids"] = np.arange(inputs["input_ids"].shape[1])[None]  # (1, tokens)
    size = clip.config.text.vocab_size if where == "input_ids" else clip.config.text.max_position_embeddings
    for wrong in (-1, size, 2**31):
        ids = inputs[where].copy()  # (1, tokens)
        ids[0, 1] = wrong
        tensors = clip.subject.tensors({**inputs, where: ids})
        answer = ask(partial(enter, clip.subject, entry, **tensors))
        _expect_refusal(compare, answer, f"{entry} with {where} of {wrong}")


@every_text_entry
@pytest.mark.parametrize("dtype", ["float32", "bool", "uint8", "int16"])
def test_ids_of_other_types(clip: Clip, compare: Compare, entry: EntryPoint, dtype: str) -> None:
    """Token ids that are not integers, or integers too small to hold them all, are refused, or used by their values."""
    inputs = clip.inputs(entry, images=1, texts=1)
    other = inputs["input_ids"].astype(dtype)  # (1, tokens)
    answer = ask(lambda: enter(clip.subject, entry, **clip.subject.tensors({**inputs, "input_ids": other})))
    vocabulary = clip.config.text.vocab_size
    values = other.astype(np.int64) % vocabulary  # (1, tokens)
    if (values != other).any():  # a value that is not an id has no right answer
        _expect_refusal(compare, answer, f"{entry} of {dtype} ids out of range")
        return
    read = clip.subject.tensors({**inputs, "input_ids": values})
    expected = enter(clip.subject, entry, **read)
    _expect_right_or_refused(compare, answer, expected, f"{entry} of {dtype} ids")


MASKS: dict[str, Callable[[Any], Any]] = {
    "a_token_less": lambda mask: mask[:, :-1],
    "a_token_more": lambda mask: np.concatenate([mask, mask[:, :1]], axis=1),
    "a_text_less": lambda mask: mask[:-1],
    "without_a_batch": lambda mask: mask[0],
}


@every_text_entry
@pytest.mark.parametrize("shape", list(MASKS))
def test_masks_that_do_not_fit(clip: Clip, compare: Compare, evidence: Evidence, entry: EntryPoint, shape: str) -> None:
    """A mask for fewer texts or other tokens than the ids is refused, not cut, stretched or ignored."""
    if not clip.subject.device.startswith("cpu"):
        evidence.not_applicable("on an accelerator an index out of range ends the process, in every release")
    inputs = clip.inputs(entry, images=1, texts=TEXTS, mask="interior")
    inputs["attention_mask"] = MASKS[shape](inputs["attention_mask"])
    answer = ask(lambda: enter(clip.subject, entry, **clip.subject.tensors(inputs)))
    _expect_refusal(compare, answer, f"{entry} with a mask {shape}")


@every_text_entry
def test_masks_of_more_texts(clip: Clip, compare: Compare, deviations: Deviations, entry: EntryPoint) -> None:
    """A mask with more rows than there are texts is refused."""
    inputs = clip.inputs(entry, images=1, texts=TEXTS, mask="interior")
    expected = enter(clip.subject, entry, **clip.subject.tensors(inputs))
    others = clip.batch.interior_mask[::-1]  # (rows, tokens)
    inputs["attention_mask"] = np.concatenate([inputs["attention_mask"], others])  # (texts + rows, tokens)
    answer = ask(lambda: enter(clip.subject, entry, **clip.subject.tensors(inputs)))
    name = f"{entry} with a mask of more texts"
    if deviations.hold("masks-of-more-texts"):
        compare.equal(answer.refusal is None, True, name=f"{name}: {answer.outcome}")
        expect_same(compare, answer.value, expected, name)
        return
    _expect_refusal(compare, answer, name)


@every_entry
@pytest.mark.parametrize("keyword", ["atention_mask", "output_hidden_state", "pixels", "threshold"])
def test_unknown_keywords(
    clip: Clip, compare: Compare, deviations: Deviations, entry: EntryPoint, keyword: str
) -> None:
    """A keyword that a model does not know, such as a misspelt one, is refused."""
    tensors = clip.subject.tensors(clip.inputs(entry, images=1, texts=1, mask="interior"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        answer = ask(lambda: enter(clip.subject, entry, **tensors, **{keyword: True}))
    name = f"{entry}({keyword}=True)"
    warned = entry.method != "forward" and deviations.hold("features-ignore-unknown-keywords")
    if warned:
        compare.equal(any(keyword in str(warning.message) for warning in caught), True, name=f"a warning of {keyword}")
    if warned or deviations.hold("unknown-keywords-are-ignored"):
        compare.equal(answer.refusal is None, True, name=f"{name}: {answer.outcome}")
        expect_same(compare, answer.value, enter(clip.subject, entry, **tensors), name)
        return
    compare.equal(type(answer.refusal).__name__, "TypeError", name=f"{name}: {answer.outcome}")
    compare.equal(keyword in str(answer.refusal), True, name=f"{name} names the keyword: {answer.outcome}")


@every_entry
def test_an_input_given_twice(clip: Clip, compare: Compare, entry: EntryPoint) -> None:
    """An input given both by position and by keyword is refused."""
    tensors = clip.subject.tensors(clip.inputs(entry, images=1, texts=1))
    answer = ask(lambda: enter(clip.subject, entry, next(iter(tensors.values())), **tensors))
    compare.equal(type(answer.refusal).__name__, "TypeError", name=f"{entry} with an input twice: {answer.outcome}")


@pytest.mark.parametrize(("images", "texts"), [(2, 3), (3, 2), (2, 1)], ids=str)
def test_losses_of_unequal_counts(clip: Clip, compare: Compare, evidence: Evidence, images: int, texts: int) -> None:
    """return_loss with unequal counts of images and texts is refused: there is no diagonal."""
    if not clip.subject.device.startswith("cpu"):
        evidence.not_applicable("on an accelerator a target out of range ends the process, in every release")
    answer = ask(lambda: clip.forward(images=images, texts=texts, return_loss=True))
    _expect_refusal(compare, answer, f"CLIPModel(return_loss=True) of {images} images and {texts} texts")


@every_entry
def test_refusals_leave_no_trace(clip: Clip, compare: Compare, entry: EntryPoint) -> None:
    """After a call that raised, before the model or inside it, the next call gives what it gave before."""
    tensors = clip.subject.tensors(clip.inputs(entry, images=IMAGES, texts=IMAGES, mask="interior"))
    options = {} if entry.method != "forward" else {"output_hidden_states": True}
    before = [enter(clip.subject, entry, **tensors), enter(clip.subject, entry, **tensors, **options)]
    hook = _last_layer(clip, entry).register_forward_pre_hook(_break_off)
    try:
        answer = ask(lambda: enter(clip.subject, entry, **tensors, **options))
    finally:
        hook.remove()
    compare.equal("broken off" in str(answer.refusal), True, name=f"{entry} broke off inside: {answer.outcome}")
    expect_same(compare, enter(clip.subject, entry, **tensors), before[0], f"{entry} after breaking off")
    expect_same(
        compare, enter(clip.subject, entry, **tensors, **options), before[1], f"{entry} with states after breaking off"
    )


def _last_layer(clip: Clip, entry: EntryPoint) -> Any:
    tower, layers = ("vision", clip.config.vision) if entry.images else ("text", clip.config.text)
    last = f"{tower}_model.encoder.layers.{layers.num_hidden_layers - 1}"
    return clip.subject.modules(entry.model_class)[last]


def _break_off(*_: object) -> None:
    raise RuntimeError("broken off by the check")


def _expect_refusal(compare: Compare, answer: Any, name: str) -> None:
    __tracebackhide__ = True
    compare.equal(answer.refusal is not None, True, name=f"{name} is refused: {answer.outcome}")
    compare.equal(bool(str(answer.refusal)), True, name=f"{name} is refused with a reason")


def _expect_right_or_refused(compare: Compare, answer: Any, expected: Any, name: str) -> None:
    __tracebackhide__ = True
    if answer.refusal is None:
        expect_same(compare, answer.value, expected, name)
    else:
        _expect_refusal(compare, answer, name)
