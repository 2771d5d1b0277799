"""A matplotlib figure as SVG inside the page: its text stays text, and its colours are the style sheet's."""

from __future__ import annotations

import hashlib
import importlib
import io
import logging
import math
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from clip_eval.report.text import clean, clip

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["WIDTH", "Colour", "Picture", "area", "canvas", "decades", "label", "svg"]

WIDTH = 380.0  # of a picture, in pixels: what a telephone shows without making text smaller


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


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing with the sentence that says what is to be seen."""

    svg: Markup
    caption: str


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
    "axes.titlesize": 12,
    "axes.unicode_minus": True,
    "figure.dpi": 72,  # SVG's: a length of 1 is a pixel
    "figure.facecolor": "none",
    "font.size": 11,
    "grid.color": Colour.LINE,
    "grid.linewidth": 0.8,
    "legend.fontsize": 11,
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
_SHORTHAND = re.compile(r"font: ([\d.]+px) [^;]*")  # of older releases
_NAMESPACE = re.compile(r"\{[^}]*\}")


@contextmanager
def canvas(height: float, width: float = WIDTH) -> Iterator[Figure]:
    """A figure to draw on, of a height and width in pixels, with the page's style as long as the context lasts."""
    with _style():
        from matplotlib.figure import Figure

        yield Figure(figsize=(width / 72, height / 72))


def area(figure: Figure, *, left: float, right: float, top: float, bottom: float) -> Axes:
    """Axes with these margins in pixels, without ticks on them, and with a line below only."""
    width, height = (72 * side for side in figure.get_size_inches())
    axes = figure.add_axes(
        (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)  # of the figure
    )
    axes.tick_params(which="both", length=0)
    axes.spines["left"].set_visible(False)
    return axes


def decades(axes: Axes, low: float, high: float, *, which: str = "x", beyond: bool = False) -> None:
    """A logarithmic axis from `low` to `high` with a plain number at each power of ten, at every second one of many.

    With `beyond` the first one says that what is less is drawn there, too.
    """
    powers = range(math.ceil(round(math.log10(low), 6)), math.floor(round(math.log10(high), 6)) + 1)
    powers = powers[:: 1 + len(powers) // 9]
    names = [f"{10.0**power:,g}" if -4 < power < 4 else f"1e{power}" for power in powers]
    if beyond:
        names[0] = f"\u2264 {names[0]}"
    if which == "x":
        axes.set(xscale="log", xlim=(low, high))
        axes.set_xticks([10.0**power for power in powers], names)
    else:
        axes.set(yscale="log", ylim=(low, high))
        axes.set_yticks([10.0**power for power in powers], names)
    axes.minorticks_off()


def label(text: str, limit: int) -> str:
    """A name of the run as the text of a picture: one line, at most `limit` characters, none that XML forbids."""
    return clip(text, limit=limit)


def svg(figure: Figure, title: str, description: str = "") -> Markup:
    """The figure as an `svg` element for the page, as wide as what it stands in, without metadata or a date.

    Nothing is cut at the edge of its axes: draw inside of their limits.

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
    matplotlib = _matplotlib()
    defaults = {key: value for key, value in matplotlib.rcParamsDefault.items() if "backend" not in key}
    with matplotlib.rc_context({**defaults, **_STYLE}):
        yield


def _matplotlib() -> ModuleType:
    """matplotlib, without its hints about cache and settings, and whatever MPLBACKEND says: no window is opened."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_svg"):
            importlib.import_module(name)
    except ValueError:
        if os.environ.pop("MPLBACKEND", None) is None:
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
            del sys.modules[name]  # half of it
        return _matplotlib()
    finally:
        logger.setLevel(level)
    return sys.modules["matplotlib"]


def _simplify(root: ElementTree.Element, prefix: str) -> None:
    """Without style sheet, metadata, groups that say nothing, and ids that nothing names; in the page's colours."""
    for node in list(root.iter()):
        node.tag = _NAMESPACE.sub("", node.tag)
        node.text = node.text if node.tag == "text" else None
        node.tail = None
        node.attrib = {_NAMESPACE.sub("", key): value for key, value in node.items() if key != "clip-path"}
    named = dict.fromkeys(node.get("href", "")[1:] for node in root.iter("use"))
    names = {name: f"{prefix}-{number}" for number, name in enumerate(named)}
    for node in root.iter():
        attributes = {key: _attribute(key, value, names) for key, value in node.items()}
        node.attrib = {key: value for key, value in attributes.items() if value}
    _unwrap(root)


def _attribute(key: str, value: str, names: dict[str, str]) -> str:
    """Fewer digits, no font, no rotation by nothing, the page's colours, the picture's own ids; empty to drop it."""
    if key == "id":
        return names.get(value, "")
    if key == "href":
        return f"#{names[value[1:]]}"
    if key == "transform" and value.startswith("rotate(-0"):
        return ""
    value = _NUMBER.sub(lambda number: f"{round(float(number.group()), 2):g}", " ".join(value.split()))
    if key == "style":
        value = _FONT.sub("", _SHORTHAND.sub(r"font-size: \1", value))
        for fixed, variable in _VARIABLES.items():
            value = value.replace(fixed, variable)
    return value


def _unwrap(node: ElementTree.Element) -> None:
    """Replace groups without attributes by what is in them, drop what is empty, say a style of all marks once."""
    children: list[ElementTree.Element] = []
    for child in node:
        _unwrap(child)
        nothing = child.tag == "path" and child.get("style") == "fill: none"
        if nothing or child.tag in ("style", "metadata", "clipPath") or (child.tag in ("g", "defs") and not len(child)):
            continue
        children += list(child) if child.tag == "g" and not child.attrib else [child]
    node[:] = children
    styles = {child.get("style") for child in children if child.tag == "use"}
    if node.tag == "g" and len(styles) == 1 and all(child.tag == "use" for child in children):
        node.set("style", str(styles.pop()))
        for child in children:
            del child.attrib["style"]


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
