"""The full processor: its keys, and texts beside images. Pixels and token ids have their own chapters."""

from __future__ import annotations

import pytest

from clip_eval.oracle.preprocessing.image_processor import preprocess
from clip_eval.oracle.preprocessing.tokenizer import BytePairEncoder
from clip_eval.probes.images import make_pictures
from clip_eval.probes.texts import TEXTS
from clip_eval.run.evidence import Evidence
from clip_eval.subject import BUILDERS
from clip_eval.subject.observations import Clip
from clip_eval.subject.tokenizers import encoder_of
from clip_eval.suite._images import Pixels, pixels_of
from clip_eval.verdict.compare import Compare


@pytest.fixture
def pixels(clip: Clip, compare: Compare, evidence: Evidence) -> Pixels:
    """The check's access to the image processor."""
    return pixels_of(clip, compare, evidence)


@pytest.fixture
def encoder(clip: Clip, evidence: Evidence) -> BytePairEncoder:
    """The tokenizer's own rules, read from its files."""
    if absence := clip.checkpoint.tokenizer_absence:
        evidence.absent(absence)
    return encoder_of(clip)


@pytest.mark.parametrize("class_name", BUILDERS)
def test_every_class_builds_one(clip: Clip, compare: Compare, evidence: Evidence, class_name: str) -> None:
    """Every class that users load a processor, an image processor or a tokenizer by builds one from the files.

    If several fail for one reason, the most basic one fails and the others are not run because of it.
    """
    processors = clip.processors
    if absence := processors.absence(class_name):
        evidence.absent(absence)
    if reason := processors.obstacle(class_name):
        evidence.not_applicable(reason)
    if finding := processors.finding(class_name):
        raise finding
    compare.equal(callable(clip.processors.load(class_name)), True, name=f"what {class_name} builds can be called")


def test_keys_are_the_documented_ones(clip: Clip, compare: Compare, evidence: Evidence) -> None:
    """Texts and images together give input_ids, attention_mask and pixel_values; each alone gives its own keys.

    Of a tower alone its tokenizer or image processor does.
    """
    _require_files(clip, compare, evidence)
    processor, picture = clip.processors.load(), make_pictures()["square"]
    texts = {"text": ["a", "b c"], "padding": True} if clip.holds.texts else {}
    images = {"images": picture} if clip.holds.images else {}
    keys = [*(["attention_mask", "input_ids"] if texts else []), *(["pixel_values"] if images else [])]
    every = clip.processors.process(processor, **texts, **images, return_tensors="pt")
    compare.equal(sorted(every.keys()), keys, name=f"keys for {' and '.join(_kinds(clip))}")
    for kind, given in (("texts", texts), ("images", images)) if clip.holds.whole else ():
        alone = clip.processors.process(processor, **given, return_tensors="pt")
        own = [name for name in keys if (name == "pixel_values") == (kind == "images")]
        compare.equal(sorted(alone.keys()), own, name=f"keys for {kind}")
    for name, dtype in (("input_ids", "int64"), ("attention_mask", "int64"), ("pixel_values", "float32")):
        if name in keys:
            compare.equal(str(every[name].dtype).removeprefix("torch."), dtype, name=f"dtype of {name}")


def _require_files(clip: Clip, compare: Compare, evidence: Evidence) -> None:
    """Leave the check where the files for what the checkpoint holds are missing, or cannot be followed."""
    if clip.holds.images:
        pixels_of(clip, compare, evidence)
    if clip.holds.texts:
        if absence := clip.checkpoint.tokenizer_absence:
            evidence.absent(absence)
        encoder_of(clip)


def _kinds(clip: Clip) -> list[str]:
    return [*(["texts"] if clip.holds.texts else []), *(["images"] if clip.holds.images else [])]


def test_texts_and_images_do_not_mix(clip: Clip, compare: Compare, pixels: Pixels, encoder: BytePairEncoder) -> None:
    """Texts and images given together are processed as each is alone."""
    processor, picture = clip.processors.load(), make_pictures()["portrait"]
    both = clip.processors.process(processor, text=list(TEXTS), images=picture, return_tensors="pt", padding=True)
    expected = encoder.batch(TEXTS, padding=True)
    compare.equal(both["input_ids"], expected.input_ids, name="input_ids beside images")
    compare.equal(both["attention_mask"], expected.attention_mask, name="attention_mask beside images")
    alone = preprocess(picture, pixels.settings, passes=pixels.passes())[None]  # (1, channels, height, width)
    compare.within(both["pixel_values"], alone, pixels.budget(pixels.settings), name="pixel_values beside texts")
