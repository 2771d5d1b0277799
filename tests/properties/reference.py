"""The rules of path templates written down a second time, slow and literal: what rendering is compared with.

It leaves shortening out, and knows no template error: callers use templates that compile.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import islice

from clip_eval.paths import PathError, SearchError

NARROW = '\\/:?"<>*|~'
WIDE = "＼／：？＂＜＞＊｜～"
SEPARATORS = "-_ ,&#"
RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$", "clock$"}
RESERVED |= {port + digit for port in ("com", "lpt") for digit in "0123456789¹²³"}


def attempt(function: Callable[..., object], *args: object, **options: object) -> object:
    """Return what `function` returns, or the documented error that it raises."""
    try:
        return function(*args, **options)
    except PathError as error:
        return error


def first_records(found: Iterator[dict[str, object]], count: int) -> list[dict[str, object]]:
    """Return the first records, fewer where the search for more is given up."""
    records: list[dict[str, object]] = []
    with suppress(SearchError):
        for record in islice(found, count):
            records.append(record)  # noqa: PERF402 - what was found before the error counts
    return records


def is_deleted(character: str) -> bool:
    """Return whether cleaning deletes the character."""
    code = ord(character)
    noncharacter = 0xFDD0 <= code <= 0xFDEF or code % 0x10000 in (0xFFFE, 0xFFFF)
    return noncharacter or unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def is_reserved(name: str) -> bool:
    """Return whether Windows takes `name` for a device, with or without an extension."""
    head = name.split(".")[0].rstrip(" ")
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in head) in RESERVED


def clean(text: str) -> str:
    """Return `text` cleaned: rule 3."""
    kept = "".join(c for c in text if not is_deleted(c))
    return unicodedata.normalize("NFC", "".join(WIDE[NARROW.index(c)] if c in NARROW else c for c in kept))


def written(name: str, value: object) -> str:
    """Return the cleaned text of a field: the table of fields."""
    if not value:
        return ""
    if name == "AI":
        return "AI"
    if name == "series_order":
        return f"#{value}"
    if isinstance(value, list):
        tags = [clean(tag) for tag in value]
        return ",".join(tag for index, tag in enumerate(tags) if tag and tag not in tags[:index])
    return clean(str(value))


def finish(segment: str) -> str:
    """Return a segment after rules 5 and 6."""
    segment = segment.strip()
    if segment.startswith("."):
        segment = "．" + segment[1:]
    if segment.endswith("."):
        segment = segment[:-1] + "．"
    if is_reserved(segment):
        segment = segment.replace(".", "．") if "." in segment else segment + "[WindowsReservedName]"
    return segment


def render(template: str, record: Mapping[str, object]) -> str:
    """Return the path of `record` without extension and without shortening; "" where nothing is left."""
    names = []
    for part in re.findall(r"(?:\{\{|\}\}|\{\w+\}|[^{}/])+", template):
        name = literal = ""
        for token in re.findall(r"\{\{|\}\}|\{\w+\}|[^{}]+", part):
            if re.fullmatch(r"\{\w+\}", token):
                text = written(token[1:-1], record.get(token[1:-1]))
                literal = clean(literal)
                name += literal + text if text or literal[-1:] not in tuple(SEPARATORS) else literal[:-1]
                literal = ""
            else:
                literal += token[0] if token in ("{{", "}}") else token
        names.append(finish(name + clean(literal)))
    return "/".join(name for name in names if name)
