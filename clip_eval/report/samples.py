"""The samples and similarities that a record shows. What does not have their form is left out: it may be anybody's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from clip_eval.verdict.measurement import format_number
from clip_eval.verdict.plain_values import Json, decode_float
from clip_eval.verdict.run_record import RunRecord, TaskResult

__all__ = ["Cell", "Sample", "Samples", "Similarity", "samples_of", "similarity_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One sample: its id, a data URI or empty, a line for each text, names and values of scores."""

    sample: str
    picture: str
    texts: tuple[str, ...]
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Samples of a task under a heading; `total` is how many there are, shown or not."""

    title: str
    total: int
    shown: tuple[Sample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One logit; `share`, from 0 to 1, says where it lies between the least and the largest one."""

    observed: str
    expected: str
    difference: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Similarity:
    """Logits of images, each a name and a picture, and texts: a row of cells for each text."""

    images: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def samples_of(record: RunRecord, task: TaskResult) -> Sequence[Samples]:
    """The samples that a record shows of a task; empty where it has none."""
    return [
        Samples(
            title=str(section.get("title")),
            total=total if isinstance(total := section.get("total"), int) else 0,
            shown=tuple(_sample(record, one) for one in _mappings(section.get("shown"))),
        )
        for section in _mappings(task.details.get("samples"))
    ]


def _sample(record: RunRecord, entry: Mapping[str, Json]) -> Sample:
    name = str(entry.get("sample"))
    pairs = (pair for pair in _items(entry.get("values")) if isinstance(pair, (list, tuple)) and len(pair) == 2)
    return Sample(
        sample=name,
        picture=record.images.get(f"sample/{name}", ""),
        texts=tuple(map(str, _items(entry.get("texts")))),
        values=tuple((str(what), str(value)) for what, value in pairs),
    )


def similarity_of(record: RunRecord) -> Similarity | None:
    """The logits of the probe; None where the record holds none, or matrices of other sizes."""
    found = record.similarity
    if found is None:
        return None
    images, texts = (tuple(map(str, _items(found.get(name)))) for name in ("images", "texts"))
    observed, expected = (_matrix(found.get(name)) for name in ("observed", "expected"))  # (images, texts)
    if any([len(row) for row in matrix] != [len(texts)] * len(images) for matrix in (observed, expected)):
        return None
    finite = [number for row in expected for number in row if math.isfinite(number)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    columns = range(len(images))
    return Similarity(
        images=tuple((name, record.images.get(name, "")) for name in images),
        rows=tuple(
            (text, tuple(_cell(observed[image][place], expected[image][place], low, high) for image in columns))
            for place, text in enumerate(texts)
        ),
    )


def _cell(observed: float, expected: float, low: float, high: float) -> Cell:
    share = (observed - low) / ((high - low) or 1.0)
    return Cell(
        observed=format_number(observed, digits=5),
        expected=format_number(expected, digits=5),
        difference=format_number(observed - expected, digits=2),
        share=min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0,
    )


def _matrix(value: Json) -> list[list[float]]:
    """Rows of floats; what is no number is NaN."""
    rows = (_items(row) for row in _items(value))
    return [[math.nan if (number := decode_float(one)) is None else float(number) for one in row] for row in rows]


def _items(value: Json) -> Sequence[Json]:
    return value if isinstance(value, (list, tuple)) else ()


def _mappings(value: Json) -> Iterator[Mapping[str, Json]]:
    return (entry for entry in _items(value) if isinstance(entry, Mapping))
