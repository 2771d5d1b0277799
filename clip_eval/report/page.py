"""How every HTML page is made: escaped, without control characters, complete or not at all."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from clip_eval.report import text
from clip_eval.report.anchors import anchor

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = ["Script", "page_environment", "page_script"]


@dataclass(frozen=True, slots=True)
class Script:
    """The script of a page, and its SHA-256 in base64 for the page's policy, which allows no other."""

    text: Markup
    digest: str


@cache
def page_script(*names: str) -> Script:
    """Return these files of `clip_eval/report/templates` as one script."""
    from markupsafe import Markup

    templates = files("clip_eval.report").joinpath("templates")
    joined = "\n" + "".join(templates.joinpath(name).read_text(encoding="utf-8") for name in names)
    return Script(Markup(joined), base64.b64encode(hashlib.sha256(joined.encode()).digest()).decode())


def page_environment(*packages: str) -> Environment:
    """Return the environment of templates in these packages and in `clip_eval.report`.

    The latter has the style sheet; `page_script` gives a template its script, whose digest the page's policy names.
    """
    # imported here, as the plugin imports this package in every pytest run and few render anything
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in (*packages, "clip_eval.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_cleaned,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["anchor"] = lambda name, kind: anchor(kind, name)
    environment.globals["page_script"] = page_script
    return environment


def _cleaned(value: object) -> object:
    # Exactly str: Markup is a str whose HTML is already safe and must stay Markup.
    return text.clean(value) if type(value) is str else value
