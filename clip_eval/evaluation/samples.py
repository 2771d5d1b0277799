"""`samples.parquet`: the values behind every score, one row a value, for programs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

from clip_eval.tasks.task import Scored
from clip_eval.verdict.plain_values import Json

__all__ = ["parquet"]


def parquet(scored: Sequence[Scored], others: Mapping[str, Scored], metadata: Mapping[str, Json]) -> bytes:
    """Return the table as a Parquet file.

    Its columns are `task`, `sample`, `place` (0, 1, ... among the values of a sample in a task), `group`, `predicted`,
    then for each score its value and, with another checkpoint, `other_predicted` and `other_` with each score's name. A
    cell is null where the task has no such score, where an embedding was not finite, and where the other checkpoint was
    scored on other samples.

    Args:
        scored: of the candidate.
        others: of the other checkpoint, by name of the task.
        metadata: kept in the file's schema, as text.
    """
    import pyarrow as pa
    from pyarrow import parquet as pq

    names = list(dict.fromkeys(score.name for one in scored for score in one.scores))
    tables = [pa.table(_columns(one, others.get(one.task), names, bool(others)), _schema(names, bool(others)))
              for one in scored]  # fmt: skip
    whole = pa.concat_tables(tables) if tables else _schema(names, bool(others)).empty_table()
    whole = whole.replace_schema_metadata({f"clip_eval.{key}": str(value) for key, value in metadata.items()})
    written = io.BytesIO()
    pq.write_table(whole, written, compression="zstd")
    return written.getvalue()


def _schema(names: Sequence[str], compared: bool) -> Any:
    import pyarrow as pa

    columns = [("task", pa.string()), ("sample", pa.string()), ("place", pa.int32()), ("group", pa.string())]
    for prefix in ("", "other_") if compared else ("",):
        columns += [(f"{prefix}predicted", pa.string()), *((f"{prefix}{name}", pa.float64()) for name in names)]
    return pa.schema(columns)


def _columns(one: Scored, other: Scored | None, names: Sequence[str], compared: bool) -> dict[str, list[Any]]:
    places: list[int] = []
    for row, name in enumerate(one.samples):
        places.append(places[-1] + 1 if row and one.samples[row - 1] == name else 0)
    columns: dict[str, list[Any]] = {
        "task": [one.task] * len(places),
        "sample": [_text(name) for name in one.samples],
        "place": places,
        "group": [one.groups.get(name) for name in one.samples],
        **_side("", one, one, names),
    }
    if compared:
        columns |= _side("other_", other, one, names)
    return columns


def _side(prefix: str, side: Scored | None, one: Scored, names: Sequence[str]) -> dict[str, list[Any]]:
    """Answers and values of one checkpoint, on the samples of the candidate."""
    paired = side is not None and side.samples == one.samples
    answers = side.answers if side is not None and paired else ()
    values = {score.name: score.values for score in side.scores} if side is not None and paired else {}
    nothing = [None] * len(one.samples)
    found: dict[str, list[Any]] = {f"{prefix}predicted": [_text(text) or None for text in answers] or nothing}
    for name in names:
        cells = values[name].tolist() if name in values else nothing
        found[f"{prefix}{name}"] = [None if cell is None or isnan(cell) else cell for cell in cells]
    return found


def _text(value: str) -> str:
    """UTF-8, as Parquet wants it: a lone surrogate is escaped."""
    return value.encode(errors="backslashreplace").decode()
