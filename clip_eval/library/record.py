"""One line of a manifest to one record.

A line is a JSON object. `id` and `extension` are required; `label`, `caption` and `group` are read where they are
there; the path template takes its fields from the same object. A label comes from here and from nowhere else: file
names are never looked at.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clip_eval.library.settings import LibrarySettings, ZeroShot
from clip_eval.paths.errors import PathError

__all__ = ["Record", "read_record"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One image and what is known of it.

    Attributes:
        id: unique in its library.
        path: of the image, relative to the library, with "/" between segments.
        line: in the manifest, from 1.
        label: its class; None where the manifest gives none.
        caption: a description; None where the manifest gives none.
        group: records of one group, such as pages of a work, are not independent; None where the manifest gives none.
    """

    id: str
    path: str
    line: int
    label: str | None
    caption: str | None
    group: str | None


def read_record(line: bytes, number: int, settings: LibrarySettings) -> Record:
    """Return the record of one line.

    Args:
        line: UTF-8.
        number: of the line, from 1.
        settings: of the library. With a zero-shot task every record needs a label out of its classes.

    Raises:
        ValueError: the line is no record; the message says why, in a clause.
    """
    fields = _fields(line)
    texts = {key: _text(fields, key) for key in ("id", "extension", "label", "caption", "group")}
    for key in ("id", "extension"):
        if not texts[key]:
            raise ValueError(f"`{key}` is missing")
    if settings.zero_shot is not None:
        _check_label(texts["label"], settings.zero_shot)
    try:
        path = settings.template.render(fields, extension=texts.pop("extension"))
    except PathError as problem:
        raise ValueError(f"the template makes no path of it ({problem})") from problem
    return Record(id=texts.pop("id") or "", path=path, line=number, **texts)


def _fields(line: bytes) -> Mapping[str, Any]:
    try:
        fields = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"it is not JSON ({problem})") from problem
    if not isinstance(fields, dict):
        raise ValueError("it is not a JSON object")
    return fields


def _text(fields: Mapping[str, Any], key: str) -> str | None:
    value = fields.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"`{key}` is no text")
    return value


def _check_label(label: str | None, task: ZeroShot) -> None:
    """A record without an answer would drop out of the score."""
    if label is None:
        raise ValueError("`label` is missing, and [zero_shot] asks for one")
    if label not in task.classes:
        near = difflib.get_close_matches(label, task.classes, n=1)
        hint = f"; the nearest is {near[0]!r}" if near else ""
        raise ValueError(f"the label {label!r} is not one of zero_shot.classes{hint}")
