"""Faults of CLIPForImageClassification: the mean of the patches, the classifier, the losses, what is returned."""

from __future__ import annotations

from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_transformers
from faults.patching import change_output, modeling, wrap

CHAPTER = "image_classification"
LOGITS = f"{CHAPTER}.logits_are_those_of_the_patches"
STATES = f"{CHAPTER}.states_are_the_towers"
FIELDS = f"{CHAPTER}.fields_come_in_order"
INFERRED = f"{CHAPTER}.problems_are_inferred"
STATED = f"{CHAPTER}.problems_are_stated"
UNKNOWN = f"{CHAPTER}.an_unknown_problem_is_refused"
FOLLOW = f"{CHAPTER}.labels_follow_the_pixels"
MIX = f"{CHAPTER}.images_do_not_mix"
BECOMES = f"{CHAPTER}.a_clip_becomes_a_classifier"
SAVED = f"{CHAPTER}.a_classifier_is_saved_and_loaded"
CLASS = "CLIPForImageClassification"


@in_transformers(LOGITS, diverges_at=("classifier",))
def the_class_token_is_averaged_too(patch: MonkeyPatch) -> None:
    """The mean is over all tokens, the class token among them."""
    _pooled(patch, lambda states: states.mean(dim=1))


@in_transformers(LOGITS, diverges_at=("classifier",))
def the_class_token_alone_is_classified(patch: MonkeyPatch) -> None:
    """The classifier is given the class token, as in other vision transformers."""
    _pooled(patch, lambda states: states[:, 0])


@in_transformers(LOGITS, MIX)
def one_image_spoils_the_others(patch: MonkeyPatch) -> None:
    """Logits are taken relative to their mean over the batch."""

    def spoil(output: Any, **_: Any) -> None:
        output.logits = output.logits - output.logits.mean(0)

    change_output(patch, CLASS, spoil)


@in_transformers(STATES)
def hidden_states_and_attentions_change_places(patch: MonkeyPatch) -> None:
    """The output has its attention maps under hidden_states, and the other way round."""

    def spoil(output: Any, **_: Any) -> Any:
        return type(output)(
            loss=output.loss, logits=output.logits, hidden_states=output.attentions, attentions=output.hidden_states
        )

    change_output(patch, CLASS, spoil)


@in_transformers(FIELDS)
def logits_come_before_the_loss(patch: MonkeyPatch) -> None:
    """The tuple begins with the logits where a loss was asked for."""

    def forward(original: Any, self: Any, *args: Any, return_dict: Any = None, **kwargs: Any) -> Any:
        output = original(self, *args, return_dict=True, **kwargs)
        if return_dict is not False:
            return output
        values = list(output.to_tuple())
        return tuple(values[1::-1] + values[2:]) if output.loss is not None else tuple(values)

    wrap(patch, modeling().CLIPForImageClassification, "forward", forward)


@in_transformers(INFERRED, STATED)
def losses_are_summed(patch: MonkeyPatch) -> None:
    """The loss is the sum over the images, not the mean."""

    def spoil(output: Any, **_: Any) -> None:
        if output.loss is not None:
            output.loss = output.loss * len(output.logits)

    change_output(patch, CLASS, spoil)


@in_transformers(STATED, UNKNOWN)
def the_problem_is_always_inferred(patch: MonkeyPatch) -> None:
    """problem_type of the config is not asked: the labels decide."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        self.config.problem_type = None
        return original(self, *args, **kwargs)

    wrap(patch, modeling().CLIPForImageClassification, "forward", forward)


@in_transformers(FOLLOW)
def labels_are_taken_by_name_alone(patch: MonkeyPatch) -> None:
    """The call takes labels by keyword only."""

    def forward(original: Any, self: Any, pixel_values: Any = None, *, labels: Any = None, **kwargs: Any) -> Any:
        return original(self, pixel_values, labels=labels, **kwargs)

    owner = modeling().CLIPForImageClassification
    inner = owner.forward
    patch.setattr(owner, "forward", lambda self, *args, **kwargs: forward(inner, self, *args, **kwargs))


@in_transformers(BECOMES)
def the_number_of_labels_is_forgotten(patch: MonkeyPatch) -> None:
    """The model says that it has two labels, whatever its classifier has."""

    def init(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.num_labels = 2

    wrap(patch, modeling().CLIPForImageClassification, "__init__", init)


@in_transformers(SAVED)
def the_classifier_is_not_saved(patch: MonkeyPatch) -> None:
    """save_pretrained writes zeros for the bias of the classifier."""

    def save(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        state = {name: value.clone() for name, value in self.state_dict().items()}
        state["classifier.bias"].zero_()
        return original(self, *args, **{**kwargs, "state_dict": state})

    wrap(patch, modeling().CLIPForImageClassification, "save_pretrained", save)


@in_transformers(LOGITS, STATES, FIELDS, INFERRED, STATED, MIX)
def forward_raises(patch: MonkeyPatch) -> None:
    """Every call of the class ends with an exception."""

    def forward(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    wrap(patch, modeling().CLIPForImageClassification, "forward", forward)


def _pooled(patch: MonkeyPatch, pool: Any) -> None:
    """Let `pool` make the classifier's input of last_hidden_state."""

    def forward(original: Any, self: Any, pixel_values: Any = None, *args: Any, **kwargs: Any) -> Any:
        held: list[Any] = []
        hooks = (
            self.vision_model.register_forward_hook(lambda module, given, output: held.append(output[0])),
            self.classifier.register_forward_pre_hook(lambda module, given: (pool(held[-1]),)),
        )
        try:
            return original(self, pixel_values, *args, **kwargs)
        finally:
            for hook in hooks:
                hook.remove()

    wrap(patch, modeling().CLIPForImageClassification, "forward", forward)
