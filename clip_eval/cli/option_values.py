"""Callbacks of options that say at once what is wrong with a value, and what is nearest to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from clip_eval.errors import UsageError
from clip_eval.user_values import DTYPES, named, require_dtype

__all__ = ["DTYPE_NAMES", "a_dtype", "a_name", "a_place"]

DTYPE_NAMES = f"[{'|'.join(DTYPES)}]"
"""How help shows what `a_dtype` takes."""


def a_name(_: click.Context, param: click.Parameter, value: Any) -> Any:
    """Return a path, id or name as it is, or each of several. Raises UsageError where it is empty: an empty path is the
    working directory.
    """
    if isinstance(value, tuple):
        return tuple(named(each, _written(param)) for each in value)
    return None if value is None else named(value, _written(param))


def a_place(context: click.Context, param: click.Parameter, value: Any) -> Any:
    """Return the same as a path."""
    text = a_name(context, param, value)
    return None if text is None else Path(text)


def a_dtype(context: click.Context, param: click.Parameter, value: Any) -> Any:
    """Return the name of a dtype, or each of several; a misspelt one is an error with the nearest."""
    try:
        for each in value if isinstance(value, tuple) else () if value is None else (value,):
            require_dtype(each)
    except UsageError as problem:
        raise click.BadParameter(f"{problem.what}. {problem.fix}.", context, param) from problem
    return value


def _written(param: click.Parameter) -> str:
    """What a parameter is called in the help."""
    return param.opts[0] if param.param_type_name == "option" else param.human_readable_name.strip("[].")
