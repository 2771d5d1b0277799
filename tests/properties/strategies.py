"""Strategies for records, templates and batches, and a pool of strings that have broken path formatters."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from clip_eval.paths import EXTENSIONS, PIXIV, PathTemplate, TemplateError

RULE = (
    "pixiv/{AI}/{user}/{series_id}{series_title}/{series_order}_{page_title}_{page_tag}_{type}_{tags_transl_only}_{id}"
)

TRAVERSAL = [
    "..",
    ".",
    "...",
    "../..",
    "..\\..",
    "/etc/passwd",
    "C:\\x",
    "\\\\?\\x",
    "//server/share",
    "．．／",
    "~",
    "~root",
]
DEVICES = [
    "con",
    "CON.x",
    "con .x",
    "Aux",
    "nul.tar.gz",
    "COM1",
    "com¹",
    "com0.txt",
    "LPT9",
    "CONIN$",
    "clock$",
    "CON.",
]
READ_TWICE = ["{id}", "x{type}y", "{{", "}}", "$&", "$1", "${id}", "%s", "%(x)s", "\\1", "[WindowsReservedName]"]
INVISIBLE = ["\u200b", "\u202e", "\u2066", "\ufeff", "\x00", "\n", "\x85", "\u2028", "\ud800", "\udfff", "\U000e0041"]
INVISIBLE += ["\ufdd0", "\uffff", "\U0010ffff", "\u00ad", "\u200d", "\u3164", "\ufe0f", "\u034f", "\x7f", "\u115f"]
UNICODE = [
    "e\u0301",
    "\u0301",
    "é",
    "Å",
    "\u212b",
    "ﬁ",
    "ß",
    "ẞ",
    "ſ",
    "\u212a",
    "ı",
    "İ",
    "\u0345",
    "\u0338",
    "각",
    "각",
]
UNICODE += ["👨‍👩‍👧", "🏳️‍🌈", "🇯🇵🇫", "क्षि", "\u0323\u0307", "\u0307\u0323", "≠", "\u2260\u0338", "\U0001d15e", "ΐ", "ﬀ"]
SPACES = ["", " ", "\u3000", "\xa0", " x ", "\u3000名前\u3000", "\t", " . ", ". ", " ."]
LOOKALIKES = [
    "_",
    "-",
    "_p0",
    "p0",
    "1_p0",
    "123",
    "#3",
    ",",
    "a,b",
    ",,",
    "…",
    "a…",
    "．",
    "．x",
    "AI",
    "Manga",
    "_Manga_",
]
LOOKALIKES += [
    "con[WindowsReservedName]",
    "con．x",
    "x.jpg",
    "x.jpg/y",
    ".jpg",
    "desktop.ini",
    "$MFT",
    "a_b_c",
    "0",
    "00",
]
LONG = [
    "a" * 300,
    "山" * 100,
    "e\u0301" * 100,
    "x" + "\u0301" * 300,
    "👨‍👩‍👧" * 40,
    "a b " * 90,
    " " * 300,
    "ab," * 100,
    "." * 300,
]
NASTY = TRAVERSAL + DEVICES + READ_TWICE + INVISIBLE + UNICODE + SPACES + LOOKALIKES + LONG

# Few characters, all of which mean something to a template, so that texts often look like each other's neighbours.
_CROWDED = st.text(alphabet="_-, #.．…pA1é/ \u0301\u3000", max_size=6)

# With surrogates: st.characters() alone has them, st.text() alone does not.
ANY_TEXT: SearchStrategy[str] = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.characters(), max_size=12),
    _CROWDED,
    st.lists(st.sampled_from(NASTY), min_size=2, max_size=3).map("".join),
    st.builds(str.__mul__, st.text(st.characters(), min_size=1, max_size=4), st.integers(1, 120)),
)

SHORT_TEXT: SearchStrategy[str] = st.one_of(st.sampled_from([text for text in NASTY if len(text) < 9]), _CROWDED)

IDS: SearchStrategy[str] = st.one_of(
    st.integers(0, 12).map(str),
    st.builds("{}_p{}".format, st.integers(0, 12), st.integers(0, 12)),
    st.builds("{:0>{}}_p{}".format, st.integers(0, 10**9), st.integers(1, 14), st.integers(0, 999)),
)

_NUMBERS = [None, "", "0", "00", "1", "12", "120", "9876", "123456789012"]
_ORDERS = [None, 0, 1, 2, 3, 12, 10**9]
_TYPES = ["Illustration", "Manga", "Ugoira", "Novel"]
# One strategy for all: hypothesis looks at every element of each that is made.
_PLAIN = st.sampled_from(list(product([True, False, None], _NUMBERS, _ORDERS, _TYPES, _NUMBERS)))
_TEXTS = ("user", "series_title", "page_title", "page_tag", "title")


def _picks(number: int, pool: list[str]) -> Iterator[str | None]:
    """Yield endless picks from `pool`, or None, one for each digit of `number` to the base of that many choices."""
    choices = [None, *pool]
    while True:
        number, digit = divmod(number, len(choices))
        yield choices[digit]


def records(text: SearchStrategy[str] = ANY_TEXT, ids: SearchStrategy[str] = IDS) -> SearchStrategy[dict[str, object]]:
    """Return a strategy for pixiv records whose free texts come from `text`, a few of them, so that fields share one.

    Few draws, each of which decides much: a draw takes longer than rendering a path.
    """
    texts = st.lists(text, min_size=1, max_size=3)
    return st.builds(_record, texts, _PLAIN, st.integers(0, 4 ** len(_TEXTS)), st.integers(0, 6**5), ids)


def _record(texts: list[str], plain: tuple[object, ...], of_texts: int, of_tags: int, name: str) -> dict[str, object]:
    of_ai, series_id, series_order, of_type, number = plain
    free = dict(zip(_TEXTS, _picks(of_texts, texts), strict=False))
    tags = [tag for tag in islice(_picks(of_tags, [*texts, "a", "b,c"]), 5) if tag is not None]
    rest = {"AI": of_ai, "series_id": series_id, "series_order": series_order, "type": of_type}
    return {**free, **rest, "tags_transl_only": tags, "id": name, "user_id": number, "pid": number}


RECORDS = records()
SHORT_RECORDS = records(SHORT_TEXT)
EXTENSION = st.sampled_from([None, *sorted(EXTENSIONS)])


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


_SEPARATORS = ["_", "-", " ", ",", "&", "#", "/", "/", "/", "_", " - ", "__", ""]
_LITERALS = [
    "a",
    "pixiv",
    ".",
    "..",
    "1",
    "p",
    "x.",
    "con",
    "con.",
    "é",
    "\u0301",
    "\u3000",
    "C:\\",
    "{{",
    "}}",
    "\u200b",
]
_FIELDS = [f"{{{name}}}" for name in PIXIV]
_PIECES = _FIELDS * 4 + _SEPARATORS * 2 + _LITERALS + [before + name for before in _SEPARATORS for name in _FIELDS]
_PIECES += [_escaped(text) for text in NASTY if len(text) < 9]


def _compiles(text: str) -> bool:
    try:
        PathTemplate(text)
    except TemplateError:
        return False
    return True


def templates(max_pieces: int = 6) -> SearchStrategy[str]:
    """Return a strategy for texts of templates: fields, separators and literal text in any order."""
    pieces = st.lists(st.sampled_from(_PIECES), min_size=1, max_size=max_pieces)
    return st.one_of(st.just(RULE), pieces.map("".join)).filter(_compiles)


TEMPLATES = templates()
_PART = st.one_of(st.just(""), templates(max_pieces=3))

ID_TEMPLATES: SearchStrategy[str] = st.builds("{}{{id}}{}".format, _PART, _PART)

# Mostly an id at the end or the begin of a file name, which is what templates that identify look like.
_BEFORE_ID = ["/", "/", "_", "-", " ", "x", "é"]
_AFTER_ID = ["", "", "5", ".", " ", "/", "-{title}", " {user}_{type}", "é{title}{user}", "#{page_tag}", "/{AI}"]
_OUTER_ID = st.builds(
    "{}{}{{id}}{}".format,
    st.one_of(st.just(""), templates(max_pieces=4)),
    st.sampled_from(_BEFORE_ID),
    st.sampled_from(_AFTER_ID),
)
APART: SearchStrategy[str] = st.one_of(_OUTER_ID, _OUTER_ID, ID_TEMPLATES).filter(
    lambda text: PathTemplate(text).identifies
)
