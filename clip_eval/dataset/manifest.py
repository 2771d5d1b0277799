"""A manifest of samples and a path template that names their image files: `manifest.jsonl` beside `dataset.toml`.

A line of the manifest is a JSON object. `id` and `extension` are required; `label`, `caption`, `captions`,
`tags_transl_only`, `group`, `tags`, `negatives` and `split` are optional; the path template takes its fields from the
same object. Labels come from the manifest only, never from file names.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from clip_eval.dataset.json_lines import Line, read_lines
from clip_eval.dataset.sample import Entry, Piece, Sample, read_file
from clip_eval.dataset.settings import DatasetSettings, MultiLabel, ZeroShot
from clip_eval.errors import DatasetError
from clip_eval.files.untrusted import opened
from clip_eval.paths.errors import PathError

__all__ = ["MANIFEST", "SETTINGS", "Manifest", "check_label", "read_sample"]

MANIFEST, SETTINGS = "manifest.jsonl", "dataset.toml"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The samples of a manifest.

    Attributes:
        root: the dataset's directory.
        settings: from its dataset.toml.
    """

    root: Path
    settings: DatasetSettings

    @property
    def zero_shot(self) -> ZeroShot | None:
        """The zero-shot task; None if dataset.toml has none."""
        return self.settings.zero_shot

    @property
    def multi_label(self) -> MultiLabel | None:
        """The multi-label task; None if dataset.toml has none."""
        return self.settings.multi_label

    def entries(self, *, images: bool) -> Iterator[Entry]:
        """Yield the lines in order, with one in memory at a time.

        Raises:
            DatasetError: the manifest cannot be read.
        """
        file = self.root / MANIFEST
        try:
            with opened(file) as lines:
                for line in read_lines(lines):
                    yield self._entry(line, images)
        except OSError as problem:
            raise DatasetError(f"the manifest cannot be read ({problem.strerror})", where=file) from problem

    def files(self) -> Iterator[Piece]:
        """Yield the settings, the manifest and every image file, in order."""
        yield Piece(self.root / SETTINGS)
        yield Piece(self.root / MANIFEST)
        yield from (Piece(self.root / name, name) for name in self.settings.lists)
        for entry in self.entries(images=False):
            if entry.sample is not None:
                yield Piece(self.root / entry.sample.path)

    def _entry(self, line: Line, images: bool) -> Entry:
        where = f"line {line.number} of {MANIFEST}"
        try:
            sample = read_sample(line, self.settings)
        except ValueError as problem:
            return Entry(where, None, None, str(problem))
        return read_file(sample.path, sample, f"{self.root}/{sample.path}", images=images)


def read_sample(line: Line, settings: DatasetSettings) -> Sample:
    """Return the sample of one line.

    Args:
        line: of the manifest.
        settings: of the dataset. With a zero-shot task every sample needs a label from its classes, with a multi-label
            task a list of tags, maybe an empty one.

    Raises:
        ValueError: the line is not a sample; the message is a clause.
    """
    if line.fields is None:
        raise ValueError(line.problem)
    fields = line.fields
    texts = {key: _text(fields, key) for key in ("id", "extension", "label", "caption", "group")}
    for key in ("id", "extension"):
        if not texts[key]:
            raise ValueError(f"`{key}` is missing")
    if settings.zero_shot is not None:
        check_label(texts["label"], settings.zero_shot)
    try:
        path = settings.template.render(fields, extension=texts["extension"])
    except PathError as problem:
        raise ValueError(f"the template makes no path of it ({problem})") from problem
    captions = _captions(texts["caption"], _texts(fields, "captions") or [], fields.get("tags_transl_only"))
    split = fields.get("split")
    return Sample(
        id=texts["id"] or "",
        path=path,
        label=texts["label"],
        captions=captions,
        group=texts["group"],
        tags=() if settings.multi_label is None else _tags(fields, settings.multi_label),
        negatives=_negatives(fields, captions),
        split=split if isinstance(split, str) else None,
    )


def _captions(caption: str | None, captions: list[str], tags: object) -> tuple[str, ...]:
    """All captions, each once, or without one the tags in one line."""
    texts = [tag for tag in tags if isinstance(tag, str) and tag] if isinstance(tags, list) else []
    own = [caption or "", *captions] if caption or captions else [", ".join(texts)]
    return tuple(dict.fromkeys(_mended(text) for text in own if text))


def _mended(text: str) -> str:
    """Programs that cut a text may leave a lone surrogate, which tokenizers refuse."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _tags(fields: Mapping[str, object], task: MultiLabel) -> tuple[str, ...]:
    """The tags that the task asks for, in its order. A sample without a list would pass for one that shows none."""
    found = _texts(fields, "tags")
    if found is None:
        raise ValueError("`tags` is missing, and [multi_label] needs it; write [] where none applies")
    return tuple(tag for tag in task.tags if tag in found)


def _negatives(fields: Mapping[str, object], captions: tuple[str, ...]) -> tuple[str, ...]:
    found = tuple(map(_mended, _texts(fields, "negatives") or ()))
    if found and not captions:
        raise ValueError("it has `negatives` and no `caption` that is right")
    if set(found) & set(captions):
        raise ValueError("`negatives` holds a caption of its image")
    return found


def _texts(fields: Mapping[str, object], key: str) -> list[str] | None:
    value = fields.get(key)
    if value is not None and (not isinstance(value, list) or not all(isinstance(text, str) and text for text in value)):
        raise ValueError(f"`{key}` is not a list of texts")
    return value


def _text(fields: Mapping[str, object], key: str) -> str | None:
    value = fields.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"`{key}` is not a text")
    if value and key != "caption" and not value.isascii() and _is_torn(value):
        raise ValueError(f"`{key}` holds a lone surrogate, {value!r}")
    return value


def _is_torn(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def check_label(label: str | None, task: ZeroShot) -> None:
    """Raise ValueError, with a clause, unless the task has the label: a sample without would drop out of the score."""
    if label is None:
        raise ValueError("`label` is missing, and [zero_shot] needs one")
    if label not in task.classes:
        near = difflib.get_close_matches(label, task.classes, n=1)
        hint = f"; the nearest is {near[0]!r}" if near else ""
        raise ValueError(f"the label {label!r} is not one of zero_shot.classes{hint}")
