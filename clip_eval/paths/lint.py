"""Problems of the paths of a whole dataset: records without a path, collisions, shortened names.

Memory is about 200 bytes a record: paths are kept as digests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from clip_eval.paths.cleaning import fold
from clip_eval.paths.errors import PathError
from clip_eval.paths.fields import Kind
from clip_eval.paths.grammar import Segment
from clip_eval.paths.render import dotted, join_names, place, write_texts

__all__ = ["Checked", "Clash", "Finding", "Linter", "PathRegistry"]

ClashKind = Literal["same path", "same file", "file and folder"]
FindingKind = Literal["no path", "same path", "same file", "file and folder", "shortened"]
Held = Literal["as it is", "in other letters"]
Extension = str | Callable[[Mapping[str, object]], "str | None"] | None

# With 16 bytes, two of a million different paths share a digest with a probability of 1e-27.
_DIGEST_BYTES = 16
_NUMBER_BYTES = 8


@dataclass(frozen=True, slots=True)
class Clash:
    """Two paths that cannot coexist on every file system.

    Args:
        kind: "same path"; "same file" if only letter case, normalisation or invisible characters differ; or
            "file and folder".
        first: number of the earlier path, from 0, in the order in which the paths were added.
    """

    kind: ClashKind
    first: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of one record.

    Args:
        kind: "no path", "shortened", or a kind of `Clash`.
        index: number of the record, from 0 unless the caller counts otherwise.
        path: its path, or None.
        what: the finding as a sentence without a full stop.
        other: number of the earlier record of a clash; None for other kinds.
    """

    kind: FindingKind
    index: int
    path: str | None
    what: str
    other: int | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """One checked record.

    Args:
        path: its path, or None.
        findings: its problems.
    """

    path: str | None
    findings: tuple[Finding, ...]


def _digest(text: str) -> bytes:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=_DIGEST_BYTES).digest()


class PathRegistry:
    """The paths of a dataset, added one by one; finds those that clash if case and normalisation do not count."""

    __slots__ = ("_count", "_files", "_folders", "_later")

    def __init__(self) -> None:
        self._count = 0
        # By folded path: the number of its first path and the digest of that path as it is, in one bytes object.
        self._files: dict[bytes, bytes] = {}
        self._folders: dict[bytes, int] = {}
        self._later: set[bytes] = set()

    def __len__(self) -> int:
        """Return how many paths were added."""
        return self._count

    def add(self, path: str, *, number: int | None = None) -> Clash | None:
        """Add the relative path of a file, segments joined by "/"; return its clash with the earliest path, if any.

        Args:
            path: any str.
            number: the caller's number for it, at least 0, larger than that of every path before; by default paths
                are counted from 0.
        """
        number = self._count if number is None else number
        self._count += 1
        folded = fold(path)
        key, exact = _digest(folded), _digest(path)
        parents = [_digest(parent) for parent in _parents(folded)]
        first = self._files.setdefault(key, number.to_bytes(_NUMBER_BYTES, "big") + exact)
        around = min((_number(self._files[parent]) for parent in parents if parent in self._files), default=None)
        inside = self._folders.get(key)
        for parent in parents:
            self._folders.setdefault(parent, number)
        if _number(first) != number:
            self._later.add(exact)
            return Clash("same path" if first[_NUMBER_BYTES:] == exact else "same file", _number(first))
        others = [other for other in (around, inside) if other is not None]
        return Clash("file and folder", min(others)) if others else None

    def holds(self, path: str) -> Held | None:
        """Return whether a path of this name was added: "as it is", only "in other letters", or None.

        Other letters are another letter case, another normalisation, or other invisible characters.
        """
        first = self._files.get(_digest(fold(path)))
        if first is None:
            return None
        exact = _digest(path)
        return "as it is" if first[_NUMBER_BYTES:] == exact or exact in self._later else "in other letters"


def _number(first: bytes) -> int:
    return int.from_bytes(first[:_NUMBER_BYTES], "big")


def _parents(path: str) -> Iterator[str]:
    end = path.rfind("/")
    while end > 0:
        yield path[:end]
        end = path.rfind("/", 0, end)


_SENTENCES: Mapping[ClashKind, str] = {
    "same path": "has the path of {}",
    "same file": "differs from the path of {} only by letter case, normalisation or invisible characters",
    "file and folder": "is a file where {} has a folder, or the other way round",
}


class Linter:
    """Checks the records of a dataset one by one. Made by `PathTemplate.linter`.

    Attributes:
        registry: the paths of the records so far.
    """

    __slots__ = ("_kinds", "_noun", "_segments", "registry")

    def __init__(self, segments: Sequence[Segment], kinds: Mapping[str, Kind], *, noun: str) -> None:
        self._segments = segments
        self._kinds = kinds
        self._noun = noun
        self.registry = PathRegistry()

    def check(self, record: Mapping[str, object], *, number: int, extension: str | None = None) -> Checked:
        """Return the path of `record` and its problems, by itself and with the records before it.

        Args:
            record: values by field name.
            number: the record's number in findings, at least 0, larger than that of every record before.
            extension: as in `PathTemplate.render`; one that is not allowed is a finding.
        """
        try:
            dot = dotted(extension)
            names = place(self._segments, write_texts(self._kinds, record), dot)
        except PathError as error:
            return Checked(None, (Finding("no path", number, None, str(error)),))
        path = join_names(names, dot)
        shortened = [name.text for name in names if name.shortened]
        clash = self.registry.add(path, number=number)
        if not shortened and clash is None:
            return Checked(path, ())
        findings = []
        if shortened:
            findings.append(Finding("shortened", number, path, f"is shortened in {', '.join(map(repr, shortened))}"))
        if clash is not None:
            what = _SENTENCES[clash.kind].format(f"{self._noun} {clash.first}")
            findings.append(Finding(clash.kind, number, path, what, clash.first))
        return Checked(path, tuple(findings))
