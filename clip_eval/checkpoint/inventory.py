"""Find out what the files hold, and check that they hold exactly the tensors that the config implies."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from clip_eval.checkpoint.dtypes import NUMPY_DTYPES
from clip_eval.checkpoint.tensor_files import TensorEntry
from clip_eval.checkpoint.tensor_names import listed, refuse_foreign_names
from clip_eval.errors import CheckpointError
from clip_eval.families import roles
from clip_eval.families.config import ClipConfig
from clip_eval.families.family import Dimension, Family
from clip_eval.families.holding import HOLDINGS, Holding

__all__ = ["check_inventory", "config_held", "held_by", "held_tensors", "holding_of", "prefixed"]

_LAYER = r"{tower}\.encoder\.layers\.(\d+)\."


def prefixed(
    entries: Mapping[str, TensorEntry], raw: Mapping[str, object], *, family: Family
) -> Mapping[str, TensorEntry]:
    """The tensors by canonical name: transformers 5 writes a tower that was made in Python without the tower's prefix.

    Args:
        entries: by the name in the file.
        raw: config.json; only a tower's own is looked at.
        family: of the checkpoint.
    """
    if raw.get("model_type") not in family.tower_types or not _any(entries, "encoder.layers."):
        return entries
    tower = family.text if raw["model_type"] == family.tower_types[0] else family.vision
    return {name if name.startswith(tower.parts) else f"{tower.module}.{name}": entries[name] for name in entries}


def held_by(entries: Mapping[str, TensorEntry], raw: Mapping[str, object], *, family: Family, where: Path) -> Holding:
    """What part of a model the files hold: what their tensors are, if config.json does not promise more.

    Args:
        entries: by canonical name.
        raw: config.json.
        family: of the checkpoint.
        where: the file or directory, for error messages.

    Raises:
        CheckpointError: the names are not a CLIP's, or config.json is that of another part.
    """
    refuse_foreign_names({name: entry.file for name, entry in entries.items()}, family=family, where=where)
    found, promised = holding_of(entries, family), _promised(raw, family)
    whole_beside_tower = found.whole and raw.get("model_type") in family.tower_types
    if promised is not None and (not found.has(promised) or whole_beside_tower):
        only = "" if found.whole else " only"
        what = f"config.json is that of {_called(family, promised)}, and the file holds {found.in_words}{only}"
        fix = (
            f"Save the {family.classes[promised].name} again, or copy the config.json of {_called(family, found.role)}"
        )
        raise CheckpointError(what, where=where, fix=fix)
    return found


def config_held(raw: Mapping[str, object], holding: Holding, *, family: Family, where: Path) -> ClipConfig:
    """What config.json says of the part that a checkpoint holds. Raises CheckpointError as its reader does."""
    file = str(where / "config.json")
    if holding.role in (roles.WHOLE, roles.CLASSIFIER):
        return family.config.parse(raw, where=file)
    return family.config.parse_tower(raw, texts=holding.texts, where=file)


def held_tensors(
    config: ClipConfig, holding: Holding, *, family: Family, labels: int = 0
) -> dict[str, tuple[Dimension, ...]]:
    """The axes of every tensor of a part of a model, by canonical name; `labels` are an image classifier's.

    Raises:
        CheckpointError: the config has more layers than any file could hold.
    """
    expected = family.expected_tensors(config)
    if holding.role == roles.CLASSIFIER:
        rows, width = Dimension(labels, {}), expected[f"{family.vision.projection}.weight"][1]
        expected |= {"classifier.weight": (rows, width), "classifier.bias": (rows,)}
    return {name: axes for name, axes in expected.items() if family.belongs_to(name, holding.role)}


def check_inventory(
    entries: Mapping[str, TensorEntry],
    config: ClipConfig,
    raw: Mapping[str, object],
    holding: Holding,
    *,
    family: Family,
    where: Path,
) -> None:
    """Refuse files that do not hold exactly the tensors of `config`, as floating point numbers.

    Nothing is allocated by a size in the config before the tensors are known to have it.

    Args:
        entries: by canonical name.
        config: what config.json says.
        raw: config.json.
        holding: what part of a model the files hold.
        family: of the checkpoint.
        where: the file or directory, for error messages.

    Raises:
        CheckpointError: the tensors are not those of the part. The message names them and, for a wrong shape or
            number of layers, the config field.
    """
    fields = _Fields(family.config.absent(raw), alone=raw.get("model_type") in family.tower_types)
    _check_layers(entries, config, holding, family, fields, where)
    labels = family.config.labels(raw, where=str(where)) if holding.role == roles.CLASSIFIER else 0
    expected = held_tensors(config, holding, family=family, labels=labels)
    _check_names(entries, expected, _called(family, holding.role), where)
    for name, dimensions in expected.items():
        _check_tensor(name, entries[name], dimensions, fields)


@dataclass(frozen=True, slots=True)
class _Fields:
    """How fields of config.json are named: those left to their defaults, and whether the file is a tower's own."""

    absent: frozenset[str]
    alone: bool

    def stated(self, field: str, value: int) -> str:
        name = field.rpartition(".")[2] if self.alone else field
        return f"{name} is absent and defaults to {value}" if name in self.absent else f"{name} is {value}"


def holding_of(names: Collection[str], family: Family) -> Holding:
    """What part of a model tensors of these canonical names are: the whole, unless all are of one tower."""
    return HOLDINGS[_role(names, family)]


def _role(names: Collection[str], family: Family) -> str:
    held = {part for tower in (family.text, family.vision) for part in tower.parts if _any(names, part)}
    text, vision = (any(part in held for part in tower.parts) for tower in (family.text, family.vision))
    if text == vision or "logit_scale" in names:
        return roles.WHOLE
    if text:
        return roles.TEXT_PROJECTED if family.text.parts[1] in held else roles.TEXT
    if _any(names, "classifier."):
        return roles.CLASSIFIER
    return roles.VISION_PROJECTED if family.vision.parts[1] in held else roles.VISION


def _any(names: Collection[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _promised(raw: Mapping[str, object], family: Family) -> str | None:
    """The role of the class in `architectures`, or that of the tower whose config it is; None if it says neither."""
    stated = raw.get("architectures")
    names = stated if isinstance(stated, list) else []
    by_class = {kind.name: role for role, kind in family.classes.items()}
    role = next((by_class[name] for name in names if isinstance(name, str) and name in by_class), None)
    towers = dict(zip(family.tower_types, (roles.TEXT, roles.VISION), strict=True))
    return role or towers.get(str(raw.get("model_type")))


def _called(family: Family, role: str) -> str:
    return "a full CLIP" if role == roles.WHOLE else f"a {family.classes[role].name}"


def _check_layers(
    entries: Iterable[str], config: ClipConfig, holding: Holding, family: Family, fields: _Fields, where: Path
) -> None:
    for kind in holding.towers:
        tower = family.text if kind == "text" else family.vision
        sizes = config.text if kind == "text" else config.vision
        layer = re.compile(_LAYER.format(tower=re.escape(tower.module)), re.ASCII)
        stored = {match[1] for match in filter(None, map(layer.match, entries))}
        if len(stored) != sizes.num_hidden_layers:
            field = fields.stated(f"{tower.section}.num_hidden_layers", sizes.num_hidden_layers)
            raise CheckpointError(
                f"the {kind} tower has {len(stored)} layers on disk, but {field}",
                where=where,
                fix="Correct config.json, or use the weights that belong to it",
            )


def _check_names(entries: Mapping[str, TensorEntry], expected: Mapping[str, object], part: str, where: Path) -> None:
    missing = [name for name in expected if name not in entries]
    unexpected = [name for name in entries if name not in expected]
    if missing or unexpected:
        owner, saved = ("a CLIP", "full CLIPModel") if part == "a full CLIP" else (part, part.removeprefix("a "))
        lacks = f"lacks {listed(missing)} of {part}" if missing else ""
        holds = f"holds {listed(unexpected)} that do not belong to {owner}" if unexpected else ""
        raise CheckpointError(
            f"the checkpoint {' and '.join(filter(None, (lacks, holds)))}",
            where=where,
            fix=f"Save the {saved} again, or correct config.json",
        )


def _check_tensor(name: str, entry: TensorEntry, dimensions: tuple[Dimension, ...], named: _Fields) -> None:
    if entry.dtype not in NUMPY_DTYPES:
        raise CheckpointError(
            f"the tensor {name} is stored as {entry.dtype}, not as floating point numbers of 16 bits or more",
            where=entry.file,
            fix="Use the checkpoint from before quantisation",
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
    reasons = " and ".join(named.stated(field, value) for field, value in blamed.items())
    raise CheckpointError(
        f"the tensor {name} has shape {entry.shape}, but config.json implies {shape}{': ' if reasons else ''}{reasons}",
        where=entry.file,
        fix="Correct config.json, or use the weights that belong to it",
    )
