"""Open a pack, or refuse it. Everything is checked before anything is used, as packs decide on releases."""

from __future__ import annotations

import hashlib
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, cast

from numpy.typing import NDArray
from packaging.version import InvalidVersion, Version
from safetensors import SafetensorError
from safetensors.numpy import load

from clip_eval.baseline.pack import (
    SCHEMA_VERSION,
    Approved,
    Environment,
    Pack,
    PackedTask,
    PackedTensor,
    Recorded,
    Surface,
)
from clip_eval.baseline.recorded_outputs import output_names
from clip_eval.baseline.soundness import array_fault, config_fault, input_fault, output_fault
from clip_eval.baseline.write_pack import MANIFEST, PACKED_TASKS, SPEEDS, TASK_KEYS, TASKS
from clip_eval.checkpoint.dtypes import ROUNDED_DTYPES
from clip_eval.checkpoint.fingerprints import Fingerprints
from clip_eval.checkpoint.inventory import held_tensors, holding_of
from clip_eval.errors import PackError
from clip_eval.families.config import ClipConfig, TextConfig, VisionConfig
from clip_eval.families.holding import Holding
from clip_eval.families.registry import DEFAULT
from clip_eval.files.untrusted import complaint, largest_bytes, parse_json, read_bytes
from clip_eval.nearest import beside
from clip_eval.probes.batches import Batch
from clip_eval.throughput.ratio import Speed
from clip_eval.verdict.schema import fault

__all__ = ["open_pack"]

_RECORD_AGAIN = "Record the pack again"
_RESTORE = "Restore it from its source, or record the pack again"
_NAMED_AT_MOST = 5
_FEW_ENTRIES = 200
_INPUT_NAMES = tuple(field.name for field in fields(Batch))


def open_pack(path: str | Path) -> Pack:
    """Read a pack and check it: form, completeness, and sha256 of every file.

    Raises:
        PackError: the pack is missing, newer than this package, incomplete or damaged.
    """
    directory = Path(path)
    sealing = _bytes(_manifest_file(directory))
    manifest = _manifest(directory, sealing)
    contents = {name: _content(directory / name, sealed) for name, sealed in manifest["files"].items()}
    checkpoint = manifest["checkpoint"]
    tensors = {name: _tensor(entry) for name, entry in manifest["tensors"].items()}
    holding = holding_of(tensors, DEFAULT)
    config, names = _config(checkpoint["config"], tensors, holding, directory), output_names(holding)
    arrays = _arrays(directory / manifest["record"]["file"], contents, config, names, _labels(tensors))
    pack = Pack(
        source=checkpoint["source"],
        revision=checkpoint["revision"],
        config=config,
        fingerprints=Fingerprints(**checkpoint["fingerprints"]),
        settings=checkpoint.get("settings", {}),
        tensors=tensors,
        environments={
            _environment(entry, directory): _approved(entry, directory, contents) for entry in manifest["environments"]
        },
        recorded_in=_environment(manifest["record"], directory),
        inputs=Batch(**{name: arrays[f"inputs.{name}"] for name in _INPUT_NAMES}),
        outputs={name: Recorded(arrays[f"outputs.{name}"], arrays[f"errors.{name}"]) for name in names},
        tasks=_tasks(directory, contents),
        speeds=_speeds(directory, contents),
        digest=hashlib.sha256(sealing).hexdigest(),
    )
    _check_whole(pack, directory, stated=len(manifest["environments"]))
    return pack


def _manifest(directory: Path, content: bytes) -> dict[str, Any]:
    file = directory / MANIFEST
    data = _json(content, file)
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise PackError(
            f"the pack has schema_version {version} and this clip-eval reads up to {SCHEMA_VERSION}",
            where=directory,
            fix="Install the clip-eval release that wrote it, or a newer one",
        )
    breach = fault(data, package="clip_eval.baseline", schema="pack.schema.json")
    if breach is not None:
        raise PackError(f"the pack is incomplete or damaged at {breach}", where=file, fix=_RESTORE)
    return cast("dict[str, Any]", data)


def _manifest_file(directory: Path) -> Path:
    if not os.path.isdir(directory):  # noqa: PTH112 - a Path raises for a name that is too long
        if os.path.exists(directory):  # noqa: PTH110 - as above
            raise PackError(
                "a pack is a directory, and this is a file",
                where=directory,
                fix=f"Name its directory, {directory.parent}",
            )
        fix = beside(directory, "Name a directory that clip-eval record wrote")
        raise PackError("the pack does not exist", where=directory, fix=fix)
    if not os.path.lexists(directory / MANIFEST):
        raise PackError(
            f"the directory is not a pack, it has no {MANIFEST}", where=directory, fix=_instead_of(directory)
        )
    return directory / MANIFEST


def _instead_of(directory: Path) -> str:
    """Advice about a directory that is not a pack: the packs in it, if there are any."""
    if (directory / "config.json").is_file():
        return "This is a checkpoint: clip-eval record makes a pack of it"
    inner = _packs_below(directory)
    if not inner:
        return "Name a directory that clip-eval record wrote"
    if len(inner) == 1:
        return f"It holds one: name {inner[0]}"
    more = f" and {len(inner) - _NAMED_AT_MOST} more" if len(inner) > _NAMED_AT_MOST else ""
    return f"It holds {len(inner)}: name one of {', '.join(map(str, inner[:_NAMED_AT_MOST]))}{more}"


def _packs_below(directory: Path) -> list[Path]:
    """The packs in a directory and in its directories, by name; only the first of very many entries count."""
    try:
        inner = sorted(entry for entry in islice(directory.iterdir(), _FEW_ENTRIES) if entry.is_dir())
        deeper = [below for entry in inner for below in sorted(islice(entry.iterdir(), _FEW_ENTRIES))]
        return [entry for entry in (*inner, *deeper) if (entry / MANIFEST).is_file()]
    except OSError:  # not readable
        return []


def _content(file: Path, sealed: Mapping[str, Any]) -> bytes:
    """The file's bytes, which must match the manifest's size and sha256."""
    data = _bytes(file)
    if len(data) != sealed["size_bytes"]:
        _damaged(f"it has {len(data)} bytes instead of {sealed['size_bytes']}", file)
    if hashlib.sha256(data).hexdigest() != sealed["sha256"]:
        _damaged(f"its sha256 is not the one that {MANIFEST} states", file)
    return data


def _bytes(file: Path) -> bytes:
    try:
        return read_bytes(file)
    except FileNotFoundError as problem:
        raise PackError(f"the pack is incomplete, it has no {file.name}", where=file.parent, fix=_RESTORE) from problem
    except OSError as problem:
        raise PackError(f"the file cannot be read ({problem.strerror})", where=file, fix=_RESTORE) from problem


def _json(content: bytes, file: Path) -> Any:
    try:
        return parse_json(content.decode(), own=True)
    except ValueError as problem:
        raise PackError(f"the file {complaint(problem, 'JSON')}", where=file, fix=_RESTORE) from problem


def _damaged(what: str, file: Path) -> NoReturn:
    raise PackError(f"a file of the pack is damaged, {what}", where=file, fix=_RESTORE)


def _sealed(name: str, contents: Mapping[str, bytes], directory: Path) -> bytes:
    if name not in contents:
        raise PackError(f"the pack is incomplete, {MANIFEST} states no sha256 of {name}", where=directory, fix=_RESTORE)
    return contents[name]


def _arrays(
    file: Path, contents: Mapping[str, bytes], config: ClipConfig, names: tuple[str, ...], labels: int
) -> dict[str, NDArray[Any]]:
    """The numeric record, with every compared array, in the shapes of a model of this config; `names` of outputs."""
    try:
        arrays = load(_sealed(file.name, contents, file.parent))
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError, OverflowError) as problem:
        _damaged(f"it is not a safetensors file ({problem})", file)
    wanted = [f"inputs.{name}" for name in _INPUT_NAMES]
    wanted += [f"{kind}.{name}" for name in names for kind in ("outputs", "errors")]
    if missing := [name for name in wanted if name not in arrays]:
        raise PackError(f"the numeric record lacks {', '.join(missing[:3])}", where=file, fix=_RECORD_AGAIN)
    faults = (array_fault(name, arrays[name]) for name in wanted)
    wrong = next(filter(None, faults), None) or input_fault(arrays, config)
    if wrong := wrong or output_fault(arrays, names, config, labels):
        raise PackError(f"the numeric record cannot be compared, {wrong}", where=file, fix=_RECORD_AGAIN)
    return cast("dict[str, NDArray[Any]]", arrays)


def _config(
    stated: Mapping[str, Any], tensors: Mapping[str, PackedTensor], holding: Holding, directory: Path
) -> ClipConfig:
    """The config, which must belong to the tensors. Its sizes are checked before arrays of such sizes are made."""
    try:
        config = ClipConfig(
            **{**stated, "text": TextConfig(**stated["text"]), "vision": VisionConfig(**stated["vision"])}
        )
        if absurd := config_fault(config, len(tensors)):
            raise TypeError(absurd)
    except TypeError as problem:
        raise PackError(
            f"the pack's config has another form ({problem})", where=directory / MANIFEST, fix=_RESTORE
        ) from problem
    held = held_tensors(config, holding, family=DEFAULT, labels=_labels(tensors))
    expected = {name: tuple(axis.size for axis in axes) for name, axes in held.items()}
    if {name: tensor.shape for name, tensor in tensors.items()} != expected:
        raise PackError("the pack's tensors are not those of its config", where=directory / MANIFEST, fix=_RESTORE)
    return config


def _labels(tensors: Mapping[str, PackedTensor]) -> int:
    """How many labels an image classifier has; 0 of another model."""
    return math.prod(tensors["classifier.bias"].shape) if "classifier.bias" in tensors else 0


def _tensor(entry: Mapping[str, Any]) -> PackedTensor:
    return PackedTensor(tuple(entry["shape"]), entry["dtype"], {dtype: entry[dtype] for dtype in ROUNDED_DTYPES})


def _environment(entry: Mapping[str, Any], directory: Path) -> Environment:
    try:
        Version(entry["transformers"])
    except InvalidVersion as problem:
        raise PackError(
            f"the pack names a transformers release {entry['transformers']!r}", where=directory / MANIFEST, fix=_RESTORE
        ) from problem
    return Environment(entry["transformers"], entry["attention"])


def _approved(entry: Mapping[str, Any], directory: Path, contents: Mapping[str, bytes]) -> Approved:
    surface = _json(_sealed(entry["surface"], contents, directory), directory / entry["surface"])
    if not isinstance(surface, dict) or not surface:
        _damaged("it is not a JSON object of ids and values", directory / entry["surface"])
    return Approved(cast("Surface", surface), entry["provenance"])


def _tasks(directory: Path, contents: Mapping[str, bytes]) -> dict[str, PackedTask]:
    name = next((name for name in (TASKS, PACKED_TASKS) if name in contents), None)
    if name is None:
        return {}
    text = contents[name] if name == TASKS else _inflated(contents[name], directory / name)
    data = _json(text, directory / name)
    if not isinstance(data, dict) or not all(
        isinstance(entry, dict) and entry.keys() == TASK_KEYS for entry in data.values()
    ):
        what = "the pack holds its task scores in another form, that of another clip-eval"
        raise PackError(what, where=directory / name, fix=_RECORD_AGAIN)
    try:
        tasks = {name: _task(**entry) for name, entry in data.items()}
    except (AttributeError, TypeError, ValueError):
        tasks = {}
    if not tasks:
        _damaged("it does not hold the values of any task", directory / name)
    return tasks


def _inflated(data: bytes, file: Path) -> bytes:
    """The text in a gzip file, as long as that of an uncompressed one may be."""
    stream = zlib.decompressobj(wbits=31)
    try:
        text = stream.decompress(data, largest_bytes(TASKS))
    except zlib.error as problem:
        _damaged(f"it is not compressed as it says ({problem})", file)
    if not stream.eof or stream.unused_data:
        _damaged("its content is cut off, too long, or followed by something", file)
    return text


def _task(*, dataset: object, scores: list[str], samples: Mapping[str, list[float]]) -> PackedTask:
    """One task; samples hold the values of all scores, one after the other, as often as a sample has values.

    Raises:
        AttributeError, TypeError, ValueError: it has another form.
    """
    width = len(set(scores))
    sound = isinstance(dataset, str) and width == len(scores) > 0 and all(isinstance(name, str) for name in scores)
    if not sound or not samples:
        raise TypeError
    for row in samples.values():
        if not row or len(row) % width or not all(type(value) in (int, float) for value in row):
            raise TypeError
    return PackedTask(
        dataset=str(dataset),
        samples=tuple(sample for sample, row in samples.items() for _ in range(len(row) // width)),
        values={
            name: tuple(float(value) for row in samples.values() for value in row[place::width])
            for place, name in enumerate(scores)
        },
    )


def _speeds(directory: Path, contents: Mapping[str, bytes]) -> tuple[Speed, ...]:
    if SPEEDS not in contents:
        return ()
    data = _json(contents[SPEEDS], directory / SPEEDS)
    try:
        if not (isinstance(data, list) and data):
            raise TypeError("it is not a list with an entry")
        return tuple(Speed.from_data(entry) for entry in data)
    except (AttributeError, KeyError, TypeError, ValueError) as problem:
        _damaged(f"it does not hold speeds ({problem})", directory / SPEEDS)


def _check_whole(pack: Pack, directory: Path, *, stated: int) -> None:
    """Check what a schema cannot: that the parts of a pack belong together."""
    if len(pack.environments) < stated:
        raise PackError("the pack approves an environment twice", where=directory / MANIFEST, fix=_RESTORE)
    if pack.recorded_in not in pack.environments:
        raise PackError(
            f"the pack was recorded under {pack.recorded_in}, which it does not approve",
            where=directory / MANIFEST,
            fix=_RESTORE,
        )
    if problem := pack.misfit(pack.config):
        raise PackError(f"the pack contradicts itself: it holds {problem}", where=directory, fix=_RESTORE)
