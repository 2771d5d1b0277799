"""Path templates: a naming rule, compiled once, renders records to safe relative paths and parses paths back.

    >>> PathTemplate("{user}/{title}_{id}").render({"user": "a/b", "title": "", "id": "7_p0"}, extension="jpg")
    'a／b/_7_p0.jpg'

This folder imports nothing of the rest of the package, and neither NumPy nor torch.
"""

from __future__ import annotations

from clip_eval.paths.cleaning import clean, fold
from clip_eval.paths.errors import (
    AmbiguousPath,
    ExtensionError,
    LengthError,
    MismatchError,
    PathError,
    RecordError,
    SearchError,
    TemplateError,
)
from clip_eval.paths.fields import DIGITS, ID, ORDER, PIXIV, TAGS, TEXT, WORD, Glue, Kind, choice, flag
from clip_eval.paths.lint import Checked, Clash, Finding, Linter, PathRegistry
from clip_eval.paths.parsing.assumptions import NOTHING, USUAL, Assumptions
from clip_eval.paths.render import EXTENSIONS
from clip_eval.paths.template import PathTemplate

__all__ = [
    "DIGITS",
    "EXTENSIONS",
    "ID",
    "NOTHING",
    "ORDER",
    "PIXIV",
    "TAGS",
    "TEXT",
    "USUAL",
    "WORD",
    "AmbiguousPath",
    "Assumptions",
    "Checked",
    "Clash",
    "ExtensionError",
    "Finding",
    "Glue",
    "Kind",
    "LengthError",
    "Linter",
    "MismatchError",
    "PathError",
    "PathRegistry",
    "PathTemplate",
    "RecordError",
    "SearchError",
    "TemplateError",
    "choice",
    "clean",
    "flag",
    "fold",
]
