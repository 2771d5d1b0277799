"""The allowed content of values and path segments: cleaning, reserved names, length, and equality on a file system.

Sources: "Naming Files, Paths, and Namespaces" (learn.microsoft.com) for NTFS; the Apple File System Reference for APFS;
the kernel's documentation of ext4.
"""

from __future__ import annotations

import re
import unicodedata

import regex

__all__ = [
    "ELLIPSIS",
    "RESERVED_SUFFIX",
    "SEGMENT_BYTES",
    "clean",
    "cut",
    "finish",
    "fold",
    "has_clean_characters",
    "head_length",
    "is_clean",
    "narrow",
    "size_bytes",
    "unfinished",
]

ELLIPSIS = "…"
RESERVED_SUFFIX = "[WindowsReservedName]"

# A name has 255 bytes of UTF-8; 16 of them stay free for suffixes of other programs (" (1)", ".crdownload").
SEGMENT_BYTES = 255 - 16

_FULL_WIDTH = dict(zip('\\/:?"<>*|~', "＼／：？＂＜＞＊｜～", strict=True))
# Controls; format characters (zero-width, bidi and tag characters); surrogates; line and paragraph separators.
_DELETED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

_DEVICE = r"(?ai:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$|clock\$)"
_DEVICE_HEADS = frozenset({"con", "prn", "aux", "nul", "com", "lpt", "clo"})
_RESERVED = re.compile(rf"{_DEVICE} *(\.|$)")  # Windows drops spaces before the dot
_IGNORABLE = regex.compile(r"\p{Default_Ignorable_Code_Point}+")
_GRAPHEME = regex.compile(r"\X")


def _is_deleted(code: int) -> bool:
    noncharacter = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    return noncharacter or unicodedata.category(chr(code)) in _DELETED_CATEGORIES


class _Table(dict[int, "int | str | None"]):
    """A `str.translate` table that looks up each character once in the Unicode database."""

    def __missing__(self, code: int) -> int | None:
        self[code] = kept = None if _is_deleted(code) else code
        return kept


_TABLE = _Table({ord(narrow): wide for narrow, wide in _FULL_WIDTH.items()})


def is_clean(text: str) -> bool:
    """Return True only if `clean(text) == text`; False means unknown."""
    # no deleted category is printable, and str.isprintable is fast
    if not text.isprintable():
        return False
    for narrow in _FULL_WIDTH:
        if narrow in text:
            return False
    return text.isascii() or unicodedata.is_normalized("NFC", text)


def has_clean_characters(text: str) -> bool:
    """Return whether cleaning would keep every character of `text`, which need not be in NFC."""
    return text.translate(_TABLE) == text


def clean(text: str) -> str:
    """Return `text` cleaned for a segment, in NFC. Works for any str; idempotent; the result has no "/"."""
    return text if is_clean(text) else unicodedata.normalize("NFC", text.translate(_TABLE))


def finish(segment: str) -> str:
    """Return a segment of cleaned text stripped of white space and dots, and never a reserved name."""
    segment = segment.strip()
    if not segment:
        return ""
    if segment[0] == ".":
        segment = "．" + segment[1:]
    if segment[-1] == ".":
        segment = segment[:-1] + "．"
    if segment[:3].lower() in _DEVICE_HEADS and (device := _RESERVED.match(segment)):
        return segment.replace(".", "．") if device[1] else segment + RESERVED_SUFFIX
    return segment


def unfinished(name: str) -> tuple[str, ...]:
    """Return `name`, and its form before `finish` if that may have added a suffix.

    Every stripped text that `finish` turns into `name` is one of these, apart from the width of its dots; see `narrow`.
    """
    bare = name.removesuffix(RESERVED_SUFFIX)
    return (name, bare) if bare != name == finish(bare) else (name,)


def narrow(text: str) -> str:
    """Return `text` with each full-width dot as a plain dot, which it may have been before `finish`; same length."""
    return text.replace("．", ".")


def size_bytes(text: str) -> int:
    """Return the number of bytes of `text` in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def head_length(text: str, limit_bytes: int) -> int:
    """Return how many characters from the start of `text` fit in `limit_bytes`."""
    # a character has at least one byte, so the rest cannot fit and need not be encoded
    return len(text[: max(limit_bytes, 0)].encode()[: max(limit_bytes, 0)].decode(errors="ignore"))


def cut(text: str, limit_bytes: int) -> str:
    """Return `text` if it fits in `limit_bytes`, else as many graphemes (UAX 29) as fit, followed by an ellipsis.

    The shortest result is the ellipsis alone, which may exceed a small `limit_bytes`.
    """
    if size_bytes(text) <= max(limit_bytes, size_bytes(ELLIPSIS)):
        return text
    length = head_length(text, limit_bytes - size_bytes(ELLIPSIS))
    # whether a grapheme ends before a character depends on the text before it and on that character
    ends = [grapheme.end() for grapheme in _GRAPHEME.finditer(text[: length + 1])]
    return text[: ends[-2] if len(ends) > 1 else 0].rstrip() + ELLIPSIS


def fold(path: str) -> str:
    """Return a key that is equal for two paths if a file system may take them for the same, as it folds case or
    normalises.

    Canonical caseless matching (The Unicode Standard, D145), without the default-ignorable code points, which ext4
    ignores in folders that fold case.
    """
    if path.isascii():
        return path.lower()
    folded = unicodedata.normalize("NFD", path).casefold()
    return unicodedata.normalize("NFD", _IGNORABLE.sub("", folded))
