"""Find the checkpoint in the user's directory: the directory itself, or one inside that its own files point to.

Only marker files count: those of the hub's cache, a Sentence Transformers model, a diffusers pipeline, a training run.
Other directories are never guessed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from clip_eval.errors import CheckpointError, UsageError
from clip_eval.files.read_write import read_json, read_text

__all__ = ["Place", "is_directory", "is_file", "local_directory", "locate", "names_in", "refuse_other_kinds"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_RUN_STEP = re.compile(r"checkpoint-[0-9]{1,12}", re.ASCII)
_LISTED_AT_MOST = 8
_PEFT = "adapter_config.json"
_OPEN_CLIP = "open_clip_config.json"
_NOT_MODELS = ("Tokenizer", "TokenizerFast", "Processor", "FeatureExtractor", "ProcessorFast")


@dataclass(frozen=True, slots=True)
class Place:
    """A checkpoint directory.

    Attributes:
        path: the directory, absolute.
        revision: the commit, from the hub's cache; None otherwise.
        note: a sentence on how it was found; None if it is the user's own path.
    """

    path: Path
    revision: str | None = None
    note: str | None = None


def locate(path: Path) -> Place:
    """The checkpoint directory at `path`, or that its marker files point to.

    Raises:
        CheckpointError: the directory does not exist or holds no CLIP; the message says what it is, if a file shows it.
        UsageError: it holds several; the message lists them.
    """
    path = local_directory(path)
    if is_file(path / "config.json"):
        return Place(path)
    place = next((place for place in (find(path) for find in _FINDERS) if place is not None), None)
    if place is None:
        _refuse(path)
    return place


def local_directory(path: Path) -> Path:
    """The absolute path of an existing directory.

    Raises:
        CheckpointError: it is missing, or a file; the message has the nearest name of a checkpoint beside it.
    """
    if is_directory(path):
        return path.absolute()
    if _exists(path):
        raise CheckpointError(
            "a checkpoint is a directory, and this is a file", where=path, fix=f"Name its directory, {path.parent}"
        )
    names = names_in(path.parent) if is_directory(path.parent) else []
    near = [name for name in difflib.get_close_matches(path.name, names, n=5) if _is_marked(path.parent / name)]
    hint = (
        f"The nearest name is {path.parent / near[0]}" if near else "Name a checkpoint directory or a hub id (org/name)"
    )
    raise CheckpointError("the checkpoint does not exist", where=path, fix=hint)


def is_file(path: Path) -> bool:
    """Whether a regular file exists; no error for a name that is too long."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_directory(path: Path) -> bool:
    """Whether a directory exists; no error for a name that is too long."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def names_in(directory: Path) -> list[str]:
    """The names in a directory, sorted.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        return sorted(entry.name for entry in directory.iterdir())
    except OSError as problem:
        reason = (problem.strerror or type(problem).__name__).lower()
        fix = "Name a directory that you may read"
        raise CheckpointError(f"the directory cannot be read ({reason})", where=directory, fix=fix) from problem


def _is_marked(path: Path) -> bool:
    markers = ("config.json", "modules.json", "model_index.json", _PEFT, _OPEN_CLIP)
    return _is_cached(path) or any(is_file(path / marker) for marker in markers)


def _is_cached(path: Path) -> bool:
    return is_directory(path / "snapshots") and (is_directory(path / "refs") or is_directory(path / "blobs"))


def _cached_repository(path: Path) -> Place | None:
    """A repository in the hub's cache: the commit in refs/main, or the only one."""
    if not _is_cached(path):
        return None
    snapshots = path / "snapshots"
    commits = [name for name in names_in(snapshots) if _is_marked(snapshots / name)]
    main = path / "refs" / "main"
    commit = read_text(main, error=CheckpointError).strip() if is_file(main) else None
    if commit is not None and (not _COMMIT.fullmatch(commit) or commit not in commits):
        raise CheckpointError(
            "the hub's cache lacks files of the commit that refs/main names", where=path, fix="Download it again"
        )
    if commit is None:
        commit = _only([snapshots / name for name in commits], "commits", path).name
    why = "that refs/main names" if is_file(main) else "that is there"
    note = f"The checkpoint is read from {snapshots / commit}, the commit {why} in the hub's cache."
    inside = locate(snapshots / commit)  # a pipeline or a Sentence Transformers model has it one level deeper
    notes = note if inside.note is None else f"{note} {inside.note}"
    return Place(inside.path, commit if _COMMIT.fullmatch(commit) else None, notes)


def _cache(path: Path) -> Place | None:
    """The hub's cache itself, with one directory a repository."""
    repositories = [path / name for name in names_in(path) if name.startswith("models--") and _is_cached(path / name)]
    return _cached_repository(_only(repositories, "repositories of the hub", path)) if repositories else None


def _sentence_transformers(path: Path) -> Place | None:
    """A Sentence Transformers model: modules.json has the directory of each module."""
    if not is_file(path / "modules.json"):
        return None
    modules = read_json(path / "modules.json", error=CheckpointError)
    entries = [entry for entry in modules if isinstance(entry, Mapping)] if isinstance(modules, list) else []
    kinds = [str(entry.get("type", "")).rpartition(".")[2] for entry in entries]
    inside = [
        path / str(entry.get("path", "")) for entry, kind in zip(entries, kinds, strict=True) if kind == "CLIPModel"
    ]
    inside = [module for module in inside if _is_below(module, path) and is_file(module / "config.json")]
    if not inside:
        what = f"this is a Sentence Transformers model without a CLIP in it ({_cut(', '.join(kinds) or 'no modules')})"
        raise CheckpointError(what, where=path / "modules.json", fix="Name a CLIP checkpoint")
    module = _only(inside, "CLIP modules", path)
    return Place(module, note=f"The checkpoint is read from {module}, the CLIP module that modules.json names.")


def _diffusers(path: Path) -> Place | None:
    """A diffusers pipeline: model_index.json has each component's class; its directory has the component's name."""
    if not is_file(path / "model_index.json"):
        return None
    index = read_json(path / "model_index.json", error=CheckpointError)
    components = index.items() if isinstance(index, dict) else ()
    inside = [path / name for name, kind in components if _is_clip_component(kind) and _is_below(path / name, path)]
    inside = [component for component in inside if is_file(component / "config.json")]
    if not inside:
        what = "this is a diffusers pipeline without a CLIP of transformers in it"
        raise CheckpointError(what, where=path / "model_index.json", fix="Name a CLIP checkpoint")
    component = _only(inside, "CLIP components", path)
    return Place(
        component, note=f"The checkpoint is read from {component}, the CLIP component that model_index.json names."
    )


def _is_clip_component(kind: object) -> bool:
    if not isinstance(kind, list) or len(kind) != 2 or kind[0] != "transformers" or not isinstance(kind[1], str):
        return False
    return kind[1].startswith("CLIP") and not kind[1].endswith(_NOT_MODELS)


def _training_run(path: Path) -> Place | None:
    """A run of transformers' Trainer: checkpoint-STEP directories with the trainer's state."""
    steps = [name for name in names_in(path) if _RUN_STEP.fullmatch(name)]
    steps = [name for name in steps if is_file(path / name / "trainer_state.json")]
    inside = [path / name for name in sorted(steps, key=len) if is_file(path / name / "config.json")]
    if not inside:
        return None
    checkpoint = _only(inside, "checkpoints of a training run", path)
    return Place(checkpoint, note=f"The checkpoint is read from {checkpoint}, the only one of the training run there.")


_FINDERS: tuple[Callable[[Path], Place | None], ...] = (
    *(_cached_repository, _cache, _sentence_transformers, _diffusers, _training_run),
)


def _only(inside: Sequence[Path], what: str, path: Path) -> Path:
    if len(inside) == 1:
        return inside[0]
    if not inside:
        raise CheckpointError(f"there are no {what} in it", where=path, fix="Download it again")
    names = ", ".join(str(found) for found in inside[:_LISTED_AT_MOST])
    more = f" and {len(inside) - _LISTED_AT_MOST} more" if len(inside) > _LISTED_AT_MOST else ""
    raise UsageError(f"there are {len(inside)} {what} in it", where=path, fix=f"Name one of them: {names}{more}")


def _is_below(inner: Path, path: Path) -> bool:
    """Whether a path from a file is inside the directory."""
    return ".." not in inner.parts and inner.is_relative_to(path)


def _cut(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}..."


def refuse_other_kinds(path: Path) -> None:
    """Refuse an adapter, or a checkpoint of another library, recognised by its files.

    Raises:
        CheckpointError: the message says what it is, and what to do.
    """
    names = names_in(path)
    if _PEFT in names:
        raise CheckpointError(
            f"this is an adapter of PEFT{_base_of(path)}, not a checkpoint",
            where=path,
            fix="Load it with PEFT, then model.merge_and_unload().save_pretrained(DIR), and the processor beside it",
        )
    if _OPEN_CLIP in names:
        raise CheckpointError(
            f"this is a checkpoint of open_clip ({_OPEN_CLIP} and no config.json), with names of its own",
            where=path,
            fix="Convert it to the format of transformers, or name the converted repository: most have one",
        )


def _refuse(path: Path) -> NoReturn:
    refuse_other_kinds(path)
    names = names_in(path)
    if "config.json" in names:  # a pipe, a directory, a broken link
        raise CheckpointError("config.json is not a regular file", where=path, fix="Copy the checkpoint again")
    what = "the directory has no config.json" if names else "the directory is empty"
    weights = [name for name in ("model.safetensors", "pytorch_model.bin") if name in names]
    fix = (
        f"Copy the config.json that belongs to {weights[0]}"
        if weights
        else "Name a directory that save_pretrained wrote"
    )
    raise CheckpointError(what, where=path, fix=fix)


def _base_of(path: Path) -> str:
    settings = read_json(path / _PEFT, error=CheckpointError)
    base = settings.get("base_model_name_or_path") if isinstance(settings, dict) else None
    return f" ({_cut(base)})" if isinstance(base, str) and base.isprintable() and base else ""
