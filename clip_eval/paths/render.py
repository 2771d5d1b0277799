"""From a record to the names of its path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from clip_eval.paths.cleaning import SEGMENT_BYTES, clean, finish, is_clean, size_bytes
from clip_eval.paths.errors import ExtensionError, RecordError, nearest
from clip_eval.paths.fields import Clean, Kind
from clip_eval.paths.grammar import Segment
from clip_eval.paths.shorten import shorten

__all__ = ["EXTENSIONS", "Name", "dotted", "fitted", "join_names", "place", "write_texts"]

EXTENSIONS = frozenset(
    (
        *("apng", "avif", "bmp", "gif", "heic", "heif", "jpeg", "jpg", "jxl", "png", "tif", "tiff", "webp"),
        *("avi", "m4v", "mkv", "mov", "mp4", "webm"),
        *("csv", "epub", "json", "jsonl", "md", "txt"),
    )
)


class Name(NamedTuple):
    """One name of a path. A tuple for speed: five are made for each path.

    Args:
        segment: index of its segment in the template.
        text: the finished name, without extension.
        texts: the texts of all fields, as they are in this name.
        shortened: whether `texts` were shortened for it.
    """

    segment: int
    text: str
    texts: Mapping[str, str]
    shortened: bool = False


def dotted(extension: str | None) -> str:
    """Return the extension of a path: "" for None, else with its dot.

    Raises:
        ExtensionError: it is not in `EXTENSIONS`.
    """
    if extension is None:
        return ""
    if extension not in EXTENSIONS:
        close = nearest(extension.lstrip("."), sorted(EXTENSIONS))
        hint = f"the nearest is {close!r}" if close else f"allowed are {', '.join(sorted(EXTENSIONS))}"
        raise ExtensionError(f"extension {extension!r} is not allowed; {hint}")
    return "." + extension


def _same(text: str) -> str:
    return text


def _write(name: str, kind: Kind, value: object, clean: Clean) -> str:
    try:
        text = "" if value is None else kind.write(value, clean)
    except (TypeError, ValueError):
        raise RecordError(f"must be {kind.expects}, and is {value!r:.80}", name) from None
    if kind.required and not text.strip():
        raise RecordError(f"is missing or blank, and must be {kind.expects}", name)
    return text


def write_texts(kinds: Mapping[str, Kind], record: Mapping[str, object]) -> dict[str, str]:
    """Return the cleaned text of each field of `kinds`, "" for a field without a value.

    Raises:
        RecordError: a value of another kind, or a required field without a value.
    """
    texts = {name: _write(name, kind, record.get(name), _same) for name, kind in kinds.items()}
    # nearly all texts are clean: one test of all together is faster than one of each
    if not is_clean("".join(texts.values())):
        for name in [name for name, text in texts.items() if not is_clean(text)]:
            texts[name] = _write(name, kinds[name], record[name], clean)
    return texts


def fitted(name: Name, segment: Segment, limit_bytes: int) -> Name:
    """Return `name`, shortened if it is longer than `limit_bytes`.

    Raises:
        LengthError: it cannot be shortened enough.
    """
    # UTF-8 has up to 4 bytes a character.
    if 4 * len(name.text) <= limit_bytes or size_bytes(name.text) <= limit_bytes:
        return name
    texts = shorten(segment, name.texts, limit_bytes)
    return Name(name.segment, finish(segment.join(texts)), texts, shortened=True)


def place(segments: Sequence[Segment], texts: Mapping[str, str], dot: str) -> list[Name]:
    """Return the names that are not empty; the last one leaves room for `dot`, the extension with its dot.

    Raises:
        RecordError: no name is left.
        LengthError: a name cannot be shortened enough.
    """
    names = [
        Name(index, text, texts) for index, segment in enumerate(segments) if (text := finish(segment.join(texts)))
    ]
    if not names:
        raise RecordError("leaves every segment of the path empty")
    last = names.pop()
    names = [fitted(name, segments[name.segment], SEGMENT_BYTES) for name in names]
    return [*names, fitted(last, segments[last.segment], SEGMENT_BYTES - len(dot))]


def join_names(names: Sequence[Name], dot: str) -> str:
    """Return the path of `names`, with the dotted extension."""
    return "/".join([name.text for name in names]) + dot
