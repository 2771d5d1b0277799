"""Values of dataset.toml that several kinds of datasets have: tables of texts, paths, kinds of fields."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from clip_eval.errors import DatasetError
from clip_eval.files.untrusted import shown
from clip_eval.nearest import listed
from clip_eval.paths import DIGITS, ID, ORDER, PIXIV, TAGS, TEXT, WORD, Kind

__all__ = ["fields_of", "text_table", "within"]

_KINDS: Mapping[str, Kind] = {"text": TEXT, "word": WORD, "digits": DIGITS, "tags": TAGS, "id": ID, "order": ORDER}

# what every file system takes; asking one for more raises instead of answering
_NAME_BYTES, _PATH_BYTES = 255, 1_000


def text_table(raw: Mapping[str, object], name: str, file: Path, keys: Collection[str] | None = None) -> dict[str, str]:
    """Return a table whose values are texts; an empty one if there is none.

    Args:
        raw: the content of dataset.toml.
        name: of the table.
        file: the dataset.toml.
        keys: that the table may have; None for any.

    Raises:
        DatasetError: it is not a table, a key is unknown, or a value is not a text.
    """
    table = raw.get(name, {})
    if not isinstance(table, Mapping):
        raise DatasetError(f"`{name}` is not a table", where=file, fix=f"Write it as [{name}] with a key a line")
    for key, value in table.items():
        if keys is not None and key not in keys:
            raise DatasetError(f"`{name}` has an unknown key {shown(key)}", where=file, fix=listed(key, keys))
        if not isinstance(value, str) or not value:
            raise DatasetError(f"`{name}.{key}` is not a text", where=file, fix=f'Write it as {key} = "..."')
    return dict(table)


def within(name: str, key: str, file: Path) -> str:
    """Return a path of dataset.toml, which must lead to a place in the dataset.

    Raises:
        DatasetError: it is absolute, leads out of the dataset, or is not a valid name.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts or not name.isprintable():
        fix = "Write a path relative to the dataset, without .."
        raise DatasetError(f"`{key}` is {shown(name)}, which is not a place in the dataset", where=file, fix=fix)
    if len(name.encode()) > _PATH_BYTES or any(len(part.encode()) > _NAME_BYTES for part in Path(name).parts):
        raise DatasetError(f"`{key}` is {shown(name)}, which is too long for a path", where=file)
    return name


def fields_of(raw: Mapping[str, object], file: Path) -> Mapping[str, Kind]:
    """Return the fields that a template may have: those of pixiv datasets, of `[kinds]`, and texts of `[fields]`.

    Raises:
        DatasetError: a table is invalid, or names a kind that does not exist.
    """
    kinds = text_table(raw, "kinds", file)
    for name, kind in kinds.items():
        if kind not in _KINDS:
            raise DatasetError(f"`kinds.{name}` is {shown(kind)}", where=file, fix=listed(kind, _KINDS))
    named = dict.fromkeys(text_table(raw, "fields", file).values(), TEXT)
    return {**named, **PIXIV, **{name: _KINDS[kind] for name, kind in kinds.items()}} if named or kinds else PIXIV
