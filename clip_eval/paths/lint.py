"""What is wrong with the paths of a whole library: records without a path, collisions, shortened names.

Memory is a few hundred bytes a record: paths are kept as digests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from clip_eval.paths.errors import PathError
from clip_eval.paths.grammar import Segment
from clip_eval.paths.kinds import Kind
from clip_eval.paths.render import dotted, join_names, place, write_texts
from clip_eval.paths.text import fold

__all__ = ["Clash", "Finding", "PathRegistry", "lint"]

ClashKind = Literal["same path", "same file", "file and folder"]
FindingKind = Literal["no path", "same path", "same file", "file and folder", "shortened"]
Extension = str | Callable[[Mapping[str, object]], "str | None"] | None

# With 16 bytes, two of a million different paths share a digest with a probability of 1e-27.
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Clash:
    """Two paths that cannot both be on every file system.

    Args:
        kind: "same path"; "same file" where only letter case, normalisation or invisible characters differ; or
            "file and folder".
        first: number of the earlier path, from 0, in the order in which the paths were added.
    """

    kind: ClashKind
    first: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with one record.

    Args:
        kind: "no path", "shortened", or a kind of `Clash`.
        index: number of the record, from 0.
        path: its path; None where it has none.
        what: the finding as a sentence without a full stop.
        other: number of the earlier record of a clash; None for other kinds.
    """

    kind: FindingKind
    index: int
    path: str | None
    what: str
    other: int | None = None


def _digest(text: str) -> bytes:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=_DIGEST_BYTES).digest()


class PathRegistry:
    """The paths of a library, added one by one; finds those that clash where case and normalisation do not count."""

    __slots__ = ("_count", "_files", "_folders")

    def __init__(self) -> None:
        self._count = 0
        self._files: dict[bytes, tuple[int, bytes]] = {}
        self._folders: dict[bytes, int] = {}

    def __len__(self) -> int:
        """Return how many paths were added."""
        return self._count

    def add(self, path: str) -> Clash | None:
        """Add the relative path of a file, segments joined by "/"; return its clash with the earliest path, if any."""
        number = self._count
        self._count += 1
        folded = fold(path)
        key, exact = _digest(folded), _digest(path)
        parents = [_digest(parent) for parent in _parents(folded)]
        first, first_exact = self._files.setdefault(key, (number, exact))
        around = min((self._files[parent][0] for parent in parents if parent in self._files), default=None)
        inside = self._folders.get(key)
        for parent in parents:
            self._folders.setdefault(parent, number)
        if first != number:
            return Clash("same path" if first_exact == exact else "same file", first)
        others = [other for other in (around, inside) if other is not None]
        return Clash("file and folder", min(others)) if others else None


def _parents(path: str) -> Iterator[str]:
    end = path.rfind("/")
    while end > 0:
        yield path[:end]
        end = path.rfind("/", 0, end)


_SENTENCES: Mapping[ClashKind, str] = {
    "same path": "has the path of record {}",
    "same file": "differs from the path of record {} only by letter case, normalisation or invisible characters",
    "file and folder": "is a file where record {} has a folder, or the other way round",
}


def lint(
    segments: Sequence[Segment],
    kinds: Mapping[str, Kind],
    records: Iterable[Mapping[str, object]],
    extension: Extension,
) -> Iterator[Finding]:
    """Yield the findings of `records`, in their order; see `PathTemplate.lint`."""
    dot = "" if callable(extension) else dotted(extension)
    registry = PathRegistry()
    numbers: list[int] = []
    for index, record in enumerate(records):
        try:
            dot = dotted(extension(record)) if callable(extension) else dot
            names = place(segments, write_texts(kinds, record), dot)
        except PathError as error:
            yield Finding("no path", index, None, str(error))
            continue
        path = join_names(names, dot)
        numbers.append(index)
        shortened = [name.text for name in names if name.shortened]
        if shortened:
            yield Finding("shortened", index, path, f"is shortened in {', '.join(map(repr, shortened))}")
        if clash := registry.add(path):
            other = numbers[clash.first]
            yield Finding(clash.kind, index, path, _SENTENCES[clash.kind].format(other), other)
