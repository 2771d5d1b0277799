"""JSON Lines: one object a line, in UTF-8, read as a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from clip_eval.files.untrusted import LINE_BYTES, complaint, lines_of, parse_json

__all__ = ["Line", "read_lines"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """One line that is not blank. Either `fields` or `problem` is None.

    Attributes:
        number: of the line, from 1.
        fields: its object.
        problem: why it is not an object, a clause.
    """

    number: int
    fields: Mapping[str, object] | None
    problem: str | None


def read_lines(stream: BinaryIO) -> Iterator[Line]:
    """Yield every line that is not blank, with one in memory at a time. A line that is not a JSON object has a
    problem.
    """
    for number, line in enumerate(lines_of(stream), start=1):
        if number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)  # noqa: PLW2901 - some editors begin a file with one
        if not line.isspace() and line:
            yield _read(line, number)


def _read(line: bytes, number: int) -> Line:
    if len(line) > LINE_BYTES:
        return Line(number, None, f"it has more than {LINE_BYTES:,} bytes")
    try:
        fields = parse_json(line.decode("utf-8"))
    except json.JSONDecodeError as problem:
        return Line(number, None, f"it is not JSON ({problem.msg}, column {problem.colno})")
    except ValueError as problem:  # no UTF-8, a number of thousands of digits, or brackets too deep
        return Line(number, None, f"it {complaint(problem, 'JSON')}")
    if not isinstance(fields, dict):
        return Line(number, None, "it is not a JSON object")
    return Line(number, fields, None)
