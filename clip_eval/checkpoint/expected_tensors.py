"""Which tensors a config promises, and whether the files hold exactly those."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from clip_eval.checkpoint.config import ClipConfig, TextConfig, VisionConfig
from clip_eval.checkpoint.dtypes import NUMPY_DTYPES
from clip_eval.checkpoint.tensor_files import TensorEntry
from clip_eval.checkpoint.tensor_names import listed, refuse_foreign_names
from clip_eval.errors import CheckpointError

__all__ = ["Dimension", "check_inventory", "expected_tensors"]

_LAYER = re.compile(r"(text|vision)_model\.encoder\.layers\.(\d+)\.", re.ASCII)


# Names and shapes of this many are made in a tenth of a second.
_MOST_LAYERS = 2000


@dataclass(frozen=True, slots=True)
class Dimension:
    """One axis of a tensor: its length, and the config fields that it follows from, dotted name to value."""

    size: int
    fields: Mapping[str, int]


def expected_tensors(config: ClipConfig) -> dict[str, tuple[Dimension, ...]]:
    """The axes of every tensor of a full CLIPModel, by canonical name.

    Source: Radford et al. 2021 (arXiv 2103.00020), section 2.4; names as CLIPModel stores them.

    Raises:
        CheckpointError: the config asks for more layers than any file could hold tensors of.
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


def check_inventory(
    entries: Mapping[str, TensorEntry], config: ClipConfig, *, absent: frozenset[str], where: Path
) -> None:
    """Refuse files that do not hold exactly the tensors of `config`, as floating point numbers.

    Nothing is made in proportion to a size in the config before the tensors were found to have it.

    Args:
        entries: canonical name to place on disk.
        config: what config.json says.
        absent: its fields that were left to their defaults, as dotted names.
        where: the file or directory, for error messages.

    Raises:
        CheckpointError: says what the tensors are of if not of a full CLIP, or names them and, for a wrong shape or
            number of layers, the config field behind it.
    """
    refuse_foreign_names({name: entry.file for name, entry in entries.items()}, where=where)
    _check_layers(entries, config, absent, where)
    expected = expected_tensors(config)
    _check_names(entries, expected, where)
    for name, dimensions in expected.items():
        _check_tensor(name, entries[name], dimensions, absent)


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


def _check_layers(entries: Iterable[str], config: ClipConfig, absent: frozenset[str], where: Path) -> None:
    stored: dict[str, set[str]] = {"text": set(), "vision": set()}
    for match in filter(None, map(_LAYER.match, entries)):
        stored[match[1]].add(match[2])
    for tower, count in (("text", config.text.num_hidden_layers), ("vision", config.vision.num_hidden_layers)):
        if len(stored[tower]) != count:
            field = _stated(f"{tower}_config.num_hidden_layers", count, absent)
            raise CheckpointError(
                f"the {tower} tower has {len(stored[tower])} layers on disk, but {field}",
                where=where,
                fix="Correct config.json, or bring the weights that belong to it",
            )


def _check_names(entries: Mapping[str, TensorEntry], expected: Mapping[str, object], where: Path) -> None:
    missing = [name for name in expected if name not in entries]
    unexpected = [name for name in entries if name not in expected]
    if missing or unexpected:
        lacks = f"lacks {listed(missing)} of a full CLIP" if missing else ""
        holds = f"holds {listed(unexpected)} that CLIP has no place for" if unexpected else ""
        raise CheckpointError(
            f"the checkpoint {' and '.join(filter(None, (lacks, holds)))}",
            where=where,
            fix="Save the full CLIPModel again, or correct config.json",
        )


def _check_tensor(name: str, entry: TensorEntry, dimensions: tuple[Dimension, ...], absent: frozenset[str]) -> None:
    if entry.dtype not in NUMPY_DTYPES:
        raise CheckpointError(
            f"the tensor {name} is stored as {entry.dtype}, not as floating point numbers of 16 bits or more",
            where=entry.file,
            fix="Bring the checkpoint before it was quantised",
        )
    shape = tuple(dimension.size for dimension in dimensions)
    if entry.shape == shape:
        return
    if name == "logit_scale" and entry.shape == (1,):
        code = (
            f'import os; from safetensors.torch import load_file, save_file; f = "{entry.file.name}"; '
            't = load_file(f); t["logit_scale"] = t["logit_scale"].reshape(()); '
            'save_file(t, f + ".new", {"format": "pt"}); os.replace(f + ".new", f)'
        )
        raise CheckpointError(
            "the tensor logit_scale has shape (1,), and a CLIP's is a scalar of shape (): transformers refuses the "
            "first from 5.0 on, and 4 reads its number",
            where=entry.file,
            fix=f"Reshape it: python -c {shlex.quote(code)} in its directory does",
        )
    wrong = [axis for axis, size in zip(dimensions, entry.shape, strict=False) if axis.size != size]
    blamed = {field: value for axis in wrong or dimensions for field, value in axis.fields.items()}
    reasons = " and ".join(_stated(field, value, absent) for field, value in blamed.items())
    raise CheckpointError(
        f"the tensor {name} has shape {entry.shape}, but config.json implies {shape}{': ' if reasons else ''}{reasons}",
        where=entry.file,
        fix="Correct config.json, or bring the weights that belong to it",
    )


def _stated(field: str, value: int, absent: frozenset[str]) -> str:
    return f"{field} is absent and defaults to {value}" if field in absent else f"{field} is {value}"
