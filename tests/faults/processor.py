"""Faults of the full processor: keys, dtypes, and texts beside images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_file, in_transformers
from faults.files import edit_json
from faults.patching import change_pixels, change_tokens, wrap

KEYS = "processor.keys_are_the_documented_ones"
BUILDS = "processor.every_class_builds_one"


@in_transformers(KEYS)
def pixels_are_doubles(patch: MonkeyPatch) -> None:
    """pixel_values come in float64."""
    change_pixels(patch, lambda pixels: pixels.double())


@in_transformers(KEYS)
def processor_adds_a_key(patch: MonkeyPatch) -> None:
    """Tokenizers return token_type_ids, which CLIP has no use for."""

    def spoil(encoding: Any) -> None:
        encoding["token_type_ids"] = encoding["input_ids"] * 0

    change_tokens(patch, spoil)


@in_transformers(KEYS)
def processor_drops_the_mask(patch: MonkeyPatch) -> None:
    """CLIPProcessor leaves the attention mask out when it is given texts and images."""
    import transformers

    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        if "pixel_values" in result:
            result.pop("attention_mask", None)
        return result

    wrap(patch, transformers.CLIPProcessor, "__call__", call)


@in_transformers("processor.texts_and_images_do_not_mix")
def texts_beside_images_lose_their_end(patch: MonkeyPatch) -> None:
    """CLIPProcessor gives other token ids when it is given images as well."""
    import transformers

    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        if "pixel_values" in result and "input_ids" in result:
            result["input_ids"] = result["input_ids"].roll(1, dims=-1)
        return result

    wrap(patch, transformers.CLIPProcessor, "__call__", call)


@in_transformers(KEYS)
def ids_are_short(patch: MonkeyPatch) -> None:
    """Token ids come in int32."""

    def spoil(encoding: Any) -> None:
        if hasattr(encoding["input_ids"], "int"):
            encoding["input_ids"] = encoding["input_ids"].int()

    change_tokens(patch, spoil)


@in_file(BUILDS)
def image_processor_type_is_unknown(directory: Path) -> None:
    """The file names an image processor that no release has, so AutoProcessor raises."""
    edit_json(
        directory / "preprocessor_config.json", lambda data: data.update(image_processor_type="CLIPPictureReader")
    )


@in_transformers(BUILDS)
def tokenizers_cannot_be_built(patch: MonkeyPatch) -> None:
    """Every class that loads a tokenizer raises."""
    import transformers

    def load(cls: Any, *args: Any, **kwargs: Any) -> Any:
        raise ValueError("the merges cannot be read")

    patch.setattr(transformers.PreTrainedTokenizerBase, "from_pretrained", classmethod(load))
