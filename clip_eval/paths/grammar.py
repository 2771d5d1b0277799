"""Parser of templates: from text to segments.

Grammar: literal text, `{name}`, `{{` and `}}` for braces, and `/` between segments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from clip_eval.paths.cleaning import SEGMENT_BYTES, clean, finish, size_bytes
from clip_eval.paths.errors import TemplateError, nearest
from clip_eval.paths.fields import Kind

__all__ = ["SEPARATORS", "Segment", "Slot", "compile_template"]

SEPARATORS = frozenset("-_ ,&#")

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|/|[^{}/]+")


@dataclass(frozen=True, slots=True)
class Slot:
    """One field in a segment, with the literal text directly before it.

    Args:
        name: the field.
        kind: its kind.
        before: cleaned literal text directly before the field.
        before_empty: the rest of `before` if the field is empty.
    """

    name: str
    kind: Kind
    before: str
    before_empty: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A folder or file name of a template: slots in order, then the literal text after the last one."""

    slots: tuple[Slot, ...]
    tail: str

    def join(self, texts: Mapping[str, str]) -> str:
        """Return the segment with `texts`, by field name, in its slots, before `finish`."""
        joined = ""
        for slot in self.slots:
            text = texts[slot.name]
            joined += slot.before + text if text else slot.before_empty
        return joined + self.tail


@dataclass(frozen=True, slots=True)
class _Token:
    position: int
    literal: str = ""
    name: str = ""


def _field(template: str, position: int, name: str, fields: Mapping[str, Kind]) -> _Token:
    if name in fields:
        return _Token(position, name=name)
    plain = re.split(r"[.!:\[]", name, maxsplit=1)[0]
    meant = nearest(plain, fields)
    if plain != name:
        what = f"attribute, index, conversion or format in {{{name}}}, which a template cannot have,"
    else:
        what = f"unknown field {{{name}}}"
    if meant is None:
        what += f" (the fields are {', '.join(fields)})"
    raise TemplateError(what, template=template, position=position, nearest=meant)


def _tokens(template: str, fields: Mapping[str, Kind]) -> Iterator[_Token]:
    for token in _TOKEN.finditer(template):
        text, name = token[0], token[1]
        if name is not None:
            yield _field(template, token.start(), name, fields)
        elif text in ("{", "}"):
            what = "unclosed brace" if text == "{" else "stray brace"
            raise TemplateError(what, template=template, position=token.start())
        else:
            yield _Token(token.start(), literal=text[0] if text in ("{{", "}}") else text)


def _segment(tokens: list[_Token], template: str, fields: Mapping[str, Kind]) -> Segment:
    slots: list[Slot] = []
    literal = ""
    for token in tokens:
        if token.name:
            before = clean(literal)
            shorter = before[:-1] if before[-1:] in SEPARATORS else before
            slots.append(Slot(token.name, fields[token.name], before, shorter))
            literal = ""
        else:
            literal += token.literal
    tail = clean(literal)
    fixed = "".join(slot.before_empty for slot in slots) + tail
    if size_bytes(finish(fixed)) > SEGMENT_BYTES:
        what = f"literal text of more than {SEGMENT_BYTES} bytes in a segment"
        raise TemplateError(what, template=template, position=tokens[0].position)
    return Segment(tuple(slots), tail)


def compile_template(template: str, fields: Mapping[str, Kind]) -> tuple[Segment, ...]:
    """Return the segments of `template`, without empty ones.

    Raises:
        TemplateError: an unknown field, a stray or unclosed brace, overlong literal text, or a template that names
            no file.
    """
    groups: list[list[_Token]] = [[]]
    for token in _tokens(template, fields):
        if token.literal == "/":
            groups.append([])
        else:
            groups[-1].append(token)
    segments = [_segment(group, template, fields) for group in groups if group]
    kept = tuple(segment for segment in segments if segment.slots or finish(segment.tail))
    if not kept:
        raise TemplateError("a template that names no file", template=template, position=0)
    return kept
