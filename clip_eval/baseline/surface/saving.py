"""Output of save_pretrained: file names, keys and values of the JSON files, names of the weights.

Models are saved from a tiny model, whose sizes are the same for every checkpoint; processors from the checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clip_eval.baseline.surface.configs import flat
from clip_eval.baseline.surface.formatting import attempt, kept_apart, spelled
from clip_eval.errors import NotAskable
from clip_eval.families.roles import CLASSIFIER, MODEL_CLASSES, WHOLE
from clip_eval.subject import transformers_module
from clip_eval.subject.observations import Clip
from clip_eval.subject.tiny_clip import write_stand_in
from clip_eval.verdict.plain_values import Json

__all__ = ["observe_saved"]

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
# the vocabulary is compared on disk and by its ids of texts; here only its form is recorded
_LONG = ("tokenizer.json", "vocab.json", "merges.txt")
_CLASSIFIER = f"{CLASSIFIER}.save_pretrained()[*]"
_ROUTES = ("AutoProcessor", "AutoImageProcessor", "AutoTokenizer")


def observe_saved(clip: Clip) -> dict[str, Json]:
    """Return what each model class and each kind of processor writes."""
    found: dict[str, Json] = {}
    with TemporaryDirectory(prefix="clip-eval-") as directory:
        stand_in = Path(directory) / "stand-in"
        stand_in.mkdir()
        write_stand_in(stand_in, clip.subject.checkpoint, "float32")
        for name in filter(clip.holds.has, (*MODEL_CLASSES, CLASSIFIER)):
            model = getattr(transformers_module(), name).from_pretrained(str(stand_in), local_files_only=True)
            found |= _files(f"{name}.save_pretrained()", model, Path(directory) / name, source=stand_in)
        if clip.holds.whole:
            found[_CLASSIFIER] = _beyond(found[_CLASSIFIER], found[f"{WHOLE}.save_pretrained()[*]"])
    for route, present in zip(_ROUTES, _presence(clip), strict=True):
        if present:
            found |= _saved_processor(clip, route)
    return found


def _beyond(entry: Json, whole: Json) -> Json:
    """What a class with the whole config writes otherwise than the whole model."""
    return kept_apart(entry, whole) if isinstance(entry, dict) and isinstance(whole, dict) else entry


def _presence(clip: Clip) -> tuple[bool, ...]:
    text, image = clip.subject.checkpoint.has_tokenizer, clip.subject.checkpoint.has_image_processor
    return (text and image, image, text)


def _saved_processor(clip: Clip, route: str) -> dict[str, Json]:
    call = f"{route}.save_pretrained()"
    try:
        processor = clip.processors.load(route, source=clip.subject.checkpoint.processor_path)
    except NotAskable:
        raise
    except Exception as error:  # whatever loading raises is what a user sees
        return {call: f"raises {type(error).__name__}"}
    with _directory() as directory:
        entries = _files(call, processor, directory, source=clip.subject.checkpoint.processor_path)
    if route == "AutoProcessor":
        return entries
    # a part writes the same content as the whole
    return {call: [name for value in entries.values() if isinstance(value, dict) for name in value if ": " not in name]}


@contextmanager
def _directory() -> Iterator[Path]:
    with TemporaryDirectory(prefix="clip-eval-") as directory:
        yield Path(directory)


def _files(call: str, saved: Any, directory: Path, *, source: Path) -> dict[str, Json]:
    """The names of the files, and under FILE: KEY their content, without what was loaded unchanged from `source`."""
    loaded = dict(_contents(source))
    outcome = attempt(lambda: str(saved.save_pretrained(str(directory)) and ""))
    if outcome.startswith("raises"):
        return {call: outcome}
    found: dict[str, Json] = {}
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        name = path.relative_to(directory).as_posix()
        found[name] = "written"
        if path.name == _WEIGHTS:
            found |= {f"{name}: {key}": value for key, value in _header(path).items()}
        elif path.suffix == ".json" and path.name not in _LONG:
            found |= {f"{name}: {key}": _beside(loaded, key, value) for key, value in _json(path).items()}
    return {f"{call}[*]": found}


def _contents(directory: Path) -> Iterator[tuple[str, Json]]:
    """Settings in the JSON files of a checkpoint, by name."""
    for path in sorted(directory.glob("*.json")):
        if path.name not in (*_LONG, _INDEX):
            yield from ((_place(key), value) for key, value in _json(path).items())


def _place(key: str) -> str:
    return key.removeprefix("image_processor.")


def _beside(loaded: Mapping[str, Json], key: str, value: Json) -> Json:
    names = (_place(key), f"text_config.{key}", f"vision_config.{key}")
    return "as it was" if any(loaded.get(name) == value for name in names) else value


def _json(file: Path) -> dict[str, Json]:
    values = json.loads(file.read_text(encoding="utf-8"))
    values = values if isinstance(values, dict) else {"": values}
    return {key: spelled(value) for key, value in flat(values).items() if key != "name_or_path"}


def _header(file: Path) -> dict[str, Json]:
    """Names of the weights and the metadata, from the header: 8 bytes with its length, then JSON."""
    with file.open("rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    metadata = spelled(header.pop("__metadata__", None))
    return {"weights": sorted(header), "metadata": metadata}
