"""The tensors that a CLIP's config implies."""

from __future__ import annotations

from collections.abc import Mapping

from clip_eval.errors import CheckpointError
from clip_eval.families.config import ClipConfig, TextConfig, VisionConfig
from clip_eval.families.family import Dimension

__all__ = ["expected_tensors"]

# Names and shapes of this many layers take a tenth of a second.
_MOST_LAYERS = 2000


def expected_tensors(config: ClipConfig) -> dict[str, tuple[Dimension, ...]]:
    """The axes of every tensor of a full CLIPModel, by canonical name.

    Source: Radford et al. 2021 (arXiv 2103.00020), section 2.4; names as CLIPModel stores them.

    Raises:
        CheckpointError: the config has more layers than any file could hold.
    """
    for section, tower in (("text_config", config.text), ("vision_config", config.vision)):
        if tower.num_hidden_layers > _MOST_LAYERS:
            what = (
                f"{section}.num_hidden_layers is {tower.num_hidden_layers}, more than the {_MOST_LAYERS} that are read"
            )
            raise CheckpointError(what, where="the config", fix="Correct it: the largest CLIPs have 48")
    projection = Dimension(config.projection_dim, {"projection_dim": config.projection_dim})
    text, vision = _dimensions("text_config", config.text), _dimensions("vision_config", config.vision)
    vocabulary, positions = (text[name] for name in ("vocab_size", "max_position_embeddings"))
    channels, patch = (vision[name] for name in ("num_channels", "patch_size"))
    image_positions = _image_positions(config.vision)
    text_width, vision_width = text["hidden_size"], vision["hidden_size"]
    return {
        "text_model.embeddings.token_embedding.weight": (vocabulary, text_width),
        "text_model.embeddings.position_embedding.weight": (positions, text_width),
        **_layers("text_model", config.text, text),
        **_affine("text_model.final_layer_norm", (text_width,)),
        "text_projection.weight": (projection, text_width),
        "vision_model.embeddings.class_embedding": (vision_width,),
        "vision_model.embeddings.patch_embedding.weight": (vision_width, channels, patch, patch),
        "vision_model.embeddings.position_embedding.weight": (image_positions, vision_width),
        **_affine("vision_model.pre_layrnorm", (vision_width,)),
        **_layers("vision_model", config.vision, vision),
        **_affine("vision_model.post_layernorm", (vision_width,)),
        "visual_projection.weight": (projection, vision_width),
        "logit_scale": (),
    }


def _dimensions(section: str, tower: TextConfig | VisionConfig) -> dict[str, Dimension]:
    own = ("vocab_size", "max_position_embeddings") if isinstance(tower, TextConfig) else ("num_channels", "patch_size")
    names = ("hidden_size", "intermediate_size", *own)
    sizes = {name: int(getattr(tower, name)) for name in names}
    return {name: Dimension(size, {f"{section}.{name}": size}) for name, size in sizes.items()}


def _image_positions(vision: VisionConfig) -> Dimension:
    """One position for each patch, and one for the class token."""
    fields = {"vision_config.image_size": vision.image_size, "vision_config.patch_size": vision.patch_size}
    return Dimension((vision.image_size // vision.patch_size) ** 2 + 1, fields)


def _affine(name: str, weight: tuple[Dimension, ...]) -> dict[str, tuple[Dimension, ...]]:
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}


def _layers(
    model: str, tower: TextConfig | VisionConfig, dimensions: Mapping[str, Dimension]
) -> dict[str, tuple[Dimension, ...]]:
    width, inner = dimensions["hidden_size"], dimensions["intermediate_size"]
    layer = {
        **_affine("layer_norm1", (width,)),
        **{name: axes for part in "qkv" for name, axes in _affine(f"self_attn.{part}_proj", (width, width)).items()},
        **_affine("self_attn.out_proj", (width, width)),
        **_affine("layer_norm2", (width,)),
        **_affine("mlp.fc1", (inner, width)),
        **_affine("mlp.fc2", (width, inner)),
    }
    layers = range(tower.num_hidden_layers)
    return {f"{model}.encoder.layers.{index}.{name}": axes for index in layers for name, axes in layer.items()}
