"""Lists in text files, one entry a line, and the lists of dataset.toml that are in such files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from clip_eval.dataset.toml_values import within
from clip_eval.errors import DatasetError
from clip_eval.files.untrusted import read_bytes

__all__ = ["list_files", "read_entries", "with_lists"]

_LISTS: Mapping[str, tuple[str, ...]] = {"zero_shot": ("classes", "prompts"), "multi_label": ("tags", "prompts")}
_PLACE_IN_FILES, _PLACE = "{c}", "{}"


def read_entries(file: Path) -> tuple[str, ...] | None:
    """Return the lines of a text file, stripped, without blank lines at its end.

    Returns:
        None if the file does not exist.

    Raises:
        DatasetError: the file cannot be read, is empty, or has a blank line between others.
    """
    try:
        text = read_bytes(file).decode("utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8"
        raise DatasetError(f"the file cannot be read ({reason})", where=file) from problem
    entries = tuple(line.strip() for line in text.rstrip().split("\n"))
    if "" in entries:
        what = f"line {entries.index('') + 1} is empty"
        raise DatasetError(what, where=file, fix="Write one entry on every line: its number is its place")
    return entries


def list_files(raw: Mapping[str, object]) -> tuple[str, ...]:
    """Return the files that lists of a dataset.toml are in, relative to the dataset."""
    return tuple(name for _, _, name in _named(raw))


def with_lists(raw: Mapping[str, object], file: Path) -> Mapping[str, object]:
    """Return the content of a dataset.toml with the lists that are in files; prompts may have `{c}` for `{}`.

    Args:
        raw: the content.
        file: the dataset.toml.

    Raises:
        DatasetError: such a file does not exist, is outside of the dataset, or cannot be read.
    """
    read: dict[str, dict[str, object]] = {}
    for table, key, name in _named(raw):
        listed = file.parent / within(name, f"{table}.{key}", file)
        entries = read_entries(listed)
        if entries is None:
            raise DatasetError(f"`{table}.{key}` names a file that does not exist", where=listed, fix="Write that file")
        texts = [entry.replace(_PLACE_IN_FILES, _PLACE) if key == "prompts" else entry for entry in entries]
        read.setdefault(table, {})[key] = texts
    return {**raw, **{table: {**_mapping(raw[table]), **lists} for table, lists in read.items()}}


def _named(raw: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    """Yield table, key and file of each list that is in a file."""
    for table, keys in _LISTS.items():
        for key in keys:
            value = _mapping(raw.get(table)).get(key)
            if isinstance(value, str):
                yield table, key, value


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
