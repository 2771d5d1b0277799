"""Strategies for records, templates and batches, and a pool of strings that have broken path formatters."""

from __future__ import annotations

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


@st.composite
def records(draw: st.DrawFn, text: SearchStrategy[str] = ANY_TEXT, ids: SearchStrategy[str] = IDS) -> dict[str, object]:
    """A pixiv record whose free texts come from `text`, a few of them, so that fields often share one."""
    texts = draw(st.lists(text, min_size=1, max_size=4))
    free = st.sampled_from([None, *texts])
    number = st.sampled_from(_NUMBERS)
    return {
        "AI": draw(st.sampled_from([True, False, None])),
        "user": draw(free),
        "series_id": draw(number),
        "series_title": draw(free),
        "series_order": draw(st.sampled_from(_ORDERS)),
        "page_title": draw(free),
        "page_tag": draw(free),
        "type": draw(st.sampled_from(_TYPES)),
        "tags_transl_only": draw(st.lists(st.sampled_from(["a", "b,c", *texts]), max_size=5)),
        "id": draw(ids),
        "title": draw(free),
        "user_id": draw(number),
        "pid": draw(number),
    }


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
_PIECES = [f"{{{name}}}" for name in PIXIV] * 3 + _SEPARATORS * 2 + _LITERALS
_PIECES += [_escaped(text) for text in NASTY if len(text) < 9]


def _compiles(text: str) -> bool:
    try:
        PathTemplate(text)
    except TemplateError:
        return False
    return True


def templates(max_pieces: int = 9) -> SearchStrategy[str]:
    """Return a strategy for texts of templates: fields, separators and literal text in any order."""
    pieces = st.lists(st.sampled_from(_PIECES), min_size=1, max_size=max_pieces)
    return st.one_of(st.just(RULE), pieces.map("".join)).filter(_compiles)


TEMPLATES = templates()
_PART = st.one_of(st.just(""), templates(max_pieces=5))

ID_TEMPLATES: SearchStrategy[str] = st.builds("{}{{id}}{}".format, _PART, _PART)

# Mostly an id at the end or the begin of a file name, which is what templates that identify look like.
APART: SearchStrategy[str] = st.builds(
    "{}{}{{id}}{}".format,
    st.one_of(st.just(""), templates(max_pieces=6)),
    st.sampled_from(["/", "/", "_", "-", " ", "x", "é"]),
    st.sampled_from(
        ["", "", "5", ".", " ", "/", "-{title}", " {user}_{type}", "é{title}{user}", "#{page_tag}", "/{AI}"]
    ),
)
APART = st.one_of(APART, APART, ID_TEMPLATES).filter(lambda text: PathTemplate(text).identifies)
