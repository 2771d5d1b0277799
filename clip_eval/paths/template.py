"""`PathTemplate`: a naming rule that turns records into paths and paths into records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from clip_eval.paths import lint as linting
from clip_eval.paths.errors import AmbiguousPath, MismatchError, RecordError, SearchError, TemplateError, nearest
from clip_eval.paths.fields import PIXIV, Kind
from clip_eval.paths.grammar import Segment, compile_template
from clip_eval.paths.identity import identifies
from clip_eval.paths.parsing.assumptions import NOTHING, Assumptions
from clip_eval.paths.parsing.path_reader import PathReader
from clip_eval.paths.parsing.pieces import standing_texts
from clip_eval.paths.parsing.segment_reader import Known
from clip_eval.paths.render import dotted, join_names, place, write_texts

__all__ = ["PathTemplate"]

# candidates in an AmbiguousPath: enough to see the ambiguity; a long title may have thousands
_SHOWN = 16

Record = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """A naming rule such as `pixiv/{user}/{title}_{id}`: literal text, fields in braces, `{{` and `}}` for braces.

    A rendered path is relative, stays under its root, and has only segments that are valid names on NTFS, APFS and
    ext4. Literal text and values are cleaned; a value never adds a folder; an empty field is left out with the
    separator before it; an empty segment is left out; a segment that is too long loses free text, never its id.

    Args:
        text: the template.
        fields: the fields, by default those of pixiv datasets.

    Raises:
        TemplateError: an unknown field, a stray or unclosed brace, overlong literal text, or a template that names no
            file.
    """

    text: str
    fields: Mapping[str, Kind] = field(default_factory=lambda: PIXIV, repr=False, hash=False)
    _segments: tuple[Segment, ...] = field(init=False, repr=False, compare=False)
    _kinds: Mapping[str, Kind] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        segments = compile_template(self.text, self.fields)
        object.__setattr__(self, "_segments", segments)
        object.__setattr__(self, "_kinds", {slot.name: slot.kind for segment in segments for slot in segment.slots})

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling: templates travel to worker processes."""
        return (_template, (self.text, None if self.fields is PIXIV else dict(self.fields)))

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that the template uses, in the order of their first use."""
        return tuple(self._kinds)

    @property
    def identifies(self) -> bool:
        """Whether records with different ids are certain to have different paths, also if case does not count.

        Nothing but the id may be between its neighbours: true for `{title}_{id}`, false for `{title}{id}`.
        """
        return identifies(self._segments)

    def render(self, record: Record, *, extension: str | None = None) -> str:
        """Return the path of `record`, relative, segments joined by "/".

        Args:
            record: values by field name; None and a missing name mean no value; other names are ignored.
            extension: one of `EXTENSIONS`, without a dot; None for a folder.

        Raises:
            RecordError: a value of another kind, a required field without a value, or nothing left to name a file.
            LengthError: a segment that is too long although all free text in it was shortened.
            ExtensionError: an extension that is not allowed.
        """
        dot = dotted(extension)
        return join_names(place(self._segments, write_texts(self._kinds, record), dot), dot)

    def as_read(self, record: Record, *, extension: str | None = None) -> dict[str, object]:
        """Return `record` as its path has it: the fields of the template only, cleaned, stripped, shortened.

        It renders to the same path, and is among the records that parsing that path yields. Texts stay whole only if a
        field occurs twice and is cut in one place, so that cut texts would render to another path. Errors as in
        `render`.
        """
        return self._record(standing_texts(self._segments, write_texts(self._kinds, record), dotted(extension)))

    def parse(
        self, path: str, *, given: Record | None = None, assume: Assumptions = NOTHING, folder: bool = False
    ) -> dict[str, object]:
        """Return the one record that renders to `path` and agrees with the given values.

        Args:
            path: a path that `render` may have returned.
            given: known values by field name; None for a field without a value.
            assume: further assumptions; `USUAL` for pixiv datasets.
            folder: the path has no extension. Otherwise an allowed extension at its end is never part of a value.

        Raises:
            MismatchError: no record renders to `path` and agrees.
            AmbiguousPath: more than one does; it carries the first of them.
            SearchError: too many ways to read the path were tried in vain.
            RecordError: `given` or `assume` names an unknown field, or `given` holds a value of another kind.
        """
        records = tuple(islice(self.parse_all(path, given=given, assume=assume, folder=folder), _SHOWN + 1))
        if not records:
            raise MismatchError(f"no record that agrees with what is known renders to {path!r}")
        if len(records) == 1:
            return records[0]
        unsure = [name for name in self._kinds if any(record[name] != records[0][name] for record in records)]
        what = f"more than one record renders to {path!r}; they differ in {', '.join(unsure)}"
        raise AmbiguousPath(what, records[:_SHOWN], complete=len(records) <= _SHOWN)

    def parse_all(
        self, path: str, *, given: Record | None = None, assume: Assumptions = NOTHING, folder: bool = False
    ) -> Iterator[dict[str, object]]:
        """Return, lazily and once each, all records that render to `path` and agree with the given values.

        They are as `as_read` returns them, with the given values in full, except a given value that the path has
        shortened beside another shortened text that was not given. Arguments and errors are those of `parse`, but no
        record, or many, is not an error.
        """
        given = {} if given is None else given
        self._check_names({*given, *assume.names()})
        kinds = {name: kind for name, kind in self._kinds.items() if name in given}
        known = Known(write_texts(kinds, given), assume)
        return self._agreeing(path, known, {name: given[name] for name in kinds}, folder)

    def _agreeing(self, path: str, known: Known, given: Record, folder: bool) -> Iterator[dict[str, object]]:
        try:
            reader = PathReader(self._segments, path, known, folder)
        except MismatchError:
            return
        seen = set()
        for texts in reader.candidates():
            agrees = reader.agrees(texts)
            whole = {**texts, **known.texts} if agrees else texts
            key = tuple(whole[name] for name in self._kinds)
            if key not in seen and (agrees or reader.agrees_cut(texts)):
                seen.add(key)
                yield {**self._record(texts), **given} if agrees else self._record(texts)
                reader.effort.renew()

    def parse_id(self, path: str, *, folder: bool = False) -> str:
        """Return the id in `path`; if the template `identifies`, every rendered path has exactly one.

        Raises:
            MismatchError: no record renders to `path`.
            AmbiguousPath: records with different ids render to it.
            TemplateError: the template has no field that identifies records.
        """
        name = next((name for name, kind in self._kinds.items() if kind.identity), None)
        if name is None:
            raise TemplateError("no field that identifies records", template=self.text, position=0)
        ids = sorted(PathReader(self._segments, path, Known(), folder).spans(name))
        if len(ids) > 1:
            ids = [text for text in ids if self._may_have(path, {name: text}, folder)]
        if not ids:
            raise MismatchError(f"no record renders to {path!r}")
        if len(ids) > 1:
            raise AmbiguousPath(f"the {name} in {path!r} can be {ids[0]}, {ids[1]}, ...", tuple(ids))
        return ids[0]

    def _may_have(self, path: str, given: Record, folder: bool) -> bool:
        try:
            return any(self.parse_all(path, given=given, folder=folder))
        except SearchError:
            return True

    def lint(self, records: Iterable[Record], *, extension: linting.Extension = None) -> Iterator[linting.Finding]:
        """Yield the problems of the paths of `records`, in their order: no path, shortened, or a clash.

        Args:
            records: read once; a digest is kept for each path.
            extension: that of all records, or a function that returns the extension of a record.

        Raises:
            ExtensionError: the extension of all records is not allowed; that of one record is a finding.
        """
        of = extension if callable(extension) else None
        fixed = None if callable(extension) else extension
        dotted(fixed)
        linter = self.linter()
        for index, record in enumerate(records):
            yield from linter.check(record, number=index, extension=of(record) if of else fixed).findings

    def linter(self, *, noun: str = "record") -> linting.Linter:
        """Return a linter for records that come one by one, which also returns their paths.

        Args:
            noun: the word for a record in findings, before its number.
        """
        return linting.Linter(self._segments, self._kinds, noun=noun)

    def _record(self, texts: Mapping[str, str]) -> dict[str, object]:
        return {name: kind.read(texts[name]) for name, kind in self._kinds.items()}

    def _check_names(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.fields:
                close = nearest(name, self.fields)
                raise RecordError("is unknown" + (f"; the nearest is {close!r}" if close else ""), name)


def _template(text: str, fields: Mapping[str, Kind] | None) -> PathTemplate:
    return PathTemplate(text) if fields is None else PathTemplate(text, fields)
