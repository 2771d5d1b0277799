"""The kinds of fields, and the fields of pixiv datasets. A set of fields is data: a mapping from names to kinds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from types import MappingProxyType

from clip_eval.paths.cleaning import clean

__all__ = [
    "DIGITS",
    "ID",
    "ORDER",
    "PIXIV",
    "TAGS",
    "TEXT",
    "WORD",
    "Clean",
    "Glue",
    "Kind",
    "choice",
    "compiled",
    "flag",
]

Clean = Callable[[str], str]

compiled = lru_cache(maxsize=64)(re.compile)


@dataclass(frozen=True, slots=True)
class Glue:
    """Characters that could be taken for a part of a value if they are directly beside it.

    Args:
        before: characters that, followed by a value, may end the head of a longer value.
        after: characters that, after a value, may begin the rest of a longer value.
    """

    before: frozenset[str]
    after: frozenset[str]


@dataclass(frozen=True, slots=True)
class Kind:
    """The values of a field, and how they are written.

    Args:
        expects: the values, as a clause for an error message.
        write: value and cleaning function to cleaned text, "" for no value. Raises TypeError or ValueError for a value
            of another kind.
        read: cleaned text to value, the inverse of `write`; "" to the value for none.
        pattern: regular expression of all non-empty texts, "" if any text is possible.
        free: whether the text may be shortened.
        separator: where a free text is cut first, "" to cut between graphemes only.
        required: whether a missing value is an error.
        identity: characters that could be taken for a part of the value, if it identifies records; else None.
    """

    expects: str
    write: Callable[[object, Clean], str]
    read: Callable[[str], object]
    pattern: str = ""
    free: bool = False
    separator: str = ""
    required: bool = False
    identity: Glue | None = None

    def may_be(self, text: str) -> bool:
        """Return whether a value can be written as the non-empty `text`."""
        return not self.pattern or compiled(self.pattern).fullmatch(text) is not None


def _write_text(value: object, clean: Clean) -> str:
    if not isinstance(value, str):
        raise TypeError
    return clean(value)


def _write_tags(value: object, clean: Clean) -> str:
    if not isinstance(value, (list, tuple)):
        raise TypeError
    tags = dict.fromkeys(map(clean, value))
    tags.pop("", None)
    return ",".join(tags)


def _read_tags(text: str) -> list[str]:
    tags = text.split(",") if text else []
    # tags may hold commas: the split is right only if writing undoes it
    return tags if "" not in tags and len(set(tags)) == len(tags) else [text]


def _write_order(value: object, clean: Clean) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    if value < 0:
        raise ValueError
    return f"#{value}" if value else ""


def _read_order(text: str) -> int | None:
    return int(text[1:]) if text else None


def _read_optional(text: str) -> str | None:
    return text or None


def _write_matching(pattern: re.Pattern[str], value: object, clean: Clean) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise TypeError
    if value and not pattern.fullmatch(value):
        raise ValueError
    return value


def _write_choice(words: Mapping[str, str], value: object, clean: Clean) -> str:
    if not isinstance(value, str):
        raise TypeError
    if value and value not in words.values():
        raise ValueError
    return clean(value)


def _read_choice(words: Mapping[str, str], text: str) -> str:
    return words.get(text, "")


def _write_flag(word: str, value: object, clean: Clean) -> str:
    if not isinstance(value, bool):
        raise TypeError
    return clean(word) if value else ""


def flag(word: str) -> Kind:
    """Return the kind of a bool that is written as `word` if true, and left out if false."""
    return Kind("true or false", partial(_write_flag, word), read=bool, pattern=re.escape(clean(word)))


def choice(*words: str) -> Kind:
    """Return the kind of a text that must be one of `words`."""
    by_text = {clean(word): word for word in words}
    return Kind(
        f"one of {', '.join(words)}",
        partial(_write_choice, by_text),
        read=partial(_read_choice, by_text),
        pattern="|".join(map(re.escape, by_text)),
        required=True,
    )


_DIGITS = "[0-9]+"
_WORD = r"[^\W_]+"
_ID = "[0-9]+(?:_p[0-9]+)?"

TEXT = Kind("text", _write_text, read=str, free=True)
WORD = Kind("letters and digits", partial(_write_matching, re.compile(_WORD)), read=str, pattern=_WORD, required=True)
TAGS = Kind("a list of texts", _write_tags, read=_read_tags, free=True, separator=",")
DIGITS = Kind("digits", partial(_write_matching, re.compile(_DIGITS)), read=_read_optional, pattern=_DIGITS)
ORDER = Kind("a whole number from 0", _write_order, read=_read_order, pattern="#[1-9][0-9]*")
ID = Kind(
    "a work number such as 123, or 123_p0 for a page",
    partial(_write_matching, re.compile(_ID)),
    read=str,
    pattern=_ID,
    required=True,
    # After "_" no id goes on with a work number, so "_" may stand before an id; "_p0" may go on after one.
    identity=Glue(before=frozenset("0123456789p"), after=frozenset("0123456789_")),
)

PIXIV: Mapping[str, Kind] = MappingProxyType(
    {
        "AI": flag("AI"),
        "user": TEXT,
        "series_id": DIGITS,
        "series_title": TEXT,
        "series_order": ORDER,
        "page_title": TEXT,
        "page_tag": TEXT,
        "type": choice("Illustration", "Manga", "Ugoira", "Novel"),
        "tags_transl_only": TAGS,
        "id": ID,
        "title": TEXT,
        "user_id": DIGITS,
        "pid": DIGITS,
    }
)
