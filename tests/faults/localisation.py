"""Faults of one leaf, or of what lies between two, each small or hidden by what comes after it: what counts is where
they are found.
"""

from __future__ import annotations

from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_loaded_model, in_module, in_transformers
from faults.patching import change_output, change_tower, every, modeling, replace, vision_tower

TEXT = "modules.text_tower"
VISION = "modules.vision_tower"
HEAD = "modules.head"
BFLOAT16 = ("--clip-dtype", "bfloat16")


@in_module("vision_model.encoder.layers.2.self_attn.out_proj", VISION)
def out_projection_off_by_a_thousandth(projection: Any) -> None:
    """One out_proj of the vision tower computes with 1.001 times its matrix."""
    replace(projection, lambda original, x: x @ (projection.weight * 1.001).T + projection.bias)


@in_module("text_model.encoder.layers.1.mlp.fc2", TEXT)
def second_mlp_product_in_bfloat16(projection: Any) -> None:
    """One fc2 of a float32 model multiplies in bfloat16."""

    def narrow(original: Any, x: Any) -> Any:
        return (x.bfloat16() @ projection.weight.bfloat16().T).float() + projection.bias

    replace(projection, narrow)


@in_module("text_model.encoder.layers.3.mlp.fc1", TEXT)
def bias_of_the_mlp_is_dropped(projection: Any) -> None:
    """One fc1 multiplies and does not add its bias."""
    replace(projection, lambda original, x: x @ projection.weight.T)


@in_module("text_model.encoder.layers.2.self_attn.q_proj", TEXT)
def bias_of_the_queries_is_dropped(projection: Any) -> None:
    """One q_proj multiplies and does not add its bias."""
    replace(projection, lambda original, x: x @ projection.weight.T)


@in_module("vision_model.encoder.layers.3.layer_norm2", VISION)
def one_layer_norm_has_another_eps(norm: Any) -> None:
    """One layer norm adds 1e-4 to the variance where the config says 1e-5."""
    norm.eps = 1e-4


@in_module("text_model.final_layer_norm", TEXT)
def final_layer_norm_adds_its_bias_twice(norm: Any) -> None:
    """The last layer norm of the text tower adds its bias twice."""
    replace(norm, lambda original, x: original(x) + norm.bias)


@in_module("vision_model.encoder.layers.2.mlp.activation_fn", VISION)
def one_layer_has_another_activation(activation: Any) -> None:
    """One vision layer computes the exact GELU where the config says quick_gelu."""
    import torch

    replace(activation, lambda original, x: torch.nn.functional.gelu(x))


@in_module("vision_model.encoder.layers.1.mlp.activation_fn", VISION, options=BFLOAT16)
def one_layer_of_a_bfloat16_model_has_another_activation(activation: Any) -> None:
    """One vision layer of a model in bfloat16 computes the ReLU where the config says quick_gelu."""
    replace(activation, lambda original, x: x.relu())


@in_module("text_model.encoder.layers.0.self_attn", TEXT, options=BFLOAT16)
def attention_scale_of_a_bfloat16_model(attention: Any) -> None:
    """One text layer of a model in bfloat16 scales its attention scores by 1.2 times the right factor."""
    attention.scale *= 1.2


@in_module("vision_model.embeddings", VISION, diverges_at=("vision_model.embeddings.class_embedding",))
def class_embedding_counts_twice(embeddings: Any) -> None:
    """The class embedding is added to the class token once more."""

    def embed(original: Any, *args: Any, **kwargs: Any) -> Any:
        tokens = original(*args, **kwargs)
        tokens[:, 0] += embeddings.class_embedding
        return tokens

    replace(embeddings, embed)


@in_module("vision_model.embeddings", VISION, diverges_at=("vision_model.embeddings.position_embedding",))
def patch_positions_off_by_one(embeddings: Any) -> None:
    """Every patch gets the position embedding of its neighbour, as where the class token is forgotten."""
    embeddings.position_ids = embeddings.position_ids.roll(1, dims=-1)


@in_module("vision_model.embeddings.patch_embedding", VISION)
def colours_are_read_in_reverse(convolution: Any) -> None:
    """The patch embedding takes red for blue."""
    replace(convolution, lambda original, pixels: original(pixels.flip(1)))


@in_transformers(VISION, diverges_at=("vision_model",))
def another_token_is_pooled(patch: MonkeyPatch) -> None:
    """post_layernorm is applied to the first patch, not to the class token."""

    def pool(output: Any, model: Any, **_: Any) -> None:
        output.pooler_output = model.post_layernorm(output.last_hidden_state[:, 1])

    change_tower(patch, vision_tower(), pool)


@in_module("visual_projection", VISION)
def image_projection_off_by_a_thousandth(projection: Any) -> None:
    """The image projection is 1.001 times too large, which normalising hides from every embedding and logit."""
    replace(projection, lambda original, x: original(x) * 1.001)


@in_transformers(HEAD, diverges_at=("logit_scale",))
def scale_is_clamped(patch: MonkeyPatch) -> None:
    """The factor on the cosines is one part in a thousand below exp(logit_scale), as where it is clamped."""

    def spoil(output: Any, **_: Any) -> None:
        output.logits_per_text = output.logits_per_text * 0.999
        output.logits_per_image = output.logits_per_text.T

    change_output(patch, "CLIPModel", spoil)


@in_transformers(HEAD, diverges_at=("image_embeds",))
def images_are_normalised_by_another_norm(patch: MonkeyPatch) -> None:
    """Image embeddings are one part in a thousand too long; text embeddings are right."""

    def spoil(output: Any, **_: Any) -> None:
        output.image_embeds = output.image_embeds * 1.001

    change_output(patch, "CLIPModel", spoil)


@in_module("text_model.encoder.layers.2", TEXT)
def residual_is_scaled(layer: Any) -> None:
    """One text layer adds its input once and a thousandth."""

    def forward(original: Any, hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        output = original(hidden_states, *args, **kwargs)
        if isinstance(output, tuple):
            return (output[0] + 1e-3 * hidden_states, *output[1:])
        return output + 1e-3 * hidden_states

    replace(layer, forward)


@in_loaded_model(VISION, diverges_at=("vision_model.encoder",))
def states_between_layers_pass_through_bfloat16(model: Any) -> None:
    """What one vision layer hands on to the next is rounded to bfloat16."""
    for encoder in every(model, "CLIPEncoder"):
        if len(encoder.layers) == 5:
            encoder.layers[3].register_forward_pre_hook(lambda module, args: (args[0].bfloat16().float(), *args[1:]))


@in_transformers(
    TEXT, VISION, diverges_at=("text_model.encoder.layers.0.self_attn", "vision_model.encoder.layers.0.self_attn")
)
def eager_softmax_in_half(patch: MonkeyPatch) -> None:
    """Eager attention computes its softmax in float16 and not in float32."""
    import torch

    def attend(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float, **_: Any) -> Any:
        scores = query @ key.transpose(-1, -2) * scaling
        scores = scores if attention_mask is None else scores + attention_mask
        weights = torch.softmax(scores.clamp(min=-6e4).half(), dim=-1).to(query.dtype)
        return (weights @ value).transpose(1, 2).contiguous(), weights

    patch.setattr(modeling(), "eager_attention_forward", attend)


@in_transformers(TEXT, diverges_at=("text_model.encoder.layers.0.self_attn",))
def eager_texts_see_the_next_token(patch: MonkeyPatch) -> None:
    """Under eager attention the causal mask is off by one: each token sees the one after it too."""
    original = modeling().eager_attention_forward

    def attend(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, *args: Any, **kwargs: Any) -> Any:
        if attention_mask is not None:
            places = range(attention_mask.shape[-1] - 1)
            attention_mask = attention_mask.clone()
            attention_mask[..., places, [place + 1 for place in places]] = 0
        return original(module, query, key, value, attention_mask, *args, **kwargs)

    patch.setattr(modeling(), "eager_attention_forward", attend)


@in_module("vision_model.encoder.layers.1.self_attn", VISION)
def attention_drops_at_inference(attention: Any) -> None:
    """One vision layer drops attention weights at inference."""
    attention.training, attention.dropout = True, 0.1


@in_module("vision_model.encoder.layers.4.self_attn.v_proj", VISION)
def two_heads_change_their_values(projection: Any) -> None:
    """In one vision layer the values of the first two heads change places."""

    def exchange(original: Any, x: Any) -> Any:
        values = original(x)
        width = values.shape[-1] // 4
        return values[..., [*range(width, 2 * width), *range(width), *range(2 * width, values.shape[-1])]]

    replace(projection, exchange)
