"""Faults of calls: what is given by position, in unusual values, in the config, at load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from packaging.specifiers import SpecifierSet
from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_transformers
from faults.patching import modeling, wrap, wrap_features

BY_POSITION = "calling_conventions.inputs_by_position"
OPTIONS_BY_POSITION = "calling_conventions.options_by_position"
TRUE = "option_values.true_values_do_what_true_does"
FALSE = "option_values.false_values_do_what_false_does"
LISTED = "option_values.listed_hidden_states"
AS_TUPLE = "option_values.return_dict_off"
IN_CONFIG = "option_values.options_in_the_config"
DICT_IN_CONFIG = "option_values.return_dict_in_the_config"
AT_LOAD = "option_values.options_at_load"

BEFORE_5, FROM_5 = SpecifierSet("<5"), SpecifierSet(">=5.0.0")
FROM_5_23 = SpecifierSet(">=5.23.0")
CLASSES = (
    "CLIPModel",
    "CLIPTextModel",
    "CLIPVisionModel",
    "CLIPTextModelWithProjection",
    "CLIPVisionModelWithProjection",
)


@in_transformers(BY_POSITION)
def mask_and_positions_change_places(patch: MonkeyPatch) -> None:
    """CLIPModel takes position_ids before attention_mask by position, and as documented by keyword."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        first, rest = args[:2], args[2:]
        return original(self, *first, *rest[1::-1], *rest[2:], **kwargs)

    wrap(patch, modeling().CLIPModel, "forward", forward)


@in_transformers(BY_POSITION)
def mask_by_position_is_dropped(patch: MonkeyPatch) -> None:
    """CLIPTextModelWithProjection takes its mask by keyword and drops it by position."""
    _wrap(patch, "CLIPTextModelWithProjection", lambda args: (args[0], None, *args[2:]) if len(args) > 1 else args)


@in_transformers(BY_POSITION)
def features_take_images_by_keyword_alone(patch: MonkeyPatch) -> None:
    """get_image_features refuses pixels by position."""

    def features(original: Any, self: Any, *, pixel_values: Any, **kwargs: Any) -> Any:
        return original(self, pixel_values=pixel_values, **kwargs)

    wrap_features(patch, "get_image_features", features)


@in_transformers(OPTIONS_BY_POSITION, releases=BEFORE_5)
def options_change_places(patch: MonkeyPatch) -> None:
    """CLIPTextModel takes output_hidden_states before output_attentions by position."""
    _wrap(patch, "CLIPTextModel", lambda args: (*args[:3], *(*args[3:5], None)[1::-1]) if len(args) > 3 else args)


@in_transformers(OPTIONS_BY_POSITION, releases=FROM_5)
def interpolation_by_position_is_ignored(patch: MonkeyPatch) -> None:
    """CLIPVisionModelWithProjection takes interpolate_pos_encoding by keyword; by position images are cropped."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        if len(args) != 2:
            return original(self, *args, **kwargs)
        side = self.config.image_size
        return original(self, args[0][:, :, :side, :side], **kwargs)

    wrap(patch, modeling().CLIPVisionModelWithProjection, "forward", forward)


@in_transformers(OPTIONS_BY_POSITION, releases=FROM_5)
def more_by_position_is_swallowed(patch: MonkeyPatch) -> None:
    """CLIPTextModel ignores what is given by position beyond its inputs."""
    _wrap(patch, "CLIPTextModel", lambda args: args[:3])


@in_transformers(TRUE)
def one_does_not_ask_for_a_loss(patch: MonkeyPatch) -> None:
    """CLIPModel gives a loss for return_loss=True and none for return_loss=1."""
    _change_option(patch, "CLIPModel", "return_loss", lambda value: value is True)


@in_transformers(TRUE)
def true_of_numpy_is_false(patch: MonkeyPatch) -> None:
    """CLIPVisionModel gives attention maps for output_attentions=True and none for NumPy's True."""
    _change_option(
        patch, "CLIPVisionModel", "output_attentions", lambda value: type(value).__module__ != "numpy" and value
    )


@in_transformers(TRUE, releases=FROM_5_23)
def numbered_hidden_state_is_another(patch: MonkeyPatch) -> None:
    """CLIPTextModel gives hidden state 0 where hidden state 1 was asked for."""
    _change_option(patch, "CLIPTextModel", "output_hidden_states", lambda value: 0 if type(value) is int else value)


@in_transformers(LISTED)
def lists_of_hidden_states_are_ignored(patch: MonkeyPatch) -> None:
    """CLIPVisionModel gives no hidden states where a list of them is asked for."""
    _change_option(
        patch, "CLIPVisionModel", "output_hidden_states", lambda value: False if isinstance(value, list) else value
    )


@in_transformers(LISTED, releases=SpecifierSet(">=5.17.0"))
def listed_hidden_state_is_zero(patch: MonkeyPatch) -> None:
    """CLIPTextModelWithProjection gives zeros for the hidden states that are listed."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        output = original(self, *args, **kwargs)
        if isinstance(kwargs.get("output_hidden_states"), list):
            output["hidden_states"] = tuple(None if state is None else 0 * state for state in output.hidden_states)
        return output

    wrap(patch, modeling().CLIPTextModelWithProjection, "forward", forward)


@in_transformers(FALSE)
def zero_asks_for_hidden_states(patch: MonkeyPatch) -> None:
    """CLIPVisionModel gives hidden states for output_hidden_states=0, as if any value asked for them."""
    _change_option(patch, "CLIPVisionModel", "output_hidden_states", lambda value: True if value is not None else None)


@in_transformers(FALSE, IN_CONFIG)
def none_asks_for_hidden_states(patch: MonkeyPatch) -> None:
    """CLIPTextModel gives hidden states for output_hidden_states=None, whatever the config says; and none for True."""
    _change_option(patch, "CLIPTextModel", "output_hidden_states", lambda value: value is None)


@in_transformers(AS_TUPLE, "output_objects.return_dict_false_gives_the_tuple")
def tuple_with_hidden_states_lacks_the_pooled_state(patch: MonkeyPatch) -> None:
    """CLIPVisionModel's tuple has no pooled state when hidden states were asked for."""
    _change_tuple(patch, "CLIPVisionModel", lambda found: (found[0], *found[2:]) if len(found) > 2 else found)


@in_transformers(AS_TUPLE)
def tuple_has_attentions_before_hidden_states(patch: MonkeyPatch) -> None:
    """CLIPTextModelWithProjection's tuple has attention maps before hidden states; its output object is right."""
    _change_tuple(
        patch, "CLIPTextModelWithProjection", lambda found: (*found[:2], *found[:1:-1]) if len(found) == 4 else found
    )


@in_transformers(AS_TUPLE)
def tuple_with_everything_nests_objects(patch: MonkeyPatch) -> None:
    """CLIPModel's tuple with a loss ends with an output object in place of a tuple."""

    def forward(original: Any, self: Any, *args: Any, return_dict: Any = None, **kwargs: Any) -> Any:
        if return_dict is not False or not kwargs.get("return_loss"):
            return original(self, *args, return_dict=return_dict, **kwargs)
        output = original(self, *args, return_dict=True, **kwargs)
        return (*output.to_tuple()[:-1], output.vision_model_output)

    wrap(patch, modeling().CLIPModel, "forward", forward)


@in_transformers(AS_TUPLE)
def zero_return_dict_turns_the_tuple_round(patch: MonkeyPatch) -> None:
    """CLIPTextModel and CLIPTextModelWithProjection give a tuple from back to front for return_dict=0."""

    def forward(original: Any, self: Any, *args: Any, return_dict: Any = None, **kwargs: Any) -> Any:
        if type(return_dict) is not int or return_dict:
            return original(self, *args, return_dict=return_dict, **kwargs)
        return original(self, *args, return_dict=False, **kwargs)[::-1]

    for name in ("CLIPTextModel", "CLIPTextModelWithProjection"):
        wrap(patch, getattr(modeling(), name), "forward", forward)


@in_transformers("option_values.return_dict_on")
def no_return_dict_means_a_tuple(patch: MonkeyPatch) -> None:
    """CLIPVisionModelWithProjection gives a tuple for return_dict=None."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        if "return_dict" in kwargs and kwargs["return_dict"] is None:
            kwargs["return_dict"] = False
        return original(self, *args, **kwargs)

    wrap(patch, modeling().CLIPVisionModelWithProjection, "forward", forward)


@in_transformers(IN_CONFIG, AT_LOAD)
def config_of_the_text_tower_is_not_asked(patch: MonkeyPatch) -> None:
    """CLIPTextModel ignores output_hidden_states of its config, set later or at load."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        if len(args) < 5:
            kwargs["output_hidden_states"] = kwargs.get("output_hidden_states") or False
        return original(self, *args, **kwargs)

    wrap(patch, modeling().CLIPTextModel, "forward", forward)


@in_transformers(IN_CONFIG)
def none_against_the_config_gives_the_last_state(patch: MonkeyPatch) -> None:
    """CLIPVisionModel whose config asks for hidden states gives the last one alone for output_hidden_states=None."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        output = original(self, *args, **kwargs)
        asked = kwargs.get("output_hidden_states", False) is None
        if asked and getattr(self.config, "output_hidden_states", False):
            output["hidden_states"] = (output.last_hidden_state,)
        return output

    wrap(patch, modeling().CLIPVisionModel, "forward", forward)


@in_transformers(IN_CONFIG, AT_LOAD)
def full_config_reaches_one_tower(patch: MonkeyPatch) -> None:
    """CLIPModel whose config asks for hidden states gives those of texts, not those of images."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        if "output_hidden_states" in kwargs or not getattr(self.config, "output_hidden_states", False):
            return original(self, *args, **kwargs)
        output = original(self, *args, output_hidden_states=True, **kwargs)
        nested = output.vision_model_output
        kept = {name: value for name, value in nested.items() if name != "hidden_states"}
        output.vision_model_output = type(nested)(**kept)
        if output.text_model_output.hidden_states is None:  # releases that leave nested states out
            output.text_model_output["hidden_states"] = (output.text_model_output.last_hidden_state,)
        return output

    wrap(patch, modeling().CLIPModel, "forward", forward)


@in_transformers("option_values.options_in_a_nested_config")
def nested_config_changes_the_pooled_state(patch: MonkeyPatch) -> None:
    """CLIPModel whose text_config asks for hidden states nests a pooled text state of twice the size."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        output = original(self, *args, **kwargs)
        if getattr(self.config.text_config, "output_hidden_states", False) and hasattr(output, "items"):
            output.text_model_output.pooler_output = output.text_model_output.pooler_output * 2
        return output

    wrap(patch, modeling().CLIPModel, "forward", forward)


@in_transformers(DICT_IN_CONFIG, AT_LOAD)
def tuple_by_config_is_turned_round(patch: MonkeyPatch) -> None:
    """Every class whose config says return_dict=False gives the tuple from back to front, whatever the call says."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.config.return_dict:
            return original(self, *args, **kwargs)
        patched = vars(self.config).get("return_dict")
        self.config.return_dict = True
        try:
            return original(self, *args, **{**kwargs, "return_dict": True}).to_tuple()[::-1]
        finally:
            self.config.return_dict = patched

    for name in CLASSES:
        wrap(patch, getattr(modeling(), name), "forward", forward)


@in_transformers("option_values.return_dict_in_a_nested_config")
def tuple_by_nested_config(patch: MonkeyPatch) -> None:
    """CLIPModel gives a tuple where its vision_config says return_dict=False."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        nested = self.config.vision_config
        if nested.return_dict:
            return original(self, *args, **kwargs)
        nested.return_dict = True
        try:
            return original(self, *args, **kwargs).to_tuple()
        finally:
            nested.return_dict = False

    wrap(patch, modeling().CLIPModel, "forward", forward)


@in_transformers("option_values.features_take_options", releases=FROM_5)
def features_give_other_hidden_states(patch: MonkeyPatch) -> None:
    """get_text_features gives hidden states on demand, all of them the last one."""

    def features(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        found = original(self, *args, **kwargs)
        if kwargs.get("output_hidden_states"):
            count = self.config.text_config.num_hidden_layers + 1
            found["hidden_states"] = (found.last_hidden_state,) * count
        return found

    wrap_features(patch, "get_text_features", features)


@in_transformers("option_values.features_take_options", releases=BEFORE_5)
def features_come_in_a_list(patch: MonkeyPatch) -> None:
    """get_text_features gives a list that holds the tensor."""
    wrap_features(patch, "get_text_features", lambda original, *args, **kwargs: [original(*args, **kwargs)])


def _wrap(patch: MonkeyPatch, class_name: str, change: Callable[[tuple[Any, ...]], Any]) -> None:
    """Let `change` replace what a class is given by position."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, *change(args), **kwargs)

    wrap(patch, getattr(modeling(), class_name), "forward", forward)


def _change_option(patch: MonkeyPatch, class_name: str, option: str, change: Callable[[Any], Any]) -> None:
    """Let `change` replace an option that is given by keyword."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        if option in kwargs:
            kwargs[option] = change(kwargs[option])
        return original(self, *args, **kwargs)

    wrap(patch, getattr(modeling(), class_name), "forward", forward)


def _change_tuple(patch: MonkeyPatch, class_name: str, change: Callable[[tuple[Any, ...]], Any]) -> None:
    """Let `change` replace the tuple that return_dict=False gives."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        found = original(self, *args, **kwargs)
        return change(found) if isinstance(found, tuple) else found

    wrap(patch, getattr(modeling(), class_name), "forward", forward)
