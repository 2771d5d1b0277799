"""Processors and tokenizers made in Python: arguments are kept, saved and loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clip_eval.baseline.surface.tiny_tokenizer import tiny_tokenizer, vocabulary
from clip_eval.run.evidence import Evidence
from clip_eval.subject import provides, transformers_module
from clip_eval.subject.observations import Clip
from clip_eval.suite._constructors import IMAGE_ARGUMENTS, TEXT_ARGUMENTS, as_plain, saved_and_loaded
from clip_eval.verdict.compare import Compare

pytestmark = pytest.mark.needs("surface")

TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")
TEXTS = ("ab cab", "q", "x<|endoftext|> y", "z <|startoftext|>")

DEFAULTS: Mapping[str, object] = {
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "do_convert_rgb": True,
}
"""The documented defaults of CLIPImageProcessor."""

every_image_processor = pytest.mark.parametrize(
    "name", ["CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil"]
)
every_tokenizer = pytest.mark.parametrize("name", TOKENIZERS)


@every_image_processor
def test_settings_of_pictures_by_default(clip: Clip, compare: Compare, evidence: Evidence, name: str) -> None:
    """An image processor made without arguments has the documented settings, those of OpenAI's CLIP."""
    if not provides(name):
        evidence.not_applicable(f"no {name} can be used here")
    made = clip.processors.construct(name)
    for field, value in DEFAULTS.items():
        compare.equal(as_plain(getattr(made, field)), value, name=f"{field} of {name} by default")


@every_image_processor
def test_settings_of_pictures_are_kept(
    clip: Clip, compare: Compare, evidence: Evidence, tmp_path: Path, name: str
) -> None:
    """Every argument of an image processor is an attribute, is in to_dict, and is the same after saving and loading."""
    if not provides(name):
        evidence.not_applicable(f"no {name} can be used here")
    for field, value in IMAGE_ARGUMENTS.items():
        made = clip.processors.construct(name, **{field: value})
        again = saved_and_loaded(made, tmp_path / field)
        for how, held in (("as made", made), ("saved and loaded", again)):
            compare.equal(as_plain(getattr(held, field)), value, name=f"{field} of {name}, {how}")
        compare.equal(as_plain(made.to_dict()[field]), value, name=f"{field} in to_dict() of {name}")
        for other in (one for one in IMAGE_ARGUMENTS if one != field):
            expected = as_plain(getattr(clip.processors.construct(name), other))
            compare.equal(as_plain(getattr(again, other)), expected, name=f"{other} of {name} with {field}")


@every_tokenizer
def test_settings_of_texts_are_kept(clip: Clip, compare: Compare, tmp_path: Path, name: str) -> None:
    """Every argument of a tokenizer is an attribute and the same after saving and loading by its class and by
    AutoTokenizer; special tokens have the vocabulary's ids.
    """
    for field, value in TEXT_ARGUMENTS.items():
        made = tiny_tokenizer(clip.processors, name, **{field: value})
        again = saved_and_loaded(made, tmp_path / field)
        auto = saved_and_loaded(made, tmp_path / f"{field}-auto", "AutoTokenizer")
        for how, held in (("as made", made), ("saved and loaded", again), ("loaded by AutoTokenizer", auto)):
            compare.equal(as_plain(getattr(held, field)), value, name=f"{field} of {name}, {how}")
            if field.endswith("_token"):
                known = vocabulary()[str(value)]
                compare.equal(getattr(held, f"{field}_id"), known, name=f"{field}_id of {name}, {how}")


@every_tokenizer
def test_special_tokens_may_be_objects(clip: Clip, compare: Compare, tmp_path: Path, name: str) -> None:
    """Special tokens given as AddedToken or as text give the same tokenizer: same ids of every text, same token, same
    id, saved and loaded too.
    """
    given = {"bos_token": "<|startoftext|>", **dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>")}
    plain = tiny_tokenizer(clip.processors, name, **given)
    made = tiny_tokenizer(
        clip.processors,
        name,
        **{field: transformers_module().AddedToken(token, special=True) for field, token in given.items()},
    )
    expected = _ids(clip, plain)
    for how, held in (("as made", made), ("saved and loaded", saved_and_loaded(made, tmp_path))):
        compare.equal(_ids(clip, held), expected, name=f"ids of {name} with objects, {how}")
        for field, token in given.items():
            compare.equal(str(getattr(held, field)), token, name=f"{field} of {name}, {how}")
            compare.equal(
                getattr(held, f"{field}_id"), getattr(plain, f"{field}_id"), name=f"{field}_id of {name}, {how}"
            )
        decoded = clip.processors.process(held.decode, expected[0], skip_special_tokens=True)
        compare.equal(decoded, "ab cab", name=f"a text decoded by {name}, {how}")


def test_a_processor_is_its_parts(clip: Clip, compare: Compare, tmp_path: Path) -> None:
    """CLIPProcessor made of an image processor and a tokenizer, by keyword or position, holds these objects and gives
    what each gives; its settings survive saving.
    """
    pictures = clip.processors.construct(
        "CLIPImageProcessor", size={"shortest_edge": 20}, crop_size={"height": 20, "width": 20}
    )
    texts = tiny_tokenizer(clip.processors, "CLIPTokenizerFast", model_max_length=33)
    picture = Image.fromarray(np.arange(30 * 40 * 3, dtype=np.uint8).reshape(30, 40, 3))
    options: dict[str, Any] = {"return_tensors": "np", "padding": True}
    for how, arguments in (("position", (pictures, texts)), ("keyword", ())):
        named = {} if arguments else {"image_processor": pictures, "tokenizer": texts}
        made = clip.processors.construct("CLIPProcessor", *arguments, **named)
        compare.equal(made.image_processor is pictures, True, name=f"the image processor given by {how} is held")
        compare.equal(made.tokenizer is texts, True, name=f"the tokenizer given by {how} is held")
        both = clip.processors.process(made, text=list(TEXTS), images=picture, **options)
        alone = clip.processors.process(pictures, images=picture, return_tensors="np")["pixel_values"]
        compare.equal(both["pixel_values"], alone, name=f"pixel_values of parts given by {how}")
        ids = clip.processors.process(texts, text=list(TEXTS), **options)["input_ids"]
        compare.equal(both["input_ids"], ids, name=f"input_ids of parts given by {how}")
    again = saved_and_loaded(made, tmp_path)
    compare.equal(as_plain(again.image_processor.size), {"shortest_edge": 20}, name="size, saved and loaded")
    compare.equal(again.tokenizer.model_max_length, 33, name="model_max_length, saved and loaded")


def _ids(clip: Clip, tokenizer: Any) -> list[list[int]]:
    return [list(ids) for ids in clip.processors.process(tokenizer, text=list(TEXTS))["input_ids"]]
