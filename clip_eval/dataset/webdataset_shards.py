"""WebDataset shards in the layout of CLIP_benchmark.

```
DATASET/
    classnames.txt                           for classification
    zeroshot_classification_templates.txt    for classification
    dataset_type.txt                         "classification" (the default), "retrieval" or "multilabel"
    test/
        nshards.txt                          2
        0.tar                                s0000000.webp s0000000.cls s0000001.webp s0000001.cls ...
        1.tar
```

Members of one sample follow each other and have the same name up to the first dot. `.cls` holds the number of the
class, `.txt` one caption a line. Hidden members are left out. Without nshards.txt every tar file is a shard. The folder
of the shards may be given as the dataset too.

Source: CLIP_benchmark, `clip_benchmark/webdataset_builder.py` and `clip_benchmark/datasets/builder.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from clip_eval.dataset.prompts import CLASS_NAMES, TEMPLATES, zero_shot_task
from clip_eval.dataset.sample import (
    LARGEST_IMAGE_BYTES,
    LARGEST_TEXT_BYTES,
    Entry,
    Piece,
    Sample,
    printable,
    too_large,
)
from clip_eval.dataset.settings import ZeroShot
from clip_eval.dataset.tar_members import Member, Unreadable, members
from clip_eval.dataset.text_lines import read_entries
from clip_eval.errors import DatasetError

__all__ = ["Shards", "open_shards", "split_of"]

_COUNT, _TYPE, _SPLIT = "nshards.txt", "dataset_type.txt", "test"
_IMAGES = ("webp", "png", "jpg", "jpeg")
_NAMED_AT_MOST = 3
_TYPES = ("classification", "retrieval", "multilabel")
_NAME = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)
_HIDDEN = re.compile(r"(?:.*/)?\.[^/]*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Shards:
    """The samples of tar files.

    Attributes:
        root: the dataset's directory; paths are relative to it.
        folder: of the text files.
        shards: the tar files, in order.
        kind: from dataset_type.txt.
        classes: names by number; None without names.
        zero_shot: the task of classifying the images, or None.
    """

    root: Path
    folder: Path
    shards: tuple[Path, ...]
    kind: str
    classes: tuple[str, ...] | None
    zero_shot: ZeroShot | None

    def entries(self, *, images: bool) -> Iterator[Entry]:
        """Yield the entries of every shard in order, with one in memory at a time."""
        for shard in self.shards:
            path = shard.relative_to(self.root).as_posix()
            try:
                with members(shard) as found:
                    shown = (member for member in found if not _HIDDEN.fullmatch(member.name))
                    for key, of_one in groupby(shown, key=_key):
                        yield from self._entries(path, key, list(of_one), images)
            except OSError as problem:
                yield Entry(path, None, None, problem.strerror or str(problem))

    def files(self) -> Iterator[Piece]:
        """Yield the text files that exist and every shard, in order."""
        names = (CLASS_NAMES, TEMPLATES, _TYPE)
        yield from (Piece(self.folder / name, name) for name in names if (self.folder / name).exists())
        yield from map(Piece, self.shards)

    def _entries(self, shard: str, key: str | None, members: list[Member], images: bool) -> Iterator[Entry]:
        if key is None:
            for member in members:
                where = f"{shard}: {printable(member.name)}" if member.name else shard
                yield Entry(where, None, None, member.problem or "it belongs to no sample, as its name has no dot")
            return
        where = f"{shard}: {printable(key)}"
        try:
            yield self._entry(shard, key, _by_ending(members), images)
        except Unreadable as problem:
            yield Entry(where, None, None, str(problem))

    def _entry(self, shard: str, key: str, members: Mapping[str, Member], images: bool) -> Entry:
        image = next((members[ending] for ending in _IMAGES if ending in members), None)
        if image is None:
            raise Unreadable(f"it has no image ({', '.join(_IMAGES)})")
        sample = Sample(
            id=printable(f"{shard.rpartition('/')[2].removesuffix('.tar')}/{key}"),
            path=f"{shard}/{image.name}",
            label=self._label(members),
            captions=_captions(members, required=self.kind == "retrieval"),
            group=None,
        )
        where = f"{shard}: {printable(image.name)}"
        problem = image.problem or too_large(image.size_bytes, LARGEST_IMAGE_BYTES)
        if problem is None and images:
            try:
                return Entry(where, sample, image.read(LARGEST_IMAGE_BYTES), None)
            except Unreadable as error:
                problem = str(error)
        return Entry(where, sample, None, problem)

    def _label(self, members: Mapping[str, Member]) -> str | None:
        if self.kind != "classification":
            return None
        text = _text(members, "cls")
        if text is None:
            raise Unreadable("it has no .cls")
        if not (text.isascii() and text.isdigit()):
            raise Unreadable(f"its .cls holds {text[:40]!r}, which is not a class number")
        if self.classes is None:
            return text
        if len(text) > 9 or int(text) >= len(self.classes):
            raise Unreadable(f"its .cls holds {text[:40]}, and {CLASS_NAMES} has {len(self.classes)} classes from 0")
        return self.classes[int(text)]


def _key(member: Member) -> str | None:
    """The name that members of one sample share; None for a member without a sample."""
    match = _NAME.fullmatch(member.name)
    return None if match is None else match[1]


def _by_ending(found: list[Member]) -> dict[str, Member]:
    by_ending: dict[str, Member] = {}
    for member in found:
        match = _NAME.fullmatch(member.name)
        ending = match[2].lower() if match else ""
        if ending in by_ending:
            raise Unreadable(f"it has two members .{ending}")
        by_ending[ending] = member
    return by_ending


def _text(members: Mapping[str, Member], ending: str) -> str | None:
    member = members.get(ending)
    if member is None:
        return None
    try:
        return member.read(LARGEST_TEXT_BYTES).decode("utf-8").strip()
    except UnicodeDecodeError:
        raise Unreadable(f"its .{ending} is not UTF-8") from None
    except Unreadable as problem:
        raise Unreadable(f"its .{ending}: {problem}") from problem


def _captions(members: Mapping[str, Member], *, required: bool) -> tuple[str, ...]:
    captions = tuple(line.strip() for line in (_text(members, "txt") or "").split("\n") if line.strip())
    if required and not captions:
        raise Unreadable("it has no caption, in .txt")
    return captions


def split_of(root: Path) -> Path | None:
    """Return the folder of shards in `root`: its `test`, or itself; None if neither has shards."""
    return next((folder for folder in (root / _SPLIT, root) if _has_shards(folder)), None)


def _has_shards(folder: Path) -> bool:
    return (folder / _COUNT).is_file() or (folder.is_dir() and any(folder.glob("*.tar")))


def open_shards(root: Path, split: Path) -> Shards:
    """Open a folder of shards; no shard is read yet. Text files are in its parent, or in the folder itself.

    Args:
        root: the dataset's directory: `split` or its parent.
        split: from `split_of`.

    Raises:
        DatasetError: shards are missing, or a text file is invalid.
    """
    names = (CLASS_NAMES, TEMPLATES, _TYPE)
    folder = next((place for place in (split, split.parent) if any((place / name).is_file() for name in names)), split)
    kind = _dataset_type(folder / _TYPE)
    classes = read_entries(folder / CLASS_NAMES) if kind == "classification" else None
    task = None if classes is None else zero_shot_task(classes, folder)
    return Shards(root, folder, _shards(split), kind, classes, task)


def _dataset_type(file: Path) -> str:
    entries = read_entries(file)
    kind = _TYPES[0] if entries is None else entries[0].lower()
    if kind not in _TYPES:
        raise DatasetError(f"{kind!r} is not a type of dataset", where=file, fix=f"Write one of {', '.join(_TYPES)}")
    return kind


def _shards(split: Path) -> tuple[Path, ...]:
    """Return the shards in the order of their numbers, after comparing them with nshards.txt if it exists."""
    shards = sorted(split.glob("*.tar"), key=lambda path: (not path.stem.isdecimal(), path.stem.zfill(20)))
    entries = read_entries(split / _COUNT)
    if entries is None:
        return tuple(shards)
    file, count = split / _COUNT, entries[0]
    if len(entries) > 1 or not (count.isascii() and count.isdigit()) or int(count[:9]) < 1:
        raise DatasetError(f"{count!r} is not a number of shards", where=file, fix="Write how many tar files there are")
    # the number can be huge: look only for as many files as are needed to name the first missing ones
    expected = [split / f"{number}.tar" for number in range(min(int(count[:9]), len(shards) + _NAMED_AT_MOST))]
    differ = sorted({path.name for path in shards} ^ {path.name for path in expected})
    if differ:
        named = ", ".join(differ[:_NAMED_AT_MOST])
        what = f"{_COUNT} says {count}, from 0.tar on, and there are {len(shards)}; {named} differ"
        raise DatasetError(what, where=split, fix=f"Add the missing shards, or correct {_COUNT}")
    return tuple(expected)
