"""The errors of path templates. All are kinds of `PathError`, which is a `ValueError`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

__all__ = [
    "AmbiguousPath",
    "ExtensionError",
    "LengthError",
    "MismatchError",
    "PathError",
    "RecordError",
    "SearchError",
    "TemplateError",
    "nearest",
]


class PathError(ValueError):
    """An invalid template, record or path. The message says what is wrong and what would be right."""


class TemplateError(PathError):
    """The text of a template is invalid.

    Attributes:
        what: what is wrong, a clause.
        template: the whole text.
        position: 0-based index into `template` of the brace, or of the literal text, that is wrong.
        nearest: the nearest field name, or None.
    """

    def __init__(self, what: str, *, template: str, position: int, nearest: str | None = None) -> None:
        self.what = what
        self.template = template
        self.position = position
        self.nearest = nearest
        hint = "" if nearest is None else f"; the nearest field is {{{nearest}}}"
        super().__init__(f"{what} at position {position} of {template!r}{hint}")

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling: multiprocessing sends errors between processes."""
        return (_template_error, (self.what, self.template, self.position, self.nearest))


def _template_error(what: str, template: str, position: int, nearest: str | None) -> TemplateError:
    return TemplateError(what, template=template, position=position, nearest=nearest)


class RecordError(PathError):
    """A record lacks a required field, has a value of another kind, or renders to no path.

    Attributes:
        what: what is wrong, a clause.
        field: the name of the field, or None for the record as a whole.
    """

    def __init__(self, what: str, field: str | None = None) -> None:
        self.what = what
        self.field = field
        super().__init__(what if field is None else f"field {field!r} {what}")

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling: multiprocessing sends errors between processes."""
        return (RecordError, (self.what, self.field))


class LengthError(PathError):
    """A segment is too long even with all free texts shortened."""


class ExtensionError(PathError):
    """The extension is not in the allow-list."""


class MismatchError(PathError):
    """No record renders to this path, or none that agrees with the given values."""


class AmbiguousPath(PathError):
    """More than one record renders to this path.

    Attributes:
        what: what is wrong, a clause.
        candidates: the first records (of `parse`) or ids (of `parse_id`) that render to it, at least two.
        complete: whether `candidates` has all of them.
    """

    def __init__(self, what: str, candidates: tuple[Mapping[str, object] | str, ...], complete: bool = True) -> None:
        self.what = what
        self.candidates = candidates
        self.complete = complete
        super().__init__(what)

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling: multiprocessing sends errors between processes."""
        return (AmbiguousPath, (self.what, self.candidates, self.complete))


class SearchError(PathError):
    """A path can be read in too many ways: the search was given up."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the entry of `known` that `name`, in any case, begins or is most like, or None."""
    folded = {entry.casefold(): entry for entry in known}
    wanted = name.casefold()
    longer = [entry for entry in folded if len(wanted) > 2 and entry.startswith(wanted)]
    matches = longer or get_close_matches(wanted, folded, n=1, cutoff=0.5)  # below one half, a hint misleads
    return folded[matches[0]] if matches else None
