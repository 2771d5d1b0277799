"""The files that hold a checkpoint's weights: one file or shards with an index, and their variants.

A variant is `model.fp16.safetensors` beside `model.safetensors`, or instead of it; source of the names:
https://huggingface.co/docs/diffusers/using-diffusers/loading#checkpoint-variants.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from clip_eval.checkpoint.locate import is_file, names_in, refuse_other_kinds
from clip_eval.checkpoint.tensor_files import TensorEntry, read_header
from clip_eval.checkpoint.tensor_names import listed, shown_name
from clip_eval.errors import CheckpointError, UsageError
from clip_eval.families.config import shown
from clip_eval.files.read_write import read_json

__all__ = [
    "beside_note",
    "shard_file",
    "shard_places",
    "stored_tensors",
    "variants_in",
    "weight_files",
    "with_scalar_scale",
]

_VARIANT = re.compile(r"model\.([\w-]+?)(?:-\d+-of-\d+)?\.safetensors", re.ASCII)
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_COPY_AGAIN = "Copy or download the checkpoint again"


def weight_files(variant: str | None) -> tuple[str, str]:
    """The names of the file with all weights, and of the index of shards."""
    if variant is None:
        return "model.safetensors", "model.safetensors.index.json"
    return f"model.{variant}.safetensors", f"model.safetensors.index.{variant}.json"


def variants_in(directory: Path) -> list[str]:
    """The variants whose files are in a directory, sorted."""
    return sorted({match[1] for match in map(_VARIANT.fullmatch, names_in(directory)) if match})


def _refuse_unknown_variant(directory: Path, variant: str | None) -> None:
    """Say which variants there are, where the one that was asked for is not there.

    Raises:
        UsageError: one was asked for, or none was and there are only variants.
    """
    found = variants_in(directory)
    if variant is not None:
        fix = f"The variants are {', '.join(found)}" if found else "Leave out --variant"
        raise UsageError(f"the checkpoint has no {weight_files(variant)[0]}", where=directory, fix=fix)
    if found:
        only = ", ".join(weight_files(name)[0] for name in found)
        what = f"the checkpoint has no model.safetensors, only {only}"
        raise UsageError(what, where=directory, fix=f"Add --variant {found[0]}")


def beside_note(directory: Path, variant: str | None) -> str | None:
    """What the report says of variants that are there and are not judged; None if there are none."""
    others = variants_in(directory)
    if variant is not None or not others:
        return None
    files = " and ".join(weight_files(name)[0] for name in others)
    options = " or ".join(f"--variant {name}" for name in others)
    return f"Beside model.safetensors lies {files}, which was not judged: {options} does that."


def shard_file(index_file: Path, shard: str) -> Path:
    """A file named in an index of shards. It must be beside the index: another name could reach any file.

    Raises:
        CheckpointError: it leads outside, or is missing.
    """
    if shard in ("", "..") or Path(shard).name != shard:
        what = f"the index names {shown(shard)}, which is not a file beside it"
        raise CheckpointError(what, where=index_file, fix=_COPY_AGAIN)
    file = index_file.with_name(shard)
    if not is_file(file):
        raise CheckpointError(f"the shard {shown_name(shard)} is missing", where=index_file.parent, fix=_COPY_AGAIN)
    return file


def shard_places(index_file: Path) -> dict[str, str]:
    """The weight_map of an index of shards: tensor name to file name.

    Raises:
        CheckpointError: the file is damaged.
    """
    index = read_json(index_file, error=CheckpointError)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError("the index has no weight_map of names to files", where=index_file, fix=_COPY_AGAIN)
    return places


def with_scalar_scale(tensors: dict[str, TensorEntry]) -> tuple[dict[str, TensorEntry], str | None]:
    """`logit_scale` as a scalar, if the file has shape (1,) and the installed release accepts it.

    transformers 4 loads it by torch's load_state_dict, which accepts that; from 5.0 on the shapes must agree.
    """
    scale = tensors.get("logit_scale")
    release = version("transformers")
    if scale is None or scale.shape != (1,) or int(release.partition(".")[0]) >= 5:
        return tensors, None
    note = f"logit_scale has shape (1,) in {scale.file.name}: transformers {release} reads its number, 5.0 refuses it."
    return {**tensors, "logit_scale": replace(scale, shape=())}, note


def stored_tensors(path: Path, variant: str | None) -> dict[str, TensorEntry]:
    """Every tensor by name, from model.safetensors or, where that is missing, from the index's shards.

    Args:
        path: the checkpoint's directory.
        variant: such as "fp16", for model.fp16.safetensors; None for the files without one.

    Raises:
        CheckpointError: there are no weights, or the files are damaged.
        UsageError: there is no such variant, or nothing but variants.
    """
    file, index = weight_files(variant)
    if os.path.lexists(path / file):  # anything but a regular file is refused when it is opened
        return read_header(path / file)
    if (path / index).is_file():
        return _sharded(path / index)
    _refuse_unknown_variant(path, variant)
    raise _without_weights(path)


def _without_weights(path: Path) -> CheckpointError:
    names = names_in(path)
    for pickle in _PICKLES:
        if pickle in names:
            return CheckpointError(
                f"the checkpoint has its weights only in {pickle}, a format that can run code when it is read",
                where=path,
                fix=f"Convert it first: clip-eval convert {shlex.quote(str(path))} --out DIR",
            )
    refuse_other_kinds(path)
    others = [name for name in names if name.endswith((".safetensors", ".h5", ".msgpack", ".bin", ".pt", ".ckpt"))]
    instead = f", only {', '.join(others[:3])}" if others else ""
    return CheckpointError(
        f"the checkpoint has no model.safetensors{instead}", where=path, fix="Save it with CLIPModel.save_pretrained"
    )


def _sharded(index_file: Path) -> dict[str, TensorEntry]:
    places = shard_places(index_file)
    found: dict[str, TensorEntry] = {}
    for shard in sorted(set(places.values())):
        for name, entry in read_header(shard_file(index_file, shard)).items():
            if places.get(name) != shard:
                raise CheckpointError(
                    f"{shard} holds {shown_name(name)}, and the index says otherwise", where=index_file, fix=_COPY_AGAIN
                )
            found[name] = entry
    if lost := [name for name in places if name not in found]:
        raise CheckpointError(f"{places[lost[0]]} lacks {listed(lost)}", where=index_file, fix=_COPY_AGAIN)
    return found
