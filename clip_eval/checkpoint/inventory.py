"""Check that the files hold exactly the tensors that the config implies."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from clip_eval.checkpoint.dtypes import NUMPY_DTYPES
from clip_eval.checkpoint.tensor_files import TensorEntry
from clip_eval.checkpoint.tensor_names import listed, refuse_foreign_names
from clip_eval.errors import CheckpointError
from clip_eval.families.config import ClipConfig
from clip_eval.families.family import Dimension, Family

__all__ = ["check_inventory"]

_LAYER = r"{tower}\.encoder\.layers\.(\d+)\."


def check_inventory(
    entries: Mapping[str, TensorEntry], config: ClipConfig, *, family: Family, absent: frozenset[str], where: Path
) -> None:
    """Refuse files that do not hold exactly the tensors of `config`, as floating point numbers.

    Nothing is allocated by a size in the config before the tensors are known to have it.

    Args:
        entries: by canonical name.
        config: what config.json says.
        family: of the checkpoint.
        absent: its fields that were left to their defaults, as dotted names.
        where: the file or directory, for error messages.

    Raises:
        CheckpointError: the tensors are not those of a full CLIP. The message names them and, for a wrong shape or
            number of layers, the config field.
    """
    refuse_foreign_names({name: entry.file for name, entry in entries.items()}, family=family, where=where)
    _check_layers(entries, config, family, absent, where)
    expected = family.expected_tensors(config)
    _check_names(entries, expected, where)
    for name, dimensions in expected.items():
        _check_tensor(name, entries[name], dimensions, absent)


def _check_layers(
    entries: Iterable[str], config: ClipConfig, family: Family, absent: frozenset[str], where: Path
) -> None:
    towers = (("text", family.text, config.text), ("vision", family.vision, config.vision))
    for kind, tower, sizes in towers:
        layer = re.compile(_LAYER.format(tower=re.escape(tower.module)), re.ASCII)
        stored = {match[1] for match in filter(None, map(layer.match, entries))}
        if len(stored) != sizes.num_hidden_layers:
            field = _stated(f"{tower.section}.num_hidden_layers", sizes.num_hidden_layers, absent)
            raise CheckpointError(
                f"the {kind} tower has {len(stored)} layers on disk, but {field}",
                where=where,
                fix="Correct config.json, or use the weights that belong to it",
            )


def _check_names(entries: Mapping[str, TensorEntry], expected: Mapping[str, object], where: Path) -> None:
    missing = [name for name in expected if name not in entries]
    unexpected = [name for name in entries if name not in expected]
    if missing or unexpected:
        lacks = f"lacks {listed(missing)} of a full CLIP" if missing else ""
        holds = f"holds {listed(unexpected)} that do not belong to a CLIP" if unexpected else ""
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
    reasons = " and ".join(_stated(field, value, absent) for field, value in blamed.items())
    raise CheckpointError(
        f"the tensor {name} has shape {entry.shape}, but config.json implies {shape}{': ' if reasons else ''}{reasons}",
        where=entry.file,
        fix="Correct config.json, or use the weights that belong to it",
    )


def _stated(field: str, value: int, absent: frozenset[str]) -> str:
    return f"{field} is absent and defaults to {value}" if field in absent else f"{field} is {value}"
