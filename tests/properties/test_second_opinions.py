"""What others say about rendered names, where they speak of the same thing: pathvalidate and Python's own tables."""

from __future__ import annotations

import ntpath
import sys
from pathlib import PureWindowsPath

import pathvalidate
from hypothesis import example, given
from hypothesis import strategies as st

from clip_eval.paths.cleaning import finish

from . import reference
from .strategies import DEVICES, EXTENSION, NASTY, RECORDS, TEMPLATES
from .test_render import Record, rendered


def python_says_reserved(name: str) -> bool:
    """Return whether the table of this Python has `name` as a device of Windows; `ntpath.isreserved` came with 3.13."""
    if sys.version_info >= (3, 13):
        return ntpath.isreserved(name)
    return PureWindowsPath(name).is_reserved()


@given(TEMPLATES, RECORDS, EXTENSION)
def test_others_accept_every_name(template: str, record: Record, extension: str | None) -> None:
    """The strictest platform of pathvalidate takes every name of a path. None is reserved on Windows, as Python knows
    it, and nor is the path.
    """
    path = rendered(template, record, extension)
    for name in path.split("/"):
        pathvalidate.validate_filename(name, platform="universal", max_len=255)
        assert not python_says_reserved(name)
    assert not python_says_reserved(path)


@given(st.sampled_from(DEVICES + NASTY), st.sampled_from(["", ".txt", " .txt", ".a.b", "x"]))
@example("COM0", "")
def test_devices_are_those_of_python_and_of_the_rules(head: str, rest: str) -> None:
    """Every device of Python is one of the rules, which add COM0, LPT0 and CLOCK$; no other name changes."""
    name = reference.clean(head + rest).strip()
    changed = finish(name) != name and not name.startswith(".") and not name.endswith(".")
    if python_says_reserved(name) and name.rstrip(". ") == name and not name.startswith("."):
        assert changed
    if changed:
        stem = name.split(".")[0].rstrip(" ").upper()
        assert python_says_reserved(name) or stem in ("COM0", "LPT0", "CLOCK$")
