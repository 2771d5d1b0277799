"""A dataset of Hugging Face `datasets`, written by `save_to_disk`; its Arrow files are read without that library.

```
DATASET/
    dataset_info.json            features, by column: {"label": {"_type": "ClassLabel", "names": [...]}, ...}
    state.json                   the names of the Arrow files
    data-00000-of-00001.arrow    an Arrow stream
```

or several of them in folders, with `dataset_dict.json`, which lists these splits.

Source: `datasets`, `arrow_dataset.py`, `Dataset.save_to_disk`, and `dataset_dict.py`; `features/image.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip_eval.dataset.arrow_stream import Damaged, record_batches
from clip_eval.dataset.manifest import SETTINGS, check_label
from clip_eval.dataset.prompts import TEMPLATES, zero_shot_task
from clip_eval.dataset.sample import LARGEST_IMAGE_BYTES, Entry, Piece, Sample, printable, too_large
from clip_eval.dataset.settings import ZeroShot, zero_shot_of
from clip_eval.dataset.text_lines import list_files
from clip_eval.dataset.toml_values import text_table
from clip_eval.errors import DatasetError
from clip_eval.files.read_write import read_json
from clip_eval.files.untrusted import opened, shown
from clip_eval.nearest import listed

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SavedDataset", "is_saved", "open_saved"]

_INFO, _STATE, _DICT = "dataset_info.json", "state.json", "dataset_dict.json"
_AGAIN = "Write it again with save_to_disk"
_USUAL: Mapping[str, tuple[str, ...]] = {
    "image": ("image",),
    "label": ("label",),
    "caption": ("caption", "captions", "text"),
    "group": (),
}
"""Columns by role that need not be named."""


@dataclass(frozen=True, slots=True)
class SavedDataset:
    """The samples of Arrow files.

    Attributes:
        root: the dataset's directory; paths are relative to it.
        folder: of the files: `root`, or a split in it.
        names: of the Arrow files, in order.
        columns: by role; image is always there.
        classes: names of the labels by number; None for labels that are texts, or for none.
        zero_shot: the task of classifying the images, or None.
        lists: text files that dataset.toml names.
    """

    root: Path
    folder: Path
    names: tuple[str, ...]
    columns: Mapping[str, str]
    classes: tuple[str, ...] | None
    zero_shot: ZeroShot | None
    lists: tuple[str, ...]

    def entries(self, *, images: bool) -> Iterator[Entry]:
        """Yield the rows of every file in order, with one record batch, often 1,000 rows or fewer, in memory."""
        for name in self.names:
            where = (self.folder / name).relative_to(self.root).as_posix()
            row = 0
            try:
                with opened(self.folder / name) as stream:
                    for batch in record_batches(stream):
                        columns = self._chosen(batch)
                        for place in range(batch.num_rows):
                            yield self._entry(f"{where}/{row}", columns, place, images)
                            row += 1
            except OSError as problem:
                yield Entry(where, None, None, problem.strerror or str(problem))
            except Damaged as problem:
                yield Entry(where, None, None, printable(f"after row {row} of it {problem}" if row else str(problem)))

    def files(self) -> Iterator[Piece]:
        """Yield the text files that exist, the description of the columns and every Arrow file, in order."""
        names = (SETTINGS, TEMPLATES, *self.lists)
        yield from (Piece(self.root / name, name) for name in names if (self.root / name).exists())
        yield from (Piece(self.folder / name) for name in (_INFO, *self.names))

    def _chosen(self, batch: pa.RecordBatch) -> dict[str, Any]:
        """The columns by role, of the types that are read."""
        chosen = {}
        for role, name in self.columns.items():
            if batch.schema.get_all_field_indices(name) == [] or len(batch.schema.get_all_field_indices(name)) > 1:
                raise Damaged(f"it has no column {name!r}, or two")
            column = batch.column(batch.schema.get_field_index(name))
            if not _FITS[role](column.type):
                raise Damaged(f"its column {name!r} is of type {column.type}, which is no {role}")
            chosen[role] = column
        return chosen

    def _entry(self, where: str, columns: Mapping[str, Any], place: int, images: bool) -> Entry:
        try:
            label = self._label(columns, place)
            captions = _captions(columns["caption"][place].as_py()) if "caption" in columns else ()
            group = columns["group"][place].as_py() if "group" in columns else None
        except ValueError as problem:
            return Entry(where, None, None, printable(str(problem)))
        group = None if group is None else str(group)
        sample = Sample(id=where, path=where, label=label, captions=captions, group=group)
        data = columns["image"][place]
        if data.is_valid and hasattr(data.type, "get_field_index"):
            data = data["bytes"]
        if not data.is_valid:
            return Entry(where, sample, None, "it has no image, or only the path of one")
        large = too_large(len(data.as_buffer()), LARGEST_IMAGE_BYTES)
        return Entry(where, sample, data.as_py() if images and large is None else None, large)

    def _label(self, columns: Mapping[str, Any], place: int) -> str | None:
        if "label" not in columns:
            return None
        value = columns["label"][place].as_py()
        if isinstance(value, int) and self.classes is not None and value != -1:  # -1 is `datasets`' sign for no label
            if not 0 <= value < len(self.classes):
                raise ValueError(f"its label is {value}, and there are {len(self.classes)} classes from 0")
            value = self.classes[value]
        label = None if value is None or value == -1 else str(value)
        if self.zero_shot is not None:
            check_label(label, self.zero_shot)
        return label


def _captions(value: object) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else [value]
    return tuple(text.strip() for text in texts if isinstance(text, str) and text.strip())


def _is_image(kind: pa.DataType) -> bool:
    import pyarrow.types as of

    if of.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _is_image(kind.field(place).type) and not of.is_struct(kind.field(place).type)
    return bool(of.is_binary(kind) or of.is_large_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow.types as of

    return bool(of.is_string(kind) or of.is_large_string(kind))


def _is_label(kind: pa.DataType) -> bool:
    import pyarrow.types as of

    return _is_text(kind) or bool(of.is_integer(kind))


def _is_caption(kind: pa.DataType) -> bool:
    import pyarrow.types as of

    return _is_text(kind) or (bool(of.is_list(kind) or of.is_large_list(kind)) and _is_text(kind.value_type))


_FITS = {"image": _is_image, "label": _is_label, "caption": _is_caption, "group": _is_label}


def is_saved(root: Path) -> bool:
    """Return whether `save_to_disk` has written to `root`."""
    return (root / _DICT).is_file() or all((root / name).is_file() for name in (_INFO, _STATE))


def open_saved(root: Path, raw: Mapping[str, object]) -> SavedDataset:
    """Open what `save_to_disk` has written; no Arrow file is read yet.

    Args:
        root: the dataset's directory.
        raw: the content of its dataset.toml, if there is one: `split`, `[columns]`, `[zero_shot]`.

    Raises:
        DatasetError: a file of it is invalid, a split or a column must be named, or does not exist.
    """
    folder = _split(root, raw)
    features = _object(folder / _INFO).get("features")
    if not isinstance(features, dict):
        raise DatasetError("the file states no features", where=folder / _INFO, fix=_AGAIN)
    columns = _columns(root, raw, features)
    classes = _class_names(features.get(columns.get("label", "")))
    file = root / SETTINGS
    task = zero_shot_of(raw, file)
    if task is None and classes is not None and len(set(classes)) > 1:
        task = zero_shot_task(classes, root)
    elif task is not None and "label" not in columns:
        raise DatasetError("[zero_shot] needs a column of labels", where=file, fix='Name it: [columns] label = "..."')
    return SavedDataset(root, folder, _names(folder), columns, classes, task, list_files(raw))


def _object(file: Path) -> dict[str, object]:
    value = read_json(file, error=DatasetError)
    if not isinstance(value, dict):
        raise DatasetError("the file does not hold an object", where=file, fix=_AGAIN)
    return value


def _split(root: Path, raw: Mapping[str, object]) -> Path:
    """The folder of the split that dataset.toml names, of the only one, or of `test`."""
    wanted = raw.get("split")
    if wanted is not None and not isinstance(wanted, str):
        raise DatasetError("`split` is not a text", where=root / SETTINGS, fix='Write it as split = "test"')
    if not (root / _DICT).is_file():
        if wanted is not None:
            raise DatasetError("`split` is given, and the dataset has none", where=root / SETTINGS, fix="Leave it out")
        return root
    splits = _object(root / _DICT).get("splits")
    if not isinstance(splits, list) or not splits or not all(_is_plain(name) for name in splits):
        raise DatasetError("the file states no splits", where=root / _DICT, fix=_AGAIN)
    name = wanted or (splits[0] if len(splits) == 1 else "test")
    if name not in splits:
        what = f"there is no split {shown(name)}" if wanted else "the dataset has several splits"
        raise DatasetError(what, where=root, fix=f'{listed(name, splits)}. Write it as split = "..." in {SETTINGS}')
    return root / name


def _is_plain(name: object) -> bool:
    return isinstance(name, str) and name.isprintable() and name not in ("", ".", "..") and not set(name) & set("/\\")


def _names(folder: Path) -> tuple[str, ...]:
    state = _object(folder / _STATE)
    if state.get("_indices_data_files"):
        fix = "Call flatten_indices() before save_to_disk"
        raise DatasetError("the rows are chosen by a file of indices", where=folder / _STATE, fix=fix)
    files = state.get("_data_files")
    names = (
        [entry.get("filename") if isinstance(entry, dict) else None for entry in files or ()]
        if isinstance(files, list)
        else []
    )
    if not names or not all(map(_is_plain, names)):
        raise DatasetError("the file names no Arrow files", where=folder / _STATE, fix=_AGAIN)
    return tuple(map(str, names))


def _columns(root: Path, raw: Mapping[str, object], features: Mapping[str, object]) -> dict[str, str]:
    named = text_table(raw, "columns", root / SETTINGS, _USUAL)
    for role, name in named.items():
        if name not in features:
            what = f"`columns.{role}` is {shown(name)}, and there is no such column"
            raise DatasetError(what, where=root / SETTINGS, fix=listed(name, features))
    for role, usual in _USUAL.items():
        found = next((name for name in usual if name in features), None)
        if role not in named and found is not None:
            named[role] = found
    if "image" not in named:
        fix = f'Name it in {SETTINGS}: [columns] image = "...". The columns are {", ".join(map(shown, features))}'
        raise DatasetError("the dataset has no column `image`", where=root, fix=fix)
    return named


def _class_names(feature: object) -> tuple[str, ...] | None:
    names = feature.get("names") if isinstance(feature, dict) else None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        return None
    return tuple(names)
