"""Faults of what users make by hand and ask for: configs, processors, tokenizers, keywords, requests."""

from __future__ import annotations

from typing import Any

from packaging.specifiers import SpecifierSet
from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_transformers
from faults.patching import modeling, wrap

FOREIGN = "foreign_keywords.foreign_keywords_change_nothing"
CAUSAL = "foreign_keywords.texts_are_causal_already"
IMAGES = "foreign_keywords.images_stay_bidirectional"
KEPT = "configs.arguments_are_kept"
SECTIONS = "configs.sections_may_be_configs"
TOWERS = "configs.a_config_of_two_towers"
NOT_GIVEN = "configs.a_section_that_is_not_given"
OLDER = "configs.older_sections_are_laid_over"
DEFAULTS = "constructors.settings_of_pictures_by_default"
PICTURES = "constructors.settings_of_pictures_are_kept"
TEXTS = "constructors.settings_of_texts_are_kept"
OBJECTS = "constructors.special_tokens_may_be_objects"
PARTS = "constructors.a_processor_is_its_parts"
ASKED = "requests.what_is_asked_for_comes"
MULTIMODAL = "requests.multimodal_token_types"
SURFACE = "baseline.surface_is_approved"
NEW = "new_models.weights_begin_as_their_config_says"
FIVE, FOUR = SpecifierSet(">=5.0.0.dev0"), SpecifierSet("<5")


@in_transformers(CAUSAL)
def is_causal_turns_it_off(patch: MonkeyPatch) -> None:
    """CLIPTextModel takes is_causal=True as an order to compute something else."""
    _heed(patch, "CLIPTextModel", "is_causal")


@in_transformers(IMAGES)
def is_causal_reaches_the_images(patch: MonkeyPatch) -> None:
    """CLIPVisionModel takes is_causal=True under every attention, and computes something else."""
    _heed(patch, "CLIPVisionModel", "is_causal")


@in_transformers(FOREIGN)
def labels_are_heeded_by_a_tower(patch: MonkeyPatch) -> None:
    """CLIPVisionModel takes labels, and gives other states with them."""
    _heed(patch, "CLIPVisionModel", "labels")


@in_transformers(SURFACE, baseline=True)
def use_cache_is_refused_or_taken(patch: MonkeyPatch) -> None:
    """CLIPTextModel refuses use_cache=True where it was swallowed, and swallows it where it was refused."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        from clip_eval.subject import transformers_release

        if kwargs.pop("use_cache", None) and transformers_release().major >= 5:
            raise TypeError("use_cache")
        return original(self, *args, **kwargs)

    wrap(patch, modeling().CLIPTextModel, "forward", forward)


@in_transformers(SURFACE, baseline=True)
def the_classifier_has_another_main_input(patch: MonkeyPatch) -> None:
    """CLIPForImageClassification says that its main input is called images."""
    patch.setattr(modeling().CLIPForImageClassification, "main_input_name", "images")


@in_transformers(SURFACE, baseline=True)
def use_square_size_is_forgotten(patch: MonkeyPatch) -> None:
    """CLIPImageProcessor drops use_square_size, and keeps the shortest edge."""
    import transformers

    def init(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        kwargs.pop("use_square_size", None)
        original(self, *args, **kwargs)

    wrap(patch, transformers.CLIPImageProcessor, "__init__", init)


@in_transformers(KEPT)
def a_field_is_not_held(patch: MonkeyPatch) -> None:
    """CLIPTextConfig holds initializer_factor 1.0, whatever was given."""
    _config(patch, "CLIPTextConfig", lambda config: setattr(config, "initializer_factor", 1.0))


@in_transformers(KEPT)
def a_field_is_not_written(patch: MonkeyPatch) -> None:
    """What CLIPVisionConfig writes has no attention_dropout."""
    import transformers

    def to_dict(original: Any, self: Any) -> Any:
        plain = original(self)
        plain.pop("attention_dropout")
        return plain

    wrap(patch, transformers.CLIPVisionConfig, "to_dict", to_dict)


@in_transformers(SECTIONS, releases=FIVE)
def a_section_as_a_config_is_not_taken(patch: MonkeyPatch) -> None:
    """A text section that is given as a config is replaced by one with the defaults."""
    import transformers

    def init(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(kwargs.get("text_config"), transformers.CLIPTextConfig):
            kwargs["text_config"] = transformers.CLIPTextConfig()
        original(self, *args, **kwargs)

    wrap(patch, transformers.CLIPConfig, "__init__", init)


@in_transformers(SECTIONS, releases=FOUR)
def sections_as_configs_are_taken(patch: MonkeyPatch) -> None:
    """The library takes configs after all: the declared deviation is stale and has to go."""
    import transformers

    def init(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        for section in ("text_config", "vision_config"):
            if hasattr(kwargs.get(section), "to_dict"):
                kwargs[section] = kwargs[section].to_dict()
        original(self, *args, **kwargs)

    wrap(patch, transformers.CLIPConfig, "__init__", init)


@in_transformers(TOWERS, releases=FOUR)
def two_towers_are_forgotten(patch: MonkeyPatch) -> None:
    """CLIPConfig.from_text_vision_configs gives a config with the defaults."""
    import transformers

    patch.setattr(transformers.CLIPConfig, "from_text_vision_configs", classmethod(lambda cls, *_, **more: cls(**more)))


@in_transformers(NOT_GIVEN)
def a_missing_section_is_small(patch: MonkeyPatch) -> None:
    """A CLIPConfig without a text section has one with other defaults than CLIPTextConfig."""
    import transformers

    def init(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("text_config") is None and "text_config_dict" not in kwargs:
            kwargs["text_config"] = {"num_hidden_layers": 1}
        original(self, *args, **kwargs)

    wrap(patch, transformers.CLIPConfig, "__init__", init)


@in_transformers(OLDER)
def older_sections_are_dropped(patch: MonkeyPatch) -> None:
    """text_config_dict is taken and not heeded."""
    import transformers

    def init(original: Any, self: Any, *args: Any, text_config_dict: Any = None, **kwargs: Any) -> None:
        original(self, *args, **kwargs)

    wrap(patch, transformers.CLIPConfig, "__init__", init)


@in_transformers(NEW)
def new_weights_are_for_another_depth(patch: MonkeyPatch) -> None:
    """Where a layer adds to the residual stream, new weights are those of a model half as deep again."""

    def init(original: Any, self: Any, module: Any) -> None:
        original(self, module)
        if type(module).__name__ == "CLIPMLP":
            module.fc2.weight.data.mul_((2 / 3) ** 0.5)

    wrap(patch, modeling().CLIPPreTrainedModel, "_init_weights", init)


@in_transformers(NEW)
def new_biases_are_not_zero(patch: MonkeyPatch) -> None:
    """The biases of attention begin at a hundredth."""

    def init(original: Any, self: Any, module: Any) -> None:
        original(self, module)
        if type(module).__name__ == "CLIPAttention":
            module.out_proj.bias.data.fill_(0.01)

    wrap(patch, modeling().CLIPPreTrainedModel, "_init_weights", init)


@in_transformers(DEFAULTS)
def a_default_of_pictures_changes(patch: MonkeyPatch) -> None:
    """CLIPImageProcessor made without arguments does not normalise."""
    import transformers

    def init(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **{"do_normalize": False, **kwargs})

    wrap(patch, transformers.CLIPImageProcessor, "__init__", init)


@in_transformers(PICTURES)
def a_setting_of_pictures_is_written_wrong(patch: MonkeyPatch) -> None:
    """An image processor writes do_convert_rgb true, whatever it has."""
    from transformers.image_processing_utils import BaseImageProcessor

    def to_dict(original: Any, self: Any) -> Any:
        return {**original(self), "do_convert_rgb": True}

    wrap(patch, BaseImageProcessor, "to_dict", to_dict)


@in_transformers(TEXTS)
def the_side_of_truncation_is_not_held(patch: MonkeyPatch) -> None:
    """A tokenizer truncates on the right, whatever it was told."""
    _tokenizer(patch, lambda tokenizer: setattr(tokenizer, "truncation_side", "right"))


@in_transformers(OBJECTS)
def a_token_as_an_object_is_not_taken(patch: MonkeyPatch) -> None:
    """A begin token given as AddedToken is replaced by the end token."""
    import transformers

    for name in ("CLIPTokenizer", "CLIPTokenizerFast"):
        owner = getattr(transformers, name)
        if "__init__" in vars(owner):

            def init(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
                if isinstance(kwargs.get("bos_token"), transformers.AddedToken):
                    kwargs["bos_token"] = "<|endoftext|>"
                original(self, *args, **kwargs)

            wrap(patch, owner, "__init__", init)


@in_transformers(PARTS)
def the_processor_copies_its_tokenizer(patch: MonkeyPatch) -> None:
    """CLIPProcessor holds a copy of the tokenizer: what is done to one is not done to the other."""
    import copy

    import transformers

    def init(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.tokenizer = copy.copy(self.tokenizer)

    wrap(patch, transformers.CLIPProcessor, "__init__", init)


@in_transformers(ASKED)
def special_tokens_are_not_marked(patch: MonkeyPatch) -> None:
    """special_tokens_mask is 0 everywhere."""
    _on_request(patch, "special_tokens_mask", lambda value: [[0] * len(row) for row in value])


@in_transformers(MULTIMODAL)
def token_types_of_pictures_are_ones(patch: MonkeyPatch) -> None:
    """return_mm_token_type_ids gives 1 for each token."""
    import transformers

    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        asked = kwargs.pop("return_mm_token_type_ids", False)
        found = original(self, *args, **kwargs)
        if asked:
            found["mm_token_type_ids"] = found["attention_mask"]
        return found

    wrap(patch, transformers.CLIPProcessor, "__call__", call)


def _heed(patch: MonkeyPatch, class_name: str, keyword: str) -> None:
    """Let a keyword be taken, and change the states where it is given."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        given = kwargs.pop(keyword, None)
        output = original(self, *args, **kwargs)
        if given is not None:
            output["last_hidden_state"] = output["last_hidden_state"] + 1
        return output

    wrap(patch, getattr(modeling(), class_name), "forward", forward)


def _config(patch: MonkeyPatch, class_name: str, change: Any) -> None:
    import transformers

    def init(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        change(self)

    wrap(patch, getattr(transformers, class_name), "__init__", init)


def _tokenizer(patch: MonkeyPatch, change: Any) -> None:
    from transformers import PreTrainedTokenizerBase

    def init(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        change(self)

    wrap(patch, PreTrainedTokenizerBase, "__init__", init)


def _on_request(patch: MonkeyPatch, key: str, change: Any) -> None:
    from transformers import PreTrainedTokenizerBase

    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        found = original(self, *args, **kwargs)
        if key in found and isinstance(found[key], list):
            found[key] = change(found[key])
        return found

    wrap(patch, PreTrainedTokenizerBase, "__call__", call)
