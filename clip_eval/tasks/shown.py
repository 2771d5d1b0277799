"""The samples that reports show, with small pictures: the worst of each task, and those that changed sides."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_eval.dataset import Dataset, Sample
from clip_eval.dataset.sample import read_file
from clip_eval.embedding.embedded import Embedded
from clip_eval.tasks.judgement import Reference
from clip_eval.tasks.task import Scored
from clip_eval.verdict.measurement import format_number
from clip_eval.verdict.plain_values import Json

__all__ = ["Section", "Shown", "sections_of", "thumbnail"]

_SHOWN = 8  # samples of a section
_SIZE_PX, _QUALITY = 144, 70
_TEXT = 160  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One sample of a report.

    Attributes:
        sample: its id.
        picture: a JPEG as a data URI; empty where it cannot be read.
        texts: what belongs to it, and what the checkpoints answered, a line each.
        values: each score's value of it, by name, and the other checkpoint's where there is one.
    """

    sample: str
    picture: str
    texts: tuple[str, ...]
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Samples of one task under one heading; `total` is how many there are, shown or not."""

    task: str
    title: str
    total: int
    shown: tuple[Shown, ...]

    def to_data(self) -> dict[str, Json]:
        """Return the section as a run record holds it: its pictures are elsewhere, under the ids of the samples."""
        shown = [{"sample": one.sample, "texts": one.texts, "values": one.values} for one in self.shown]
        return {"title": self.title, "total": self.total, "shown": shown}


def sections_of(
    embedded: Embedded,
    scored: Sequence[tuple[Scored, Reference | None]],
    *,
    reference: str = "the other checkpoint",
    most: int = _SHOWN,
    size_px: int = _SIZE_PX,
    in_files: bool = False,
) -> tuple[Section, ...]:
    """Return what a report shows of each task.

    Args:
        embedded: the candidate's embeddings.
        scored: each task's scores, and what they are held against.
        reference: what that is called.
        most: samples in a section.
        size_px: the longer side of a picture.
        in_files: show pictures of files only: those in shards take another pass over the dataset.
    """
    by_id = {sample.id: sample for sample in embedded.samples}
    chosen = [(one, other, title, rows[:most], len(rows)) for one, other in scored
              for title, rows in _rows(one, other, by_id, reference)]  # fmt: skip
    wanted = dict.fromkeys(one.samples[row] for one, _, _, rows, _ in chosen for row in rows)
    pictures = dict(_pictures(embedded.dataset, [by_id[name] for name in wanted], size_px, in_files))
    return tuple(
        Section(
            task=one.task,
            title=title,
            total=total,
            shown=tuple(_shown(one, other, row, by_id, pictures) for row in rows),
        )
        for one, other, title, rows, total in chosen
    )


def _rows(
    one: Scored, other: Reference | None, known: Mapping[str, Sample], reference: str
) -> Iterator[tuple[str, list[int]]]:
    """Headings with rows, the first of each sample, the worst first."""
    after, score = one.primary.filled, one.primary
    sign = 1.0 if score.higher_is_better else -1.0
    if other is not None and other.samples == one.samples and score.name in other.values:
        change = sign * (after - np.array(other.values[score.name]))  # (values,)
        for title, side in ((f"worse than {reference}", change), (f"better than {reference}", -change)):
            if rows := _of_samples(np.argsort(side, kind="stable"), side < 0, one, known):
                yield title, rows
    keys = [*((1.0 if beside.higher_is_better else -1.0) * beside.filled for beside in reversed(one.scores))]
    if rows := _of_samples(np.lexsort(keys), sign * after < sign * score.best, one, known):
        yield "the worst", rows


def _of_samples(
    order: NDArray[np.intp], counts: NDArray[np.bool_], one: Scored, known: Mapping[str, Sample]
) -> list[int]:
    """The rows that count, in order, one a sample; values of anything else, such as classes, have no picture."""
    rows: dict[str, int] = {}
    for row in order[counts[order]].tolist():
        if one.samples[row] in known:
            rows.setdefault(one.samples[row], row)
    return list(rows.values())


def _shown(
    one: Scored, other: Reference | None, row: int, known: Mapping[str, Sample], pictures: Mapping[str, str]
) -> Shown:
    sample = known[one.samples[row]]
    there = other is not None and other.samples == one.samples
    answers = [("answered", one.answers)] + (
        [("the other", other.answers)] if isinstance(other, Scored) and there else []
    )
    texts = [f"label: {sample.label}"] if sample.label is not None else []
    texts += [f"{what}: {given[row] or 'nothing'}" for what, given in answers if given]
    texts += [f"caption: {caption}" for caption in sample.captions[:2]]
    values = []
    for score in one.scores:
        value = format_number(float(score.filled[row]), digits=4)
        if other is not None and there and score.name in other.values:
            value += f", {format_number(other.values[score.name][row], digits=4)}"
        values.append((score.name, value))
    return Shown(
        sample=sample.id,
        picture=pictures.get(sample.id, ""),
        texts=tuple(text if len(text) <= _TEXT else f"{text[:_TEXT]} ..." for text in texts),
        values=tuple(values),
    )


def _pictures(dataset: Dataset, samples: Sequence[Sample], size_px: int, in_files: bool) -> Iterator[tuple[str, str]]:
    """Id and data URI of each sample. Samples that are not files, as in shards, are looked for in the whole dataset."""
    inside = {}
    for sample in samples:
        data = read_file(sample.path, sample, str(dataset.root / sample.path), images=True).image
        if data is None:
            inside[sample.id] = sample
        else:
            yield sample.id, _picture(data, size_px)
    for entry in dataset.entries() if inside and not in_files else ():
        if entry.sample is not None and entry.image is not None and inside.pop(entry.sample.id, None) is not None:
            yield entry.sample.id, _picture(entry.image, size_px)
        if not inside:
            return


def _picture(data: bytes, size_px: int) -> str:
    with Image.open(io.BytesIO(data)) as image:
        return thumbnail(image, size_px)


def thumbnail(image: Image.Image, size_px: int) -> str:
    """Return a JPEG of at most `size_px` a side as a data URI, on white where the image is transparent."""
    image.thumbnail((size_px, size_px))
    layer = image.convert("RGBA")
    page = Image.new("RGB", layer.size, "white")
    page.paste(layer, mask=layer.getchannel("A"))
    written = io.BytesIO()
    page.save(written, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode()}"
