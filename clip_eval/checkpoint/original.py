"""The checkpoint of another library that a checkpoint was converted from: found, opened, and its tensors located."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from clip_eval.checkpoint.changes import Identity, identity_of
from clip_eval.checkpoint.checkpoint import Checkpoint
from clip_eval.checkpoint.hub import parse_hub_id
from clip_eval.checkpoint.locate import is_directory, is_file, names_in
from clip_eval.checkpoint.tensor_files import TensorEntry, read_header
from clip_eval.checkpoint.tensor_names import listed
from clip_eval.errors import CheckpointError
from clip_eval.families.family import Origin, SourceFormat, SourceSettings
from clip_eval.files.read_write import read_json
from clip_eval.nearest import beside

__all__ = ["Original", "open_original", "original_beside"]

_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True, slots=True)
class Original:
    """What a checkpoint was converted from.

    Attributes:
        library: whose format it is.
        file: its weights.
        config: its config; None if there is none beside the weights.
        origins: canonical name of each of the conversion's tensors to where it must lie.
        tensors: those of the file that belong to what the conversion holds, by their names there.
        settings: what the config says; None without one.
        seen: the file of the weights as it was when it was opened.
    """

    library: str
    file: Path
    config: Path | None
    origins: Mapping[str, Origin]
    tensors: Mapping[str, TensorEntry]
    settings: SourceSettings | None
    seen: Identity | None

    @property
    def changed(self) -> tuple[str, ...]:
        """The path of the weights if the file is another than the one that was opened, or gone."""
        return () if identity_of(self.file) == self.seen else (str(self.file),)

    @property
    def missing(self) -> tuple[str, ...]:
        """The canonical names whose tensors the file lacks."""
        return tuple(name for name, origin in self.origins.items() if origin.name not in self.tensors)

    @property
    def left_over(self) -> tuple[str, ...]:
        """The names of the file that belong to no tensor of the conversion."""
        used = {origin.name for origin in self.origins.values()}
        return tuple(name for name in self.tensors if name not in used)

    def entry(self, name: str) -> TensorEntry | None:
        """The place of the tensor `name`, or of the part that it is, axes as they lie there; None if it is not there.

        A fused tensor that cannot be divided into its parts is returned whole.
        """
        origin = self.origins[name]
        whole = self.tensors.get(origin.name)
        if whole is None or origin.parts == 1 or not whole.shape or whole.shape[0] % origin.parts:
            return whole
        size = whole.size_bytes // origin.parts
        shape = (whole.shape[0] // origin.parts, *whole.shape[1:])
        return replace(whole, shape=shape, size_bytes=size, offset_bytes=whole.offset_bytes + origin.part * size)


def open_original(named: str, checkpoint: Checkpoint) -> Original:
    """Open the weights and the config that a checkpoint was converted from. Values are not read.

    Args:
        named: a directory with the files of a format in `Family.sources`, or the weights' safetensors file.
        checkpoint: the conversion.

    Raises:
        CheckpointError: nothing there, not of such a format, a pickle, or a damaged file.
    """
    formats = checkpoint.family.sources
    libraries = " or ".join(source.library for source in formats)
    if not formats:
        what = f"nothing is known of what a {checkpoint.family.model_type} is converted from"
        raise CheckpointError(what, where=named, fix="Leave --converted-from out")
    path = Path(named)
    file = _in_directory(path.absolute(), formats) if is_directory(path) else _as_file(path, named, libraries)
    seen = identity_of(file)
    entries = read_header(file)
    source = next((each for each in formats if _is_of(each, entries, checkpoint)), None)
    if source is None:
        _refuse_names(entries, file, checkpoint, libraries)
    config = file.with_name(source.config)
    tensors = {name: entry for name, entry in entries.items() if source.belongs(name, checkpoint.tensors)}
    return Original(
        source.library,
        file,
        config if is_file(config) else None,
        source.origins(tensors, checkpoint.tensors),
        tensors,
        _read_settings(config, source) if is_file(config) else None,
        seen,
    )


def original_beside(checkpoint: Checkpoint) -> Path | None:
    """The weights of another library in the checkpoint's own directory, if there are any."""
    names = (name for source in checkpoint.family.sources for name in source.weights)
    return next((checkpoint.path / name for name in names if is_file(checkpoint.path / name)), None)


def _as_file(path: Path, named: str, libraries: str) -> Path:
    if not os.path.lexists(path):
        fix = f"Name a directory with the files of {libraries}, or its safetensors file"
        if parse_hub_id(named) is not None:
            fix = f"Name a directory, after: hf download {named.replace('@', ' --revision ')} --local-dir DIR"
        raise CheckpointError("the original does not exist", where=named, fix=beside(path, fix))
    if path.suffix in _PICKLES:
        _refuse_pickle(path.absolute())
    return path.absolute()


def _in_directory(path: Path, formats: tuple[SourceFormat, ...]) -> Path:
    wanted = [name for source in formats for name in source.weights]
    if found := [path / name for name in wanted if is_file(path / name)]:
        return found[0]
    names = names_in(path)
    if "config.json" in names:  # its other files are those of a conversion
        names = [name for name in names if name.startswith(tuple(source.library for source in formats))]
    if pickles := [name for name in names if name.endswith(_PICKLES)]:
        _refuse_pickle(path / pickles[0])
    others = [name for name in names if name.endswith(".safetensors")]
    fix = f"Name one of its files: {', '.join(others[:3])}" if others else "Name the directory or file of the original"
    raise CheckpointError(f"the directory has no {wanted[0]}", where=path, fix=fix)


def _refuse_pickle(file: Path) -> NoReturn:
    code = (
        "import torch; from safetensors.torch import save_file; "
        f'w = torch.load("{file.name}", map_location="cpu", weights_only=True); w = w.get("state_dict", w); '
        f'save_file({{n: t.clone() for n, t in w.items()}}, "{file.stem}.safetensors")'
    )
    raise CheckpointError(
        "the original's weights are a pickle, a format that can run code when it is read",
        where=file,
        fix=f"Convert it to safetensors: python -c {shlex.quote(code)} in its directory does, without running its code",
    )


def _is_of(source: SourceFormat, entries: Mapping[str, TensorEntry], checkpoint: Checkpoint) -> bool:
    """Whether a tensor with a name of the format's own is in the file."""
    origins = source.origins(entries, checkpoint.tensors)
    return any(origin.name in entries and origin.name != name for name, origin in origins.items())


def _refuse_names(entries: Mapping[str, TensorEntry], file: Path, checkpoint: Checkpoint, libraries: str) -> NoReturn:
    own = [name for name in entries if name in checkpoint.tensors and "." in name]
    what = "its names are those of a conversion" if own else f"it holds {listed(list(entries))}"
    raise CheckpointError(
        f"this is not a checkpoint of {libraries}: {what}",
        where=file,
        fix="Name the original, or the directory it is in",
    )


def _read_settings(file: Path, source: SourceFormat) -> SourceSettings:
    raw = read_json(file, error=CheckpointError)
    if not isinstance(raw, dict):
        raise CheckpointError("the config is not a JSON object", where=file, fix="Copy or download it again")
    return source.settings(raw, where=str(file))
