"""Numerical faults of attention: scale, masks, projections and heads."""

from __future__ import annotations

from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_loaded_model, in_module, in_transformers
from faults.patching import every, modeling, replace, text_tower, wrap

TEXT = "reference_values.text_tower"
VISION = "reference_values.vision_tower"
NESTED = "reference_values.nested_towers"
FIRST_ATTENTION = ("text_model.encoder.layers.0.self_attn", "vision_model.encoder.layers.0.self_attn")


@in_module("text_model.encoder.layers.2.self_attn", TEXT)
def attention_scale_off_by_a_thousandth(attention: Any) -> None:
    """One text layer scales its attention scores by 1.001 times the right factor."""
    attention.scale *= 1.001


@in_module("vision_model.encoder.layers.4.self_attn", VISION)
def last_attention_scale_off_by_a_thousandth(attention: Any) -> None:
    """The last vision layer scales its attention scores by 0.999 times the right factor."""
    attention.scale *= 0.999


@in_loaded_model(TEXT, VISION, diverges_at=FIRST_ATTENTION)
def attention_is_not_scaled(model: Any) -> None:
    """No layer divides its attention scores by the root of the head size."""
    for attention in every(model, "CLIPAttention"):
        attention.scale = 1.0


@in_transformers(TEXT, diverges_at=("text_model.encoder.layers.0.self_attn",))
def texts_see_the_future(patch: MonkeyPatch) -> None:
    """The causal mask of the text tower is dropped; the padding mask stays."""
    drop_causality(patch, lambda attention_mask: True)


@in_transformers(TEXT, diverges_at=("text_model.encoder.layers.0.self_attn",))
def texts_without_a_mask_see_the_future(patch: MonkeyPatch) -> None:
    """Where no attention mask is given, no causal mask is made either."""
    drop_causality(patch, lambda attention_mask: attention_mask is None)


@in_transformers(TEXT, diverges_at=("text_model.encoder.layers.0.self_attn",))
def masks_are_kept_by_shape(patch: MonkeyPatch) -> None:
    """The text tower keeps the first attention mask of each shape and uses it for all that follow."""
    kept: dict[Any, Any] = {}
    change_mask(patch, lambda mask: kept.setdefault(tuple(mask.shape), mask))


@in_transformers(
    TEXT, NESTED, "features.text_features_follow_the_mask", diverges_at=("text_model.encoder.layers.0.self_attn",)
)
def attention_mask_is_ignored(patch: MonkeyPatch) -> None:
    """The text tower drops the attention mask that it is given."""
    change_mask(patch, lambda mask: None)


@in_transformers(TEXT, diverges_at=("text_model.encoder.layers.0.self_attn",))
def attention_mask_counts_as_a_length(patch: MonkeyPatch) -> None:
    """The text tower takes from the attention mask only how many tokens there are, so a mask inside the text moves
    to its end.
    """
    import torch

    def as_length(mask: Any) -> Any:
        return (torch.arange(mask.shape[-1])[None] < mask.sum(-1, keepdim=True)).to(mask.dtype)

    change_mask(patch, as_length)


@in_module("text_model.encoder.layers.1.self_attn", TEXT)
def queries_and_keys_change_places(attention: Any) -> None:
    """One text layer asks with its keys and answers with its queries."""
    query, key = attention.q_proj.forward, attention.k_proj.forward
    attention.q_proj.forward, attention.k_proj.forward = key, query


@in_module("text_model.encoder.layers.0.self_attn.v_proj", TEXT)
def bias_of_the_values_is_dropped(projection: Any) -> None:
    """One v_proj multiplies and does not add its bias."""
    replace(projection, lambda original, x: x @ projection.weight.T)


@in_module("vision_model.encoder.layers.3.self_attn.k_proj", VISION)
def bias_of_the_keys_is_doubled(projection: Any) -> None:
    """One k_proj adds its bias twice. Softmax hides a constant for all keys, but this one differs by query."""
    replace(projection, lambda original, x: original(x) * 1.0 + projection.bias * _varied(x))


@in_module("vision_model.encoder.layers.0.self_attn", VISION)
def heads_are_split_wrongly(attention: Any) -> None:
    """One vision layer takes neighbouring channels for different heads, on the way in and on the way out."""

    def interleaved(original: Any, x: Any) -> Any:
        return original(x).unflatten(-1, (-1, attention.num_heads)).transpose(-1, -2).flatten(-2)

    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        replace(projection, interleaved)


@in_module("text_model.encoder.layers.1.self_attn", TEXT)
def heads_are_merged_wrongly(attention: Any) -> None:
    """One text layer interleaves the channels of its heads before out_proj."""
    replace(
        attention.out_proj,
        lambda original, x: original(x.unflatten(-1, (attention.num_heads, -1)).transpose(-1, -2).flatten(-2)),
    )


@in_transformers(TEXT, VISION, "hidden_states.attentions_are_the_softmax_maps", diverges_at=FIRST_ATTENTION)
def eager_softmax_runs_over_the_queries(patch: MonkeyPatch) -> None:
    """Eager attention normalises its scores over the queries. Only --attn eager runs it by default."""
    import torch

    def attend(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float, **_: Any) -> Any:
        scores = query @ key.transpose(-1, -2) * scaling
        weights = torch.softmax(scores if attention_mask is None else scores + attention_mask, dim=-2)
        return (weights @ value).transpose(1, 2).contiguous(), weights

    patch.setattr(modeling(), "eager_attention_forward", attend)


@in_transformers(TEXT, VISION, diverges_at=FIRST_ATTENTION)
def fused_attention_is_scaled_twice(patch: MonkeyPatch) -> None:
    """The fused attention kernel divides the scores by the root of the head size once more; eager attention is
    right.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    original = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def attend(module: Any, *args: Any, scaling: float, **kwargs: Any) -> Any:
        return original(module, *args, scaling=scaling**2, **kwargs)

    patch.setitem(type(ALL_ATTENTION_FUNCTIONS)._global_mapping, "sdpa", attend)


def drop_causality(patch: MonkeyPatch, drops: Any) -> None:
    """Drop the causal mask of the text tower where `drops(attention_mask)` says so."""
    dropped: list[bool] = []

    def forward(original: Any, self: Any, *args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        dropped.append(drops(attention_mask))
        try:
            return original(self, *args, attention_mask=attention_mask, **kwargs)
        finally:
            dropped.pop()

    def encode(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        if dropped and dropped[-1]:
            kwargs = {key: value for key, value in kwargs.items() if key != "causal_attention_mask"}
            kwargs |= {"is_causal": False} if "is_causal" in kwargs else {}
        return original(self, *args, **kwargs)

    wrap(patch, text_tower(), "forward", forward)
    wrap(patch, modeling().CLIPEncoder, "forward", encode)
    if hasattr(modeling(), "create_causal_mask"):
        from transformers.masking_utils import create_bidirectional_mask, create_causal_mask

        def mask(config: Any, inputs_embeds: Any, attention_mask: Any, **kwargs: Any) -> Any:
            given = {"config": config, "inputs_embeds": inputs_embeds, "attention_mask": attention_mask}
            return create_bidirectional_mask(**given) if dropped[-1] else create_causal_mask(**given, **kwargs)

        patch.setattr(modeling(), "create_causal_mask", mask)


def change_mask(patch: MonkeyPatch, change: Any) -> None:
    """Let `change` replace the attention mask that the text tower is given."""

    def forward(original: Any, self: Any, *args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        mask = None if attention_mask is None else change(attention_mask)
        return original(self, *args, attention_mask=mask, **kwargs)

    wrap(patch, text_tower(), "forward", forward)


def _varied(x: Any) -> Any:
    import torch

    return torch.linspace(0, 1, x.shape[1])[None, :, None]
