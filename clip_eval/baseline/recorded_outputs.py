"""The outputs that a pack records: how each is observed and expected, and its module in the network.

Few, but elementwise: the final states of each tower, pooled states, features, embeddings, logits, the loss. Inner
hidden states are compared with the oracle by the contract checks. The calls are those of other checks, so that a gate
needs hardly any further forward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_eval.families import roles
from clip_eval.families.family import Family
from clip_eval.families.holding import Holding
from clip_eval.oracle.expected.exact import Reference
from clip_eval.subject import projected_features
from clip_eval.subject.observations import Clip
from clip_eval.verdict.compare import to_array

__all__ = ["BY_NAME", "OUTPUTS", "Output", "output_names", "outputs_of", "record_value"]

IMAGES, TEXTS, PAIRS = 3, 5, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One recorded output.

    Attributes:
        name: in reports and the pack.
        observe: the subject's value.
        expect: its right value: an array of the exact reference, one with the bound of every element of the oracle.
        module: the module of a family that a difference points at.
        where: elements that count, broadcast to the output's shape; all where it is None.
        of: the class that gives it; the whole model gives all but those of a classifier, which it has not.
    """

    name: str
    observe: Callable[[Clip], Any]
    expect: Callable[[Reference], Any]
    module: Callable[[Family], str] | None = None
    where: Callable[[Clip], NDArray[np.bool_]] | None = None
    of: str = roles.WHOLE


def record_value(value: Any) -> NDArray[np.float32]:
    """Return an observed tensor as packs store it: float32, the same shape."""
    return to_array(value).astype(np.float32)


def _text(mask: str) -> tuple[Output, ...]:
    """Outputs of the text tower. Under the interior mask the pooled state is enough to show a dropped mask."""
    suffix = "" if mask == "padding" else f"_{mask}_mask"
    # with hidden states, like the reference checks, whose result is shared
    options = {} if mask == "padding" else {"output_hidden_states": True}
    pooled = Output(
        name=f"text_pooler_output{suffix}",
        of=roles.TEXT,
        observe=lambda clip: clip.text_model(texts=TEXTS, mask=mask, **options).pooler_output,
        expect=lambda reference: reference.text(texts=TEXTS, mask=mask).pooler_output,
        module=lambda family: family.text.pooled,
    )
    if mask != "padding":
        return (pooled,)
    state = Output(
        name="text_last_hidden_state",
        of=roles.TEXT,
        observe=lambda clip: clip.text_model(texts=TEXTS).last_hidden_state,
        expect=lambda reference: reference.text(texts=TEXTS).last_hidden_state,
        module=lambda family: family.text.pooled,
        where=lambda clip: clip.real(TEXTS)[:, :, None],  # (texts, tokens, 1)
    )
    return state, pooled


def _head(mask: str) -> tuple[Output, ...]:
    return tuple(_head_output(name, mask) for name in roles.HEAD_FIELDS)


def _head_output(name: str, mask: str) -> Output:
    return Output(
        name=name if mask == "padding" else f"{name}_{mask}_mask",
        observe=lambda clip: clip.forward(images=IMAGES, texts=TEXTS, mask=mask)[name],
        expect=lambda reference: getattr(reference.forward(images=IMAGES, texts=TEXTS, mask=mask), name),
        module=lambda family: family.head[name],
    )


_VISION = (
    Output(
        name="image_last_hidden_state",
        of=roles.VISION,
        observe=lambda clip: clip.vision_model(images=IMAGES).last_hidden_state,
        expect=lambda reference: reference.vision(images=IMAGES).last_hidden_state,
        module=lambda family: family.vision.module,
    ),
    Output(
        name="image_pooler_output",
        of=roles.VISION,
        observe=lambda clip: clip.vision_model(images=IMAGES).pooler_output,
        expect=lambda reference: reference.vision(images=IMAGES).pooler_output,
        module=lambda family: family.vision.pooled,
    ),
)

_FEATURES = (
    Output(
        name="text_features",
        of=roles.TEXT_PROJECTED,
        observe=lambda clip: (
            projected_features(clip.text_features(texts=TEXTS), clip.release)
            if clip.holds.whole
            else clip.text_model_with_projection(texts=TEXTS).text_embeds
        ),
        expect=lambda reference: reference.text(texts=TEXTS).projected,
        module=lambda family: family.text.projection,
    ),
    Output(
        name="image_features",
        of=roles.VISION_PROJECTED,
        observe=lambda clip: (
            projected_features(clip.image_features(images=IMAGES), clip.release)
            if clip.holds.whole
            else clip.vision_model_with_projection(images=IMAGES).image_embeds
        ),
        expect=lambda reference: reference.vision(images=IMAGES).projected,
        module=lambda family: family.vision.projection,
    ),
    Output(
        name="class_logits",
        of=roles.CLASSIFIER,
        observe=lambda clip: clip.classifier(images=IMAGES).logits,
        expect=lambda reference: reference.classes(images=IMAGES),
        module=lambda _: "classifier",
    ),
)

_LOSS = (
    Output(
        name="loss",
        observe=lambda clip: clip.forward(images=PAIRS, texts=PAIRS, return_loss=True).loss,
        expect=lambda reference: reference.forward(images=PAIRS, texts=PAIRS).loss,
    ),
)

OUTPUTS: Mapping[str, tuple[Output, ...]] = MappingProxyType(
    {
        "vision_tower": _VISION,
        "text_tower": _text("padding"),
        "text_tower_interior_mask": _text("interior"),
        "features": _FEATURES,
        "head": _head("padding"),
        "head_interior_mask": _head("interior"),
        "loss": _LOSS,
    }
)
"""Part of the model to its recorded outputs, along the network."""

BY_NAME: Mapping[str, Output] = MappingProxyType({output.name: output for part in OUTPUTS.values() for output in part})


def outputs_of(holding: Holding) -> Mapping[str, tuple[Output, ...]]:
    """Return the part of a model to its recorded outputs, of what a checkpoint holds."""
    held = {
        part: tuple(output for output in outputs if output.of in holding.classes) for part, outputs in OUTPUTS.items()
    }
    return {part: outputs for part, outputs in held.items() if outputs}


def output_names(holding: Holding) -> tuple[str, ...]:
    """Return the names of the recorded outputs of what a checkpoint holds, along the network."""
    return tuple(output.name for outputs in outputs_of(holding).values() for output in outputs)
