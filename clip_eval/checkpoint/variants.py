"""Variants of a checkpoint's weights: `model.fp16.safetensors` beside `model.safetensors`, or instead of it.

Source of the names: https://huggingface.co/docs/diffusers/using-diffusers/loading#checkpoint-variants.
"""

from __future__ import annotations

import re
from pathlib import Path

from clip_eval.checkpoint.locate import names_in
from clip_eval.errors import UsageError

__all__ = ["beside_note", "refuse_unknown_variant", "variants_in", "weight_files"]

_VARIANT = re.compile(r"model\.([\w-]+?)(?:-\d+-of-\d+)?\.safetensors", re.ASCII)


def weight_files(variant: str | None) -> tuple[str, str]:
    """The names of the file with all weights, and of the index of shards."""
    if variant is None:
        return "model.safetensors", "model.safetensors.index.json"
    return f"model.{variant}.safetensors", f"model.safetensors.index.{variant}.json"


def variants_in(directory: Path) -> list[str]:
    """The variants whose files are in a directory, sorted."""
    return sorted({match[1] for match in map(_VARIANT.fullmatch, names_in(directory)) if match})


def refuse_unknown_variant(directory: Path, variant: str | None) -> None:
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
