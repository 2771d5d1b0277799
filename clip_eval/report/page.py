"""How every HTML page is made: escaped, without control characters, complete or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clip_eval.report import text

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["page_environment"]


def page_environment(*packages: str) -> Environment:
    """Return the environment of templates in these packages and in `clip_eval.report`, which has the style sheet."""
    # imported here, as the plugin imports this package in every pytest run and few render anything
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in (*packages, "clip_eval.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_cleaned,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _cleaned(value: object) -> object:
    # Exactly str: Markup is a str whose HTML is already safe and must stay Markup.
    return text.clean(value) if type(value) is str else value
