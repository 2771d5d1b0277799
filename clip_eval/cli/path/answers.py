"""Parse paths back into records, and report those that have none or several."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from clip_eval.errors import UsageError
from clip_eval.files.untrusted import lines_of, parse_json
from clip_eval.paths import NOTHING, USUAL, AmbiguousPath, PathError, PathTemplate
from clip_eval.paths.errors import nearest

__all__ = ["Answer", "Asked", "answer", "asked_lines", "given_values"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A path to parse.

    Attributes:
        path: None where the line holds none.
        given: known values of its record.
    """

    path: str | None
    given: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The result of parsing a path. One of `record`, `id` and `error` is not None.

    Attributes:
        path: as given.
        record: values by field name.
        id: if only that was wanted.
        error: "no path", "mismatch" or "ambiguous".
        what: the error, a clause.
        candidates: of an ambiguous path, the first records or ids.
        complete: of an ambiguous path, whether these are all.
    """

    path: str | None
    record: Mapping[str, object] | None = None
    id: str | None = None
    error: str | None = None
    what: str | None = None
    candidates: tuple[Mapping[str, object] | str, ...] | None = None
    complete: bool | None = None

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yield head and text of each row of a table."""
        yield "", self.path or "(no path)"
        if self.candidates is not None:
            yield "    ambiguous: ", "each of these has this path"
        elif self.error is not None:
            yield f"    {self.error}: ", str(self.what)
        elif self.record is None:
            yield "    id  ", str(self.id)
        for name, value in (self.record or {}).items():
            yield f"    {name:<18}", _shown(value)
        for number, candidate in enumerate(self.candidates or (), start=1):
            yield f"    {number:>2}  ", candidate if isinstance(candidate, str) else self._unsure(candidate)
        if self.complete is False:
            yield "     ", "and more"

    def _unsure(self, candidate: Mapping[str, object]) -> str:
        """The values of a candidate in which the candidates differ."""
        others = [other for other in self.candidates or () if not isinstance(other, str)]
        differ = [name for name, value in candidate.items() if any(other[name] != value for other in others)]
        return ", ".join(f"{name} {_shown(candidate[name])}" for name in differ)


def _shown(value: object) -> str:
    if value is None or value in ("", False) or value == []:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def asked_lines(stream: BinaryIO) -> Iterator[Asked]:
    """Yield each line's path: the line itself, or a JSON object with `path` and, if known, `given`.

    Rendered paths hold no double quotes, so none looks like an object.
    """
    for line in lines_of(stream):
        text = line.decode(errors="surrogateescape").rstrip("\r\n")
        if text:
            yield _asked(text)


def _asked(text: str) -> Asked:
    if not (text.startswith("{") and '"' in text):
        return Asked(text)
    try:
        parsed = parse_json(text)
    except ValueError:
        return Asked(text)
    path, given = parsed.get("path"), parsed.get("given", {})
    return Asked(path if isinstance(path, str) else None, given if isinstance(given, dict) else {})


def given_values(template: PathTemplate, entries: Iterable[str]) -> dict[str, object]:
    """Return the values that `NAME=TEXT` entries give, each text as it stands in a path.

    Raises:
        UsageError: no such field, or a text that the field cannot have.
    """
    values: dict[str, object] = {}
    for entry in entries:
        name, equals, text = entry.partition("=")
        kind = template.fields.get(name)
        if not equals or kind is None:
            near = nearest(name, template.fields)
            hint = f"; the nearest field is {near}" if near else ""
            raise UsageError(f"--given {entry!r} is not NAME=TEXT with a known field{hint}", fix="Such as user=Mira")
        if text and not kind.may_be(text):
            raise UsageError(f"--given {entry!r}: {name} must be {kind.expects}", fix="Write it as it stands in a path")
        values[name] = kind.read(text)
    return values


def answer(
    template: PathTemplate, asked: Asked, *, only_id: bool = False, usual: bool = False, folder: bool = False
) -> Answer:
    """Parse a path into its record, or say why that fails.

    Args:
        template: the naming rule.
        asked: the path.
        only_id: whether the id is enough.
        usual: whether to assume what holds in most pixiv datasets.
        folder: whether the path has no extension.
    """
    if asked.path is None:
        return Answer(path=None, error="no path", what="the line has no text `path`")
    try:
        if only_id:
            return Answer(path=asked.path, id=template.parse_id(asked.path, folder=folder))
        assume = USUAL if usual else NOTHING
        record = template.parse(asked.path, given=asked.given, assume=assume, folder=folder)
        return Answer(path=asked.path, record=record)
    except AmbiguousPath as problem:
        return Answer(
            path=asked.path,
            error="ambiguous",
            what=problem.what,
            candidates=problem.candidates,
            complete=problem.complete,
        )
    except PathError as problem:
        return Answer(path=asked.path, error="mismatch", what=str(problem))
