"""Pictures of the HTML pages, drawn by matplotlib and set into the page as SVG in its own colours.

matplotlib is imported when a picture is drawn: neither the plugin nor a command that renders no page loads it.
"""

from __future__ import annotations

from clip_eval.report.pictures.canvas import Colour, canvas, svg

__all__ = ["Colour", "canvas", "svg"]
