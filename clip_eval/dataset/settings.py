"""`dataset.toml`: how a dataset's files are named, and its tasks.

`template` is the naming rule of the image files, relative to the dataset's directory. The optional table `[zero_shot]`
holds `classes` (their names) and `prompts` (texts with one `{}` in place of the class), `[multi_label]` likewise `tags`
and `prompts`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from clip_eval.errors import DatasetError
from clip_eval.files.untrusted import REVIEWED_BYTES, complaint, parse_toml, read_bytes, shown
from clip_eval.paths import PathTemplate
from clip_eval.paths.errors import TemplateError

__all__ = ["DatasetSettings", "MultiLabel", "ZeroShot", "read_settings"]

_PLACE = "{}"


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """A zero-shot classification task.

    Attributes:
        classes: the class names, each once; a sample's label is one of them.
        prompts: texts, each with one `{}` for the class.
    """

    classes: tuple[str, ...]
    prompts: tuple[str, ...]

    def texts(self) -> list[str]:
        """Return classes x prompts texts, all prompts of a class in a row."""
        return _prompted(self.classes, self.prompts)


@dataclass(frozen=True, slots=True)
class MultiLabel:
    """A multi-label task: which tags an image shows.

    Attributes:
        tags: their names, each once.
        prompts: texts, each with one `{}` for the tag.
    """

    tags: tuple[str, ...]
    prompts: tuple[str, ...]

    def texts(self) -> list[str]:
        """Return tags x prompts texts, all prompts of a tag in a row."""
        return _prompted(self.tags, self.prompts)


@dataclass(frozen=True, slots=True)
class DatasetSettings:
    """The content of dataset.toml; a task is None without its table."""

    template: PathTemplate
    zero_shot: ZeroShot | None
    multi_label: MultiLabel | None = None


def read_settings(file: Path) -> DatasetSettings:
    """Read a dataset.toml.

    Raises:
        DatasetError: the file cannot be read, is not TOML, or has an invalid value; the message names the key.
    """
    try:
        raw = parse_toml(read_bytes(file, limit_bytes=REVIEWED_BYTES).decode())
    except OSError as problem:
        fix = f"Name a dataset: a directory with a {file.name} that can be read"
        raise DatasetError(f"the settings cannot be read ({problem.strerror})", where=file, fix=fix) from problem
    except ValueError as problem:  # not TOML, or not UTF-8
        what = f"the file of settings {complaint(problem, 'TOML')}"
        raise DatasetError(what, where=file, fix="Correct that place") from problem
    return DatasetSettings(_template(raw, file), _zero_shot(raw, file), _multi_label(raw, file))


def _prompted(names: tuple[str, ...], prompts: tuple[str, ...]) -> list[str]:
    return [prompt.replace(_PLACE, name) for name in names for prompt in prompts]


def _template(raw: Mapping[str, object], file: Path) -> PathTemplate:
    text = raw.get("template")
    if not isinstance(text, str):
        _refuse(
            "`template` is missing or not a text", file, 'Add the naming rule of the files, such as template = "{id}"'
        )
    try:
        return PathTemplate(text)
    except TemplateError as problem:
        raise DatasetError(f"`template` is wrong: {problem}", where=file, fix="Correct the template") from problem


def _zero_shot(raw: Mapping[str, object], file: Path) -> ZeroShot | None:
    if "zero_shot" not in raw:
        return None
    task = ZeroShot(*_names_and_prompts(raw, "zero_shot", "classes", file))
    if len(task.classes) < 2:
        _refuse("`zero_shot.classes` has one class only", file, "Name at least two: a single one is always right")
    return task


def _multi_label(raw: Mapping[str, object], file: Path) -> MultiLabel | None:
    return MultiLabel(*_names_and_prompts(raw, "multi_label", "tags", file)) if "multi_label" in raw else None


def _names_and_prompts(
    raw: Mapping[str, object], name: str, key: str, file: Path
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The lists `key` and `prompts` of the table `name`."""
    table = raw[name]
    if not isinstance(table, Mapping):
        _refuse(f"`{name}` is not a table", file, f"Write it as [{name}] with `prompts` and `{key}`")
    names, prompts = _texts(table, name, key, file), _texts(table, name, "prompts", file)
    for prompt in prompts:
        if prompt.count(_PLACE) != 1:
            what = f"the prompt {shown(prompt)} does not have one {_PLACE}"
            _refuse(what, file, f"Put one {_PLACE} where the {'class' if key == 'classes' else 'tag'} goes")
    return names, prompts


def _texts(table: Mapping[str, object], name: str, key: str, file: Path) -> tuple[str, ...]:
    value = table.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        _refuse(f"`{name}.{key}` is not a list of texts", file, f'Write it as {key} = ["...", "..."]')
    for item, count in Counter(value).items():
        if count > 1:
            _refuse(f"`{name}.{key}` holds {shown(item)} twice", file, "Keep one of them")
    return tuple(value)


def _refuse(what: str, file: Path, fix: str) -> NoReturn:
    raise DatasetError(what, where=file, fix=fix)
