"""The processor: pixels against the oracle's, token ids against the tokenizer's own rules, both against the config."""

from __future__ import annotations

import importlib
import importlib.util
import json
import unicodedata
from typing import Any

import numpy as np
import pytest

from clip_eval import budgets
from clip_eval.compare import Compare, to_array
from clip_eval.config import LEGACY_EOS_TOKEN_ID
from clip_eval.deviations import Deviations
from clip_eval.observe import Clip
from clip_eval.oracle.pixels import PixelSettings, Transparency, preprocess
from clip_eval.oracle.tokens import BytePairEncoder
from clip_eval.outcomes import Evidence
from clip_eval.probes import TEXTS, end_token_id, make_pictures
from clip_eval.subject import resizes_with_torchvision

PICTURES = ("landscape", "portrait", "square", "large", "wide", "tiny", "grey", "palette", "cmyk", "translucent")
IMAGE_ROUTES = ("AutoProcessor", "CLIPProcessor", "AutoImageProcessor", "CLIPImageProcessor")
TEXT_ROUTES = ("AutoProcessor", "CLIPProcessor", "AutoTokenizer", "CLIPTokenizer", "CLIPTokenizerFast")


@pytest.fixture
def settings(clip: Clip, evidence: Evidence) -> PixelSettings:
    """What the checkpoint's files tell the image processor to do."""
    path = clip.subject.checkpoint.path
    if not clip.subject.checkpoint.has_image_processor:
        evidence.not_run("the checkpoint has no image processor (preprocessor_config.json)")
    files = [path / name for name in ("processor_config.json", "preprocessor_config.json") if (path / name).is_file()]
    raw = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    stated = [entry for entry in raw if "image_processor" in entry or "image_mean" in entry or "crop_size" in entry]
    return PixelSettings.from_dict((stated or raw)[0], where=path)


@pytest.fixture
def encoder(clip: Clip, evidence: Evidence) -> BytePairEncoder:
    """The tokenizer's own rules, read from its files."""
    if not clip.subject.checkpoint.has_tokenizer:
        evidence.not_run("the checkpoint has no tokenizer (tokenizer.json, or vocab.json with merges.txt)")
    return BytePairEncoder.from_directory(clip.subject.checkpoint.path)


@pytest.mark.parametrize("route", IMAGE_ROUTES)
def test_pixels_match_the_oracle(clip: Clip, compare: Compare, settings: PixelSettings, route: str) -> None:
    """Every pixel of a batch of mixed sizes equals Pillow's bicubic resize, centre crop and exact normalisation.

    Loaded through every class that users load it by. torchvision's resize may differ by one uint8 level.
    """
    pictures = make_pictures()
    opaque = [name for name in PICTURES if name != "translucent"]
    pixels = _pixels(clip, route, [pictures[name] for name in opaque])
    budget = _pixel_budget(clip, route, settings)
    compare.equal(len(pixels), len(opaque), name="number of pixel_values")
    for name, observed in zip(opaque, pixels, strict=True):
        compare.within(observed, preprocess(pictures[name], settings), budget, name=f"pixels of the {name} picture")


def test_one_picture_is_a_batch_of_one(clip: Clip, compare: Compare, settings: PixelSettings) -> None:
    """A single picture gives what it gives inside a batch, with a leading axis of one."""
    pictures = make_pictures()
    for name in ("portrait", "tiny"):
        observed = _pixels(clip, "AutoProcessor", pictures[name])
        expected = preprocess(pictures[name], settings)[None]
        compare.within(
            observed, expected, _pixel_budget(clip, "AutoProcessor", settings), name=f"pixels of the {name} picture"
        )


def test_transparency_is_dropped(clip: Clip, compare: Compare, settings: PixelSettings, deviations: Deviations) -> None:
    """A picture with an alpha channel is converted to RGB as Pillow does, alone and among others: alpha is cut off."""
    ground: Transparency = "white" if deviations.hold("transparent-images-on-white") else "dropped"
    pictures = make_pictures()
    picture = pictures["translucent"]
    expected = preprocess(picture, settings, transparency=ground)[None]
    budget = _pixel_budget(clip, "AutoProcessor", settings)
    compare.within(_pixels(clip, "AutoProcessor", picture), expected, budget, name="pixels of the translucent picture")
    among = _pixels(clip, "AutoProcessor", [pictures["square"], picture])[1:]
    compare.within(among, expected, budget, name="pixels of the translucent picture in a batch")


def test_pictures_are_left_alone(clip: Clip, compare: Compare, settings: PixelSettings) -> None:
    """Processing changes no picture that it was given."""
    pictures, untouched = make_pictures(), make_pictures()
    _pixels(clip, "AutoProcessor", list(pictures.values()))
    for name, picture in pictures.items():
        compare.equal(picture.tobytes() == untouched[name].tobytes(), True, name=f"the {name} picture is unchanged")


@pytest.mark.parametrize("route", TEXT_ROUTES)
def test_token_ids_follow_the_rules(
    clip: Clip, compare: Compare, encoder: BytePairEncoder, deviations: Deviations, route: str
) -> None:
    """Token ids and attention mask of a padded batch are what the checkpoint's byte-level BPE gives.

    Loaded through every class that users load it by.
    """
    observed = _tokens(clip, route, list(TEXTS), padding=True)
    python = route == "CLIPTokenizer" and deviations.hold("python-tokenizer-cleans-texts")
    expected = encoder.batch([_cleaned(text) for text in TEXTS] if python else TEXTS, padding=True)
    for position, text in enumerate(TEXTS):
        compare.equal(
            observed["input_ids"][position].tolist(), expected.input_ids[position].tolist(), name=f"ids of {text!r}"
        )
    compare.equal(observed["attention_mask"], expected.attention_mask, name="attention_mask")


@pytest.mark.parametrize("route", TEXT_ROUTES)
def test_long_texts_are_truncated_before_the_end_token(
    clip: Clip, compare: Compare, encoder: BytePairEncoder, route: str
) -> None:
    """truncation=True cuts a text to the model's length, end token last; padding="max_length" fills one up to it."""
    texts, length = (
        ["a red circle " * clip.config.text.max_position_embeddings, "a red circle"],
        clip.config.text.max_position_embeddings,
    )
    observed = _tokens(clip, route, texts, padding="max_length", truncation=True, max_length=length)
    expected = encoder.batch(texts, padding="max_length", truncation=True, max_length=length)
    compare.equal(observed["input_ids"], expected.input_ids, name="input_ids")
    compare.equal(observed["attention_mask"], expected.attention_mask, name="attention_mask")
    own = _tokens(clip, route, texts[:1], truncation=True)
    compare.equal(tuple(own["input_ids"].shape), (1, length), name="length without max_length")


def test_keys_are_the_documented_ones(
    clip: Clip, compare: Compare, settings: PixelSettings, encoder: BytePairEncoder
) -> None:
    """Texts and images together give input_ids, attention_mask and pixel_values; each alone gives its own keys."""
    processor, picture = clip.subject.processor(), make_pictures()["square"]
    both = clip.subject.process(processor, text=["a", "b c"], images=picture, return_tensors="pt", padding=True)
    compare.equal(
        sorted(both.keys()), ["attention_mask", "input_ids", "pixel_values"], name="keys for texts and images"
    )
    text = clip.subject.process(processor, text=["a", "b c"], return_tensors="pt", padding=True)
    compare.equal(sorted(text.keys()), ["attention_mask", "input_ids"], name="keys for texts")
    image = clip.subject.process(processor, images=picture, return_tensors="pt")
    compare.equal(sorted(image.keys()), ["pixel_values"], name="keys for images")
    for name, dtype in (("input_ids", "int64"), ("attention_mask", "int64"), ("pixel_values", "float32")):
        compare.equal(str(both[name].dtype).removeprefix("torch."), dtype, name=f"dtype of {name}")


def test_texts_and_images_do_not_mix(
    clip: Clip, compare: Compare, settings: PixelSettings, encoder: BytePairEncoder
) -> None:
    """Texts and images given together are processed as each is alone."""
    processor, picture = clip.subject.processor(), make_pictures()["portrait"]
    both = clip.subject.process(processor, text=list(TEXTS), images=picture, return_tensors="pt", padding=True)
    expected = encoder.batch(TEXTS, padding=True)
    compare.equal(both["input_ids"], expected.input_ids, name="input_ids beside images")
    compare.equal(both["attention_mask"], expected.attention_mask, name="attention_mask beside images")
    pixels = preprocess(picture, settings)[None]  # (1, channels, height, width)
    budget = _pixel_budget(clip, "AutoProcessor", settings)
    compare.within(both["pixel_values"], pixels, budget, name="pixel_values beside texts")


def test_one_text_is_a_batch_of_one(clip: Clip, compare: Compare, encoder: BytePairEncoder) -> None:
    """A bare string gives what it gives inside a batch, with a leading axis of one."""
    processed = clip.subject.process(clip.subject.processor(), text=TEXTS[0], return_tensors="pt")
    compare.equal(processed["input_ids"], encoder.batch([TEXTS[0]]).input_ids, name="input_ids of one text")


def test_images_fit_the_model(clip: Clip, compare: Compare, settings: PixelSettings) -> None:
    """The image processor's output has the channels and the size that the model's config asks for."""
    vision = clip.config.vision
    pixels = _pixels(clip, "AutoProcessor", make_pictures()["landscape"])
    compare.equal(
        pixels.shape, (1, vision.num_channels, vision.image_size, vision.image_size), name="shape of pixel_values"
    )


def test_tokens_fit_the_model(clip: Clip, compare: Compare, encoder: BytePairEncoder) -> None:
    """The end token is the one the model pools at, ids lie within the embedding, the length is the model's."""
    text = clip.config.text
    tokenizer = clip.subject.processor("AutoTokenizer")
    compare.equal(tokenizer.eos_token_id, end_token_id(text), name="end token id")
    if text.eos_token_id != LEGACY_EOS_TOKEN_ID:
        compare.equal(tokenizer.eos_token_id, text.eos_token_id, name="end token id of the config")
    compare.equal(
        len(tokenizer) <= text.vocab_size, True, name=f"{len(tokenizer)} tokens within {text.vocab_size} embeddings"
    )
    compare.equal(tokenizer.model_max_length, text.max_position_embeddings, name="model_max_length")


def test_distinct_texts_have_distinct_ids(clip: Clip, compare: Compare, encoder: BytePairEncoder) -> None:
    """Texts that differ by more than case, white space and composition never share their token ids."""
    ids = _tokens(clip, "AutoProcessor", list(TEXTS), padding=True)["input_ids"]
    compare.equal(len({tuple(row) for row in ids.tolist()}), len(TEXTS), name="number of distinct rows of ids")


def _pixel_budget(clip: Clip, route: str, settings: PixelSettings) -> budgets.Budget:
    levels = int(resizes_with_torchvision(_part(clip, route, "image_processor")))
    return budgets.pixels(settings.image_mean, settings.image_std, levels=levels)


def _part(clip: Clip, route: str, part: str) -> Any:
    loaded = clip.subject.processor(route)
    return getattr(loaded, part, loaded)


def _pixels(clip: Clip, route: str, images: Any) -> np.ndarray[Any, Any]:
    processed = clip.subject.process(clip.subject.processor(route), images=images, return_tensors="pt")
    return to_array(processed["pixel_values"])


def _cleaned(text: str) -> str:
    """What the Python tokenizer of transformers 4 does to a text before it applies the rules."""
    if importlib.util.find_spec("ftfy"):
        repaired: str = importlib.import_module("ftfy").fix_text(text)
        return repaired
    kept = (char for char in text if char in "\t\n\r" or not unicodedata.category(char).startswith("C"))
    return "".join(f" {char} " if _is_ideograph(char) else char for char in kept)


def _is_ideograph(char: str) -> bool:
    return unicodedata.name(char, "").startswith(("CJK UNIFIED IDEOGRAPH", "CJK COMPATIBILITY IDEOGRAPH"))


def _tokens(clip: Clip, route: str, texts: list[str], **options: object) -> dict[str, np.ndarray[Any, Any]]:
    processed = clip.subject.process(clip.subject.processor(route), text=texts, return_tensors="pt", **options)
    return {name: processed[name].numpy() for name in ("input_ids", "attention_mask")}
