"""Find the field of a checkpoint's files that keeps a class from building a processor: one without which it does."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clip_eval.errors import CheckpointError
from clip_eval.files.read_write import read_json

__all__ = ["FieldAtFault", "field_at_fault"]

_FILES = ("tokenizer_config.json", "special_tokens_map.json", "preprocessor_config.json", "processor_config.json")
_SHOWN = 60
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".h5", ".msgpack")


@dataclass(frozen=True, slots=True)
class FieldAtFault:
    """A field at the top of a JSON file.

    Attributes:
        file: the checkpoint's file.
        name: of the field.
        value: what the file says.
    """

    file: Path
    name: str
    value: Any

    @property
    def in_words(self) -> str:
        """The value as JSON, cut where it is long."""
        text = json.dumps(self.value, ensure_ascii=False)
        return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 4]} ..."


def field_at_fault(directory: Path, build: Callable[[Path], object]) -> FieldAtFault | None:
    """Return the first field without which `build` works; None if there is no single such field.

    Args:
        directory: a checkpoint from which `build` raises.
        build: builds a processor, or a part of one, from a directory.
    """
    with tempfile.TemporaryDirectory(prefix="clip-eval-") as name:
        copy = Path(name)
        for file in directory.iterdir():
            if file.is_file() and file.suffix not in _WEIGHTS:
                shutil.copyfile(file, copy / file.name)
        return next((field for field in _fields(directory) if _builds_without(field, copy, build)), None)


def _fields(directory: Path) -> Iterator[FieldAtFault]:
    for file in (directory / name for name in _FILES):
        for name, value in _object(file).items():
            yield FieldAtFault(file, name, value)


def _builds_without(field: FieldAtFault, copy: Path, build: Callable[[Path], object]) -> bool:
    file, kept = copy / field.file.name, _object(field.file)
    whole = file.read_bytes()
    del kept[field.name]
    file.write_text(json.dumps(kept), encoding="utf-8")
    try:
        build(copy)
    except Exception:  # whatever it raises: this field is not the only fault
        return False
    finally:
        file.write_bytes(whole)
    return True


def _object(file: Path) -> dict[str, Any]:
    """The JSON object of a file; empty if it is missing or cannot be read."""
    try:
        content = read_json(file, error=CheckpointError) if file.is_file() else None
    except CheckpointError:
        return {}
    return content if isinstance(content, dict) else {}
