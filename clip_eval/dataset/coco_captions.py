"""Captions in one JSON file, as in COCO, beside a folder of images; also in the form of Karpathy's splits.

```
DATASET/
    annotations/
        captions_val2017.json    {"images": [{"id": 9, "file_name": "9.jpg"}],
    val2017/                      "annotations": [{"image_id": 9, "caption": "a dog"}]}
        9.jpg
```

Sources: cocodataset.org, "Data format", 4. image captioning; Karpathy and Fei-Fei 2015, `dataset_coco.json`, whose
images have `sentences` and a `split`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from clip_eval.dataset.manifest import SETTINGS
from clip_eval.dataset.sample import Entry, Piece, Sample, printable, read_file
from clip_eval.dataset.settings import ZeroShot
from clip_eval.dataset.toml_values import text_table, within
from clip_eval.errors import DatasetError
from clip_eval.files.read_write import read_text
from clip_eval.files.untrusted import complaint, parse_json, shown

__all__ = ["CocoCaptions", "annotations_in", "open_coco"]

_TABLE, _KEYS = "coco", ("annotations", "images", "split")
# The 118,000 training images of COCO have 91 MB of captions; the values take some ten times that in memory.
_LARGEST_BYTES = 256 * 2**20
_FORM = 'Write an object with the lists "images" and "annotations", as COCO has them'


@dataclass(frozen=True, slots=True)
class CocoCaptions:
    """The samples of a file of captions. All captions are in memory while entries are read.

    Attributes:
        root: the dataset's directory.
        annotations: the file of captions.
        images: the folder of the images.
        split: the only split that counts, in Karpathy's form; None for all.
    """

    root: Path
    annotations: Path
    images: Path
    split: str | None

    @property
    def zero_shot(self) -> ZeroShot | None:
        """None: images have no labels."""
        return None

    def entries(self, *, images: bool) -> Iterator[Entry]:
        """Yield the images in the order of the file, then what is wrong with annotations.

        Raises:
            DatasetError: the file cannot be read, has another form, or no image of the split.
        """
        folder = self.images.relative_to(self.root)
        seen: set[str] = set()
        for item in self._items():
            if item.name is None or item.problem is not None:
                yield Entry(printable(item.where), None, None, printable(item.problem or ""))
                continue
            path = (folder / item.name).as_posix()
            if path in seen:
                yield Entry(printable(item.where), None, None, f"the image {shown(path)} occurs a second time")
                continue
            seen.add(path)
            sample = Sample(id=path, path=path, label=None, captions=item.captions, group=None)
            yield read_file(path, sample, f"{self.root}/{path}", images=images)

    def files(self) -> Iterator[Piece]:
        """Yield the settings if there are any, the file of captions, and every image, in order."""
        if (self.root / SETTINGS).exists():
            yield Piece(self.root / SETTINGS)
        yield Piece(self.annotations)
        for entry in self.entries(images=False):
            if entry.sample is not None:
                yield Piece(self.root / entry.sample.path)

    def _items(self) -> Iterator[_Item]:
        raw = _read(self.annotations)
        records = _list(raw, "images", self.annotations)
        if any(isinstance(record, dict) and "sentences" in record for record in records):
            return self._of_karpathy(records)
        if self.split is not None:
            what = f"`{_TABLE}.split` is given, and the file of captions states no splits"
            raise DatasetError(what, where=self.annotations, fix="Leave it out")
        return _of_coco(records, _list(raw, "annotations", self.annotations))

    def _of_karpathy(self, records: list[object]) -> Iterator[_Item]:
        splits = {record.get("split") for record in records if isinstance(record, dict) and _is_text(record, "split")}
        if self.split is not None and self.split not in splits:
            fix = f"Name one of {', '.join(sorted(map(str, splits))) or 'those that it states'}"
            raise DatasetError(f"the file has no split {shown(self.split)}", where=self.annotations, fix=fix)
        for number, record in enumerate(records):
            where = f"entry {number} of images"
            if not isinstance(record, dict):
                yield _Item(where, problem="it is not an object")
            elif self.split in (None, record.get("split")):
                folder = f"{record['filepath']}/" if _is_text(record, "filepath") else ""
                name = f"{folder}{record['filename']}" if _is_text(record, "filename") else None
                yield _item(where, name, "filename", _sentences(record.get("sentences")))


@dataclass(frozen=True, slots=True)
class _Item:
    """One image of a file, or a problem of one of its entries."""

    where: str
    name: str | None = None
    captions: tuple[str, ...] = ()
    problem: str | None = None


def _item(where: str, name: object, key: str, captions: tuple[str, ...] | None) -> _Item:
    if not isinstance(name, str) or not _is_inside(name):
        return _Item(where, problem=f"its {key} is {shown(name)}, which names no file in the folder")
    if captions is None:
        return _Item(where, problem="its sentences are not objects with a text `raw`")
    return _Item(where, name, captions)


def _of_coco(records: list[object], annotations: list[object]) -> Iterator[_Item]:
    captions: dict[object, list[str]] = {}
    known: set[object] = set()
    for record in records:
        if isinstance(record, dict) and _is_number(record.get("id")):
            known.add(record["id"])
    problems: list[_Item] = []
    for number, annotation in enumerate(annotations):
        what = _annotation_problem(annotation, known)
        if what is None and isinstance(annotation, dict):
            captions.setdefault(annotation["image_id"], []).append(_mended(annotation["caption"].strip()))
        else:
            problems.append(_Item(f"entry {number} of annotations", problem=what))
    for number, record in enumerate(records):
        where = f"entry {number} of images"
        if not isinstance(record, dict) or not _is_number(record.get("id")):
            yield _Item(where, problem="it is not an object with an `id`")
        else:
            yield _item(where, record.get("file_name"), "file_name", tuple(captions.get(record["id"], ())))
    yield from problems


def _annotation_problem(annotation: object, known: set[object]) -> str | None:
    if not isinstance(annotation, dict):
        return "it is not an object"
    if not _is_text(annotation, "caption"):
        return "its `caption` is not a text, or empty"
    number = annotation.get("image_id")
    if not _is_number(number) or number not in known:
        return f"its `image_id` is {shown(number)}, and no image has it"
    return None


def _sentences(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    if not all(isinstance(sentence, dict) and _is_text(sentence, "raw") for sentence in value):
        return None
    return tuple(_mended(sentence["raw"].strip()) for sentence in value)


def _is_number(value: object) -> bool:
    """COCO's ids are integers; others write texts."""
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _is_text(record: Mapping[str, object], key: str) -> bool:
    value = record.get(key)
    return isinstance(value, str) and bool(value.strip())


def _mended(text: str) -> str:
    """Programs that cut a text may leave a lone surrogate, which tokenizers refuse."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and name.isprintable() and not path.is_absolute() and ".." not in path.parts


def _read(file: Path) -> object:
    text = read_text(file, error=DatasetError, limit_bytes=_LARGEST_BYTES)
    try:
        return parse_json(text)
    except ValueError as problem:
        raise DatasetError(f"the file {complaint(problem, 'JSON')}", where=file, fix=_FORM) from problem


def _list(raw: object, key: str, file: Path) -> list[object]:
    value = raw.get(key) if isinstance(raw, dict) else None
    if not isinstance(value, list):
        raise DatasetError(f"the file of captions has no list {key!r}", where=file, fix=_FORM)
    return value


def annotations_in(root: Path) -> tuple[Path, ...]:
    """Return the files of captions in `root` and its folder `annotations`: captions.json or captions_*.json."""
    folders = (root, root / "annotations")
    found = [file for folder in folders for name in ("captions.json", "captions_*.json") for file in folder.glob(name)]
    return tuple(sorted(file for file in found if file.is_file()))


def open_coco(root: Path, raw: Mapping[str, object]) -> CocoCaptions:
    """Open a folder with one file of captions, or with a dataset.toml that has `[coco]`; the file is not read yet.

    Raises:
        DatasetError: the settings are invalid, no file or more than one is there, or there is no folder of images.
    """
    file = root / SETTINGS
    table = text_table(raw, _TABLE, file, _KEYS)
    if "zero_shot" in raw:
        raise DatasetError("[zero_shot] needs labels, and a file of captions has none", where=file, fix="Leave it out")
    annotations = _annotations(root, table, file)
    images = (
        root / within(table["images"], f"{_TABLE}.images", file) if "images" in table else _images(root, annotations)
    )
    if not images.is_dir():
        raise DatasetError(
            "the folder of the images does not exist", where=images, fix=f"Name it in {SETTINGS}: [coco]"
        )
    return CocoCaptions(root, annotations, images, table.get("split"))


def _annotations(root: Path, table: Mapping[str, str], file: Path) -> Path:
    if "annotations" in table:
        return root / within(table["annotations"], f"{_TABLE}.annotations", file)
    found = annotations_in(root)
    if len(found) != 1:
        names = ", ".join(file.name for file in found[:3]) or "none"
        what = f"a folder with captions has one file of them, and there are {len(found)} ({names})"
        raise DatasetError(what, where=root, fix=f'Name one in {SETTINGS}: [coco] annotations = "..."')
    return found[0]


def _images(root: Path, annotations: Path) -> Path:
    """The folder `images`, or that of the file's name, such as val2017 for captions_val2017.json, or the dataset."""
    places = (root / "images", root / annotations.stem.removeprefix("captions_"))
    return next((place for place in places if place.is_dir()), root)
