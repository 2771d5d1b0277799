"""Faults of a conversion from open_clip: a sound CLIP, and not the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from faults.fault import in_file
from faults.files import edit_json, edit_tensors, make_gelu

WEIGHTS = "conversion.every_weight_is_the_original"
NETWORK = "conversion.network_is_the_original"
ACTIVATION = "conversion.activation_is_the_original"
POOLING = "conversion.texts_are_pooled_as_in_the_original"
IMAGES = "conversion.images_are_preprocessed_as_in_the_original"


@in_file(WEIGHTS, converted=True)
def queries_and_keys_change_places(directory: Path) -> None:
    """The fused projection of one layer was divided into k, q and v."""

    def exchange(tensors: dict[str, Any]) -> None:
        layer = "text_model.encoder.layers.1.self_attn"
        for kind in ("weight", "bias"):
            one, other = f"{layer}.q_proj.{kind}", f"{layer}.k_proj.{kind}"
            tensors[one], tensors[other] = tensors[other], tensors[one]

    edit_tensors(directory, exchange)


@in_file(WEIGHTS, converted=True)
def a_square_matrix_of_the_file_is_transposed(directory: Path) -> None:
    """The attention's output projection of one layer is stored as (inputs, outputs)."""
    _change(directory, "vision_model.encoder.layers.2.self_attn.out_proj.weight", lambda weight: weight.T.contiguous())


@in_file(WEIGHTS, converted=True)
def one_element_is_not_the_original(directory: Path) -> None:
    """One element of one bias differs in its last bits."""

    def touch(bias: Any) -> Any:
        bias[7] *= 1 + 1e-6
        return bias

    _change(directory, "vision_model.encoder.layers.4.mlp.fc2.bias", touch)


@in_file(WEIGHTS, converted=True)
def weights_of_the_file_passed_through_bfloat16(directory: Path) -> None:
    """The conversion cast every weight to bfloat16, and stores float32."""
    edit_tensors(directory, lambda tensors: tensors.update({name: t.bfloat16().float() for name, t in tensors.items()}))


@in_file(ACTIVATION, converted=True)
def activation_is_that_of_another_model(directory: Path) -> None:
    """The config says gelu, and the original was trained with quick_gelu."""
    make_gelu(directory)


@in_file(NETWORK, converted=True)
def heads_are_those_of_another_model(directory: Path) -> None:
    """The config has 8 heads in the vision tower instead of 4: no tensor shows it."""
    edit_json(directory / "config.json", lambda config: config["vision_config"].update(num_attention_heads=8))


@in_file(NETWORK, converted=True)
def texts_are_shorter_than_in_the_original(directory: Path) -> None:
    """The conversion kept 32 of 77 positions of texts, in the weights, the config and the tokenizer."""
    _change(directory, "text_model.embeddings.position_embedding.weight", lambda weight: weight[:32].clone())
    edit_json(directory / "config.json", lambda config: config["text_config"].update(max_position_embeddings=32))
    edit_json(directory / "tokenizer_config.json", lambda config: config.update(model_max_length=32))


@in_file(POOLING, converted=True)
def texts_are_pooled_at_their_first_token(directory: Path) -> None:
    """eos_token_id is the id of the token that begins a text."""
    edit_json(directory / "config.json", lambda config: config["text_config"].update(eos_token_id=841))


@in_file(IMAGES, converted=True)
def images_have_the_mean_of_imagenet(directory: Path) -> None:
    """The image processor subtracts ImageNet's mean."""
    edit_json(
        directory / "preprocessor_config.json", lambda settings: settings.update(image_mean=[0.485, 0.456, 0.406])
    )


@in_file(IMAGES, converted=True)
def images_are_resized_bilinearly(directory: Path) -> None:
    """The image processor has the bilinear filter instead of the bicubic one."""
    edit_json(directory / "preprocessor_config.json", lambda settings: settings.update(resample=2))


def _change(directory: Path, name: str, change: Any) -> None:
    edit_tensors(directory, lambda tensors: tensors.update({name: change(tensors[name])}))
