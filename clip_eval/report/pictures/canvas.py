"""A matplotlib figure as SVG inside the page: its text stays text, and its colours are the style sheet's."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from clip_eval.report.text import clean, clip

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

__all__ = ["WIDTH", "Colour", "canvas", "label", "svg"]

WIDTH = 400.0  # of a picture, in pixels: what a telephone shows without making text smaller


class Colour:
    """The style sheet's colours. `svg` writes its variables instead, so that light, dark and print work."""

    INK = "#1a2027"
    SOFT = "#515b67"
    LINE = "#d5dae1"
    CARD = "#fffffe"
    GOOD = "#17693f"
    BAD = "#a51d2d"
    OPEN = "#7a4d00"
    BAR = "#2f7d5b"
    TRACK = "#dfe4ea"
    LINK = "#1a4f8b"


_VARIABLES = {value: f"var(--{name.lower()})" for name, value in vars(Colour).items() if name.isupper()}
_VARIABLES |= {"#000000": "var(--ink)", "#ffffff": "var(--card)"}
_STYLE = {
    "axes.edgecolor": Colour.SOFT,
    "axes.facecolor": "none",
    "axes.formatter.use_mathtext": False,
    "axes.labelcolor": Colour.SOFT,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.unicode_minus": True,
    "figure.dpi": 72,  # SVG's: a length of 1 is a pixel
    "figure.facecolor": "none",
    "font.size": 10,
    "grid.color": Colour.LINE,
    "grid.linewidth": 0.8,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "clip-eval",
    "text.color": Colour.INK,
    "text.parse_math": False,  # a name is shown as it is, dollar signs too
    "xtick.color": Colour.SOFT,
    "ytick.color": Colour.SOFT,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_NUMBER = re.compile(r"-?\d+\.\d+")
_FONT = re.compile(r"font-family: [^;]*;? ?|font-style: normal;? ?")
_REFERENCE = re.compile(r"#([A-Za-z][\w.-]*)")
_NAMESPACE = re.compile(r"\{[^}]*\}")


@contextmanager
def canvas(height: float, width: float = WIDTH) -> Iterator[Figure]:
    """A figure to draw on, of a height and width in pixels, with the page's style as long as the context lasts."""
    from matplotlib.figure import Figure

    with _style():
        yield Figure(figsize=(width / 72, height / 72))


def label(text: str, limit: int) -> str:
    """A name of the run as the text of a picture: one line, at most `limit` characters, none that XML forbids."""
    return clip(text, limit=limit)


def svg(figure: Figure, title: str, description: str = "") -> Markup:
    """The figure as an `svg` element for the page, as wide as what it stands in, without metadata or a date.

    Args:
        figure: drawn in `Colour`s or the defaults of `canvas`; other colours stay as they are.
        title: the name that a screen reader says.
        description: what is to be seen, for a screen reader.

    Returns:
        The same text for the same figure. Its ids begin with a digest, so that several pictures share a page.
    """
    from markupsafe import Markup

    written = io.StringIO()
    with _style(), warnings.catch_warnings():
        # the page's fonts draw the text, not matplotlib's
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(written, format="svg", metadata=_NO_METADATA)
    root = ElementTree.fromstring(written.getvalue())
    digest = hashlib.sha256(f"{title}\0{written.getvalue()}".encode()).hexdigest()[:8]
    _simplify(root, f"p{digest}")
    _name(root, f"p{digest}", clean(title), clean(description))
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # the serializer has escaped every text


@contextmanager
def _style() -> Iterator[None]:
    """The page's style over matplotlib's defaults, whatever the user's matplotlibrc says."""
    import matplotlib

    defaults = {key: value for key, value in matplotlib.rcParamsDefault.items() if "backend" not in key}
    with matplotlib.rc_context({**defaults, **_STYLE}):
        yield


def _simplify(root: ElementTree.Element, prefix: str) -> None:
    """Without style sheet, metadata, groups that say nothing, and ids that nothing names; in the page's colours."""
    known = set(_REFERENCE.findall(" ".join(value for node in root.iter() for value in node.attrib.values())))
    for node in list(root.iter()):
        node.tag = _NAMESPACE.sub("", node.tag)
        node.text = node.text if node.tag == "text" else None
        node.tail = None
        attributes = {_NAMESPACE.sub("", key): _attribute(key, value, prefix) for key, value in node.items()}
        if node.get("id") not in known:
            attributes.pop("id", None)
        node.attrib = {key: value for key, value in attributes.items() if value}
    _unwrap(root)


def _attribute(key: str, value: str, prefix: str) -> str:
    """Fewer digits, no font, no rotation by nothing, the page's colours, ids with the picture's prefix."""
    if key == "id":
        return f"{prefix}-{value}"
    if key == "transform" and value.startswith("rotate(-0"):
        return ""
    value = _NUMBER.sub(lambda number: f"{round(float(number.group()), 2):g}", " ".join(value.split()))
    if key == "style":
        value = _FONT.sub("", value)
        for fixed, variable in _VARIABLES.items():
            value = value.replace(fixed, variable)
    return _REFERENCE.sub(rf"#{prefix}-\1", value) if key != "style" else value


def _unwrap(node: ElementTree.Element) -> None:
    """Replace groups without attributes by what is in them, and drop what is empty."""
    children: list[ElementTree.Element] = []
    for child in node:
        _unwrap(child)
        if child.tag in ("style", "metadata") or (child.tag in ("g", "defs") and not len(child)):
            continue
        children += list(child) if child.tag == "g" and not child.attrib else [child]
    node[:] = children


def _name(root: ElementTree.Element, prefix: str, title: str, description: str) -> None:
    """Make it an image with a name, and let the page say its size."""
    for key in ("version", "height", "width"):
        root.attrib.pop(key, None)
    parts = [("title", title), *([("desc", description)] if description else [])]
    for place, (tag, text) in enumerate(parts):
        node = ElementTree.Element(tag, {"id": f"{prefix}-{tag}"})
        node.text = text
        root.insert(place, node)
    root.set("role", "img")
    root.set("aria-labelledby", " ".join(f"{prefix}-{tag}" for tag, _ in parts))
    root.set("class", "picture")
