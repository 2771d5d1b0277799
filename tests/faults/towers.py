"""Faults inside the two transformers: MLP, norms, embeddings, pooling, order of layers."""

from __future__ import annotations

from typing import Any

from pytest import MonkeyPatch  # noqa: PT013 - the type, in signatures

from faults.fault import in_loaded_model, in_module, in_transformers
from faults.files import make_gelu, make_legacy
from faults.patching import change_tower, every, replace, text_tower, vision_tower

TEXT = "reference_values.text_tower"
VISION = "reference_values.vision_tower"
LOGITS = "reference_values.embeddings_and_logits"
NESTED = "reference_values.nested_towers"
FEATURES = "features.features_are_projected_and_not_normalised"
FIRST_ACTIVATION = ("text_model.encoder.layers.0.mlp.activation_fn", "vision_model.encoder.layers.0.mlp.activation_fn")


@in_loaded_model(TEXT, VISION, LOGITS, NESTED, diverges_at=FIRST_ACTIVATION)
def quick_gelu_becomes_gelu(model: Any) -> None:
    """Every MLP computes the exact GELU where the config says quick_gelu."""
    import torch

    for mlp in every(model, "CLIPMLP"):
        mlp.activation_fn = torch.nn.GELU()


@in_loaded_model(VISION, "weights.values_are_those_of_the_file", diverges_at=("vision_model.encoder.layers.1",))
def two_layers_change_places(model: Any) -> None:
    """The second and third vision layer run in the wrong order."""
    for encoder in every(model, "CLIPEncoder"):
        if len(encoder.layers) == 5:
            encoder.layers[1], encoder.layers[2] = encoder.layers[2], encoder.layers[1]


@in_module("text_model.encoder.layers.3", TEXT)
def a_layer_is_skipped(layer: Any) -> None:
    """The last text layer returns what it was given."""

    def skip(original: Any, hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        output = original(hidden_states, *args, **kwargs)
        return (hidden_states, *output[1:]) if isinstance(output, tuple) else hidden_states

    replace(layer, skip)


@in_module("vision_model.encoder.layers.2", VISION)
def residual_is_dropped(layer: Any) -> None:
    """One vision layer forgets to add its input to the output of its attention."""
    entered: list[Any] = []
    layer.register_forward_pre_hook(lambda module, args: entered.append(args[0]))
    layer.self_attn.register_forward_hook(lambda module, args, output: (output[0] - entered.pop(), *output[1:]))


@in_loaded_model(TEXT, diverges_at=("text_model.encoder.layers.0.layer_norm1",))
def layer_norm_eps_is_a_tenth(model: Any) -> None:
    """The layer norms of the text tower add 1e-6 to the variance where the config says 1e-5."""
    for layer in every(model, "CLIPEncoderLayer"):
        if layer.embed_dim == 80:
            layer.layer_norm1.eps = layer.layer_norm2.eps = 1e-6


@in_module("vision_model.pre_layrnorm", VISION)
def pre_layer_norm_is_skipped(norm: Any) -> None:
    """The embeddings of an image enter the first layer without pre_layrnorm."""
    replace(norm, lambda original, hidden_states: hidden_states)


@in_transformers(VISION, "hidden_states.first_and_last_hidden_states", diverges_at=("vision_model",))
def post_layer_norm_on_every_token(patch: MonkeyPatch) -> None:
    """post_layernorm is applied to every token of an image, not only to the pooled class token."""

    def normalise(output: Any, model: Any, **_: Any) -> None:
        output.last_hidden_state = model.post_layernorm(output.last_hidden_state)

    change_tower(patch, vision_tower(), normalise)


@in_module("vision_model.post_layernorm", VISION)
def post_layer_norm_is_skipped(norm: Any) -> None:
    """The pooled class token is returned without post_layernorm."""
    replace(norm, lambda original, hidden_states: hidden_states)


@in_module("text_model.final_layer_norm", TEXT, "hidden_states.first_and_last_hidden_states")
def final_layer_norm_is_skipped(norm: Any) -> None:
    """The text states are returned and pooled without final_layer_norm."""
    replace(norm, lambda original, hidden_states: hidden_states)


@in_module("text_model.embeddings", TEXT, diverges_at=("text_model.embeddings.position_embedding",))
def text_positions_off_by_one(embeddings: Any) -> None:
    """Every token of a text gets the position embedding of its neighbour."""
    embeddings.position_ids = embeddings.position_ids.roll(-1, dims=-1)


@in_module(
    "text_model.embeddings",
    "reference_values.short_texts",
    diverges_at=("text_model.embeddings.position_embedding",),
)
def short_texts_get_the_last_positions(embeddings: Any) -> None:
    """A text of fewer tokens than the model takes gets the position embeddings from the end of the table."""

    def embed(original: Any, input_ids: Any = None, position_ids: Any = None, **kwargs: Any) -> Any:
        return original(input_ids=input_ids, position_ids=embeddings.position_ids[:, -input_ids.shape[-1] :], **kwargs)

    replace(embeddings, embed)


@in_module("vision_model.embeddings", VISION, diverges_at=("vision_model.embeddings.position_embedding",))
def patch_positions_are_not_filled(embeddings: Any) -> None:
    """The buffer of patch positions was never filled: every patch is at position 0, as after a lazy load."""
    embeddings.position_ids = embeddings.position_ids * 0


@in_module("text_model.embeddings.token_embedding", TEXT)
def token_embeddings_are_scaled(embedding: Any) -> None:
    """Token embeddings are multiplied by the root of the width, as in the original transformer."""
    replace(embedding, lambda original, ids: original(ids) * embedding.embedding_dim**0.5)


@in_module("vision_model.embeddings.patch_embedding", VISION)
def patches_are_transposed(convolution: Any) -> None:
    """The patch embedding reads each patch with rows and columns exchanged."""
    replace(convolution, lambda original, pixels: _transposed_convolution(convolution, pixels))


@in_module("vision_model.embeddings", VISION)
def class_token_comes_last(embeddings: Any) -> None:
    """The class token is put after the patches, where pooling does not look for it."""
    replace(embeddings, lambda original, *args, **kwargs: original(*args, **kwargs).roll(-1, dims=1))


@in_module("vision_model.embeddings", VISION, diverges_at=("vision_model.embeddings.patch_embedding",))
def patch_order_is_by_column(embeddings: Any) -> None:
    """Patches are numbered down the columns, so that every position embedding off the diagonal meets the wrong
    patch.
    """
    side = embeddings.image_size // embeddings.patch_size
    replace(
        embeddings.patch_embedding,
        lambda original, pixels: original(pixels).unflatten(-1, (side,)).transpose(2, 3),
    )


@in_module("vision_model.encoder.layers.1.mlp", VISION)
def mlp_in_bfloat16(mlp: Any) -> None:
    """One MLP of a float32 model computes in bfloat16."""
    import torch

    def narrow(original: Any, hidden_states: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return original(hidden_states).float()

    replace(mlp, narrow)


@in_module("text_model.encoder.layers.2.mlp.activation_fn", TEXT)
def activation_in_float16(activation: Any) -> None:
    """One activation function is evaluated in float16."""
    replace(activation, lambda original, x: original(x.half()).float())


@in_module("vision_model.encoder.layers.2", VISION)
def layer_norms_change_places(layer: Any) -> None:
    """One vision layer normalises with layer_norm2 before attention and layer_norm1 before the MLP."""
    first, second = layer.layer_norm1.forward, layer.layer_norm2.forward
    layer.layer_norm1.forward, layer.layer_norm2.forward = second, first


@in_loaded_model(
    VISION, "hidden_states.asking_for_states_changes_nothing", diverges_at=("vision_model.encoder.layers.1.mlp",)
)
def dropout_is_left_on(model: Any) -> None:
    """One vision MLP drops one value in a hundred at inference."""
    import torch

    for encoder in every(model, "CLIPEncoder"):
        if len(encoder.layers) == 5:
            replace(encoder.layers[1].mlp, lambda original, x: torch.nn.functional.dropout(original(x), 0.01))


@in_transformers(TEXT, LOGITS, diverges_at=("text_model",))
def pooling_takes_the_largest_id(patch: MonkeyPatch) -> None:
    """The text tower pools at the largest id, the legacy rule, although the config has a true eos_token_id."""
    _pool(patch, lambda ids, eos: ids.argmax(-1))


@in_transformers(TEXT, diverges_at=("text_model",))
def pooling_takes_the_last_end(patch: MonkeyPatch) -> None:
    """The text tower pools at the last EOS inside the mask, not at the first."""
    _pool(
        patch, lambda ids, eos, mask: ((ids == eos) & (mask == 1)).int().flip(-1).argmax(-1).neg() + ids.shape[-1] - 1
    )


@in_transformers(TEXT, diverges_at=("text_model",))
def pooling_takes_the_last_token(patch: MonkeyPatch) -> None:
    """The text tower pools at the last position of the batch, padding or not."""
    _pool(patch, lambda ids, eos: ids.new_full((len(ids),), ids.shape[-1] - 1))


@in_transformers(TEXT, diverges_at=("text_model",), edit=make_legacy)
def legacy_rule_is_forgotten(patch: MonkeyPatch) -> None:
    """With the legacy eos_token_id 2 the text tower looks for token 2, finds none, and pools at the first token."""
    _pool(patch, lambda ids, eos: (ids == 2).int().argmax(-1))


@in_loaded_model(TEXT, VISION, diverges_at=FIRST_ACTIVATION, edit=make_gelu)
def gelu_is_approximated(model: Any) -> None:
    """Every MLP computes the tanh approximation where the config says gelu."""
    import torch

    for mlp in every(model, "CLIPMLP"):
        mlp.activation_fn = torch.nn.GELU(approximate="tanh")


@in_transformers(VISION, diverges_at=("vision_model",))
def pooling_takes_the_mean_of_the_patches(patch: MonkeyPatch) -> None:
    """The vision tower pools the mean of all tokens, not the class token."""

    def pool(output: Any, model: Any, **_: Any) -> None:
        output.pooler_output = model.post_layernorm(output.last_hidden_state.mean(1))

    change_tower(patch, vision_tower(), pool)


@in_module("vision_model.encoder.layers.0", VISION)
def neighbours_leak_into_each_other(layer: Any) -> None:
    """A ten-thousandth of every image's first token ends up in the next image of the batch."""

    def leak(original: Any, hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        return original(hidden_states + 1e-4 * hidden_states[:, :1].roll(1, dims=0), *args, **kwargs)

    replace(layer, leak)


def _pool(patch: MonkeyPatch, position: Any) -> None:
    """Pool the text states where `position(ids, eos)` or `position(ids, eos, mask)` says."""

    def pool(output: Any, model: Any, input_ids: Any, attention_mask: Any = None, **_: Any) -> None:
        masked = position.__code__.co_argcount == 3
        mask = input_ids.new_ones(input_ids.shape) if attention_mask is None else attention_mask
        where = position(input_ids, model.eos_token_id, *([mask] if masked else []))
        output.pooler_output = output.last_hidden_state[range(len(input_ids)), where]

    change_tower(patch, text_tower(), pool)


def _transposed_convolution(convolution: Any, pixels: Any) -> Any:
    import torch

    return torch.nn.functional.conv2d(pixels, convolution.weight.transpose(2, 3), stride=convolution.stride)
