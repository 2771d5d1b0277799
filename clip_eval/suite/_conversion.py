"""Shared by the checks of a conversion: what differs from the original, and the finding that says so."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clip_eval.checkpoint.checkpoint import Checkpoint
from clip_eval.checkpoint.conversion import ConfigDifference, Kind, TensorDifference, config_differences
from clip_eval.checkpoint.original import Original
from clip_eval.checkpoint.tensor_names import listed
from clip_eval.errors import Finding, NotAskable
from clip_eval.families.family import SourceSettings, Stated
from clip_eval.oracle.preprocessing.image_processor import PixelSettings

__all__ = [
    "ACTIVATIONS",
    "END",
    "NETWORK",
    "Network",
    "config_finding",
    "network_of",
    "network_to_write",
    "pixel_differences",
    "pixel_file",
    "pixels_to_write",
    "to_write",
    "weights_finding",
]

NETWORK = "conversion.network_is_the_original"
"""The check of sizes: tensors and images of another size follow from what it finds."""

END = "text_config.eos_token_id"
ACTIVATIONS = ("text_config.hidden_act", "vision_config.hidden_act")
_DEPTHS = ("text_config.num_hidden_layers", "vision_config.num_hidden_layers")
_PIXEL_FILES = ("processor_config.json", "preprocessor_config.json")


@dataclass(frozen=True, slots=True)
class Network:
    """How the conversion's network differs from the original's, apart from its activation and its pooling.

    Attributes:
        differences: the fields of config.json.
        foreign: clauses on what the original has and CLIPModel has not.
    """

    differences: tuple[ConfigDifference, ...] = ()
    foreign: tuple[str, ...] = ()

    def explains(self, found: TensorDifference) -> bool:
        """Whether a tensor is another for these reasons, so that it needs no finding of its own."""
        fields = {difference.field for difference in self.differences}
        if found.kind in ("missing", "left over"):
            return bool(self.foreign or fields.intersection(_DEPTHS))
        return found.kind == "shape" and bool(self.foreign or fields & found.fields)

    def refer(self, what: str) -> NotAskable:
        """The error of a check that could say no more than `NETWORK` does."""
        return NotAskable(what, finding=NETWORK)


def network_of(checkpoint: Checkpoint, settings: SourceSettings | None) -> Network:
    """Compare the networks; without a config of the original nothing is known of its own."""
    if settings is None:
        return Network()
    fields = {field: stated for field, stated in settings.config.items() if field not in (*ACTIVATIONS, END)}
    return Network(config_differences(checkpoint, fields), settings.foreign)


_KINDS: Mapping[Kind, tuple[str, str]] = {
    "transposed": (
        "in {names} rows and columns of the original's are exchanged",
        "Exchange the axes of text_projection and visual.proj, which open_clip stores as (width, projection), and of "
        "no other tensor",
    ),
    "another part": (
        "in {names} is the original's {detail}",
        "Divide in_proj_weight and in_proj_bias along the first axis into q, k and v, in this order",
    ),
    "rounded": (
        "{names} went through {detail}, which took digits off",
        "Convert the original without that cast, or store the conversion in that dtype",
    ),
    "missing": ("the original has nothing for {names}", "Name the original that this was converted from"),
    "left over": (
        "the original's {names} went nowhere",
        "Name the original that this was converted from; what CLIPModel has no tensor for cannot be converted",
    ),
    "shape": ("shapes differ in {names}: {detail}", "Convert the original with a config of its own sizes"),
    "values": (
        "values differ in {names}: {detail}",
        "Convert the original again, or name the one that this was converted from",
    ),
}
"""What is said of the tensors that differ alike, and what to do."""

_EACH_ITS_OWN: tuple[Kind, ...] = ("shape", "values")
"""Kinds whose details are of one tensor: those of the first are given."""


def weights_finding(differences: Sequence[TensorDifference], checkpoint: Checkpoint, original: Original) -> Finding:
    """The finding on tensors that are not the original's: what is wrong alike is said once."""
    groups: dict[tuple[Kind, str], list[TensorDifference]] = {}
    for found in differences:
        groups.setdefault((found.kind, "" if found.kind in _EACH_ITS_OWN else found.detail), []).append(found)
    order = list(_KINDS)
    ordered = sorted(groups.items(), key=lambda group: order.index(group[0][0]))  # a stable sort
    clauses = [
        _KINDS[kind][0].format(names=listed([found.name for found in group]), detail=group[0].detail)
        for (kind, _), group in ordered
    ]
    stored = sorted({entry.file.name for entry in checkpoint.tensors.values()})
    return Finding(
        "; ".join(clauses),
        where=f"{checkpoint.path / stored[0]} against {original.file}",
        fix=_KINDS[ordered[0][0][0]][1],
    )


def config_finding(
    differences: Sequence[ConfigDifference], original: Original, file: str, fix: str, foreign: Sequence[str] = ()
) -> Finding:
    """The finding on fields that say something else than the original's config: each with both values."""
    clauses = [_clause(difference) for difference in differences]
    clauses += [f"the original's {clause}, and CLIPModel cannot compute that" for clause in foreign]
    return Finding("; ".join(clauses), where=f"{file} against {original.config}", fix=fix)


def _clause(found: ConfigDifference) -> str:
    readers = f" in {found.readers}" if found.readers else ""
    expected, says = _shown(found.original.value), found.original.says
    return f"{found.field} is {_shown(found.value)}{readers}, and the original's is {expected} ({says})"


def _shown(value: object) -> str:
    return "off" if value is None else json.dumps(value)


def to_write(differences: Iterable[ConfigDifference], checkpoint: Checkpoint) -> str:
    """What to write into config.json, such as `text_config.hidden_act "gelu"`, in each section that has the field."""
    return ", ".join(
        f"{place} {_shown(found.original.value)}" for found in differences for place in _places(found.field, checkpoint)
    )


def network_to_write(network: Network, checkpoint: Checkpoint) -> str:
    """What to do about another network: weights of another shape must be converted again."""
    values = to_write(network.differences, checkpoint)
    tensors = checkpoint.family.expected_tensors(checkpoint.config).values()
    shown = {field for axes in tensors for axis in axes for field in axis.fields}.union(_DEPTHS)
    if not values:
        return "Use the original in its own library"
    again = any(found.field in shown for found in network.differences)
    return f"Convert the original again, with a config of {values}" if again else f"Write {values}"


def _places(field: str, checkpoint: Checkpoint) -> list[str]:
    section, _, name = field.rpartition(".")
    if not section:
        return [field]
    places = [f"{place}.{name}" for place in (section, f"{section}_dict") if place in checkpoint.raw_config]
    return places or [name if name in checkpoint.raw_config else field]  # the first in the config of a tower alone


def pixel_differences(settings: PixelSettings, stated: Mapping[str, Stated]) -> tuple[ConfigDifference, ...]:
    """The image processor's settings in effect that are not the original's; mean and spread as float32, as open_clip
    computes with them.
    """
    size = settings.size if settings.do_resize else None
    crop = (settings.crop_height, settings.crop_width) if settings.do_center_crop else None
    observed: dict[str, object] = {
        "image_mean": settings.image_mean if settings.do_normalize else None,
        "image_std": settings.image_std if settings.do_normalize else None,
        "resample": settings.resample,
        "size": size,
        "crop_size": None if crop == size else crop,
        "rescale_factor": settings.rescale_factor if settings.do_rescale else None,
    }
    always = {"rescale_factor": Stated(1 / 255, "open_clip divides by 255")}
    return tuple(
        ConfigDifference(name, observed[name], "", original)
        for name, original in {**stated, **always}.items()
        if not _same(observed[name], original.value)
    )


def _same(observed: object, expected: object) -> bool:
    if isinstance(observed, (float, tuple)) and isinstance(expected, (float, tuple)):
        return np.array_equal(np.asarray(observed, np.float32), np.asarray(expected, np.float32))
    return observed == expected


def pixels_to_write(differences: Iterable[ConfigDifference]) -> str:
    """What to write into the file of the image processor."""
    values = {found.field: found.original.value for found in differences}
    if "size" in values and values["size"] is None:
        return "Prepare images in your own code: CLIPImageProcessor cannot do that"
    return f"Write {', '.join(_setting(name, value) for name, value in values.items())}"


def _setting(name: str, value: Any) -> str:
    if name == "crop_size" and value is None:
        return '"do_center_crop": false'
    if name == "size" and isinstance(value, int):
        value = {"shortest_edge": value}
    elif name in ("size", "crop_size"):
        value = dict(zip(("height", "width"), value, strict=True))
    return f'"{name}": {json.dumps(value)}'


def pixel_file(checkpoint: Checkpoint) -> str:
    """The file with the image processor's settings, or both that may have them."""
    directory = checkpoint.processor_path
    return str(directory / " and ".join(name for name in _PIXEL_FILES if (directory / name).is_file()))
