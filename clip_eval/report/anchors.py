"""Places of the HTML report: a stable anchor for each check and change, and links to them in sentences."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Part", "anchor", "linked"]

_KEPT = 80  # characters of a name in its anchor
_UNSAFE = re.compile(r"[^A-Za-z0-9._\[\]-]+")


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a sentence, and where it leads; None for plain text."""

    text: str
    target: str | None


def anchor(kind: str, name: str) -> str:
    """The id of a check's or change's place, such as "check-pixels.pixels_match_the_oracle[AutoProcessor]".

    The same name has the same anchor in every report, and two names have two. A name with other characters than
    letters, digits and ".[]_-", or a long one, ends in a digest.
    """
    safe = _UNSAFE.sub("-", name)[:_KEPT]
    if safe == name:
        return f"{kind}-{name}"
    return f"{kind}-{safe}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def linked(sentence: str, targets: Mapping[str, str]) -> Sequence[Part]:
    """The sentence in parts, in which every name of `targets` leads to its anchor.

    Args:
        sentence: any text.
        targets: anchors by the names that a sentence may hold.
    """
    found = sorted((name for name in targets if name in sentence), key=len, reverse=True)
    if not found:
        return [Part(sentence, None)]
    pieces = re.split(f"({'|'.join(map(re.escape, found))})", sentence)
    return [Part(piece, targets.get(piece)) for piece in pieces if piece]
