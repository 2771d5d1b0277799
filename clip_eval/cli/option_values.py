"""Types of options whose errors name the nearest valid value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from clip_eval.errors import UsageError
from clip_eval.run.settings import OPTIONS, Option
from clip_eval.user_values import DTYPES, named, require_dtype

__all__ = ["DTYPE_NAMES", "a_dtype", "a_name", "a_place", "quiet_option", "settings_options", "settings_values"]

_F = TypeVar("_F", bound=Callable[..., Any])

DTYPE_NAMES = f"[{'|'.join(DTYPES)}]"
"""The metavar of `a_dtype`."""


def a_name(_: click.Context, param: click.Parameter, value: Any) -> Any:
    """Return a path, id or name, or several, unchanged. Raises UsageError if one is empty, as an empty path is the
    working directory.
    """
    if isinstance(value, tuple):
        return tuple(named(each, _written(param)) for each in value)
    return None if value is None else named(value, _written(param))


def a_place(context: click.Context, param: click.Parameter, value: Any) -> Any:
    """The same, as a path."""
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
    """The parameter's name in the help."""
    return param.opts[0] if param.param_type_name == "option" else param.human_readable_name.strip("[].")


quiet_option = click.option("-q", "--quiet", is_flag=True, help="Show no progress.")


def settings_options(declared: type) -> Callable[[_F], _F]:
    """Give a command the options that a TypedDict names, as `Settings` declares them."""

    def decorate(function: _F) -> _F:
        for name, option in reversed(list(OPTIONS.items())):
            if name in declared.__annotations__:
                function = _click_option(option)(function)
        return function

    return decorate


def settings_values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `Settings` from the parameters of `settings_options`."""
    by_parameter = {_parameter(option): option for option in OPTIONS.values()}
    return {by_parameter[key].setting: by_parameter[key].from_flag(value) for key, value in parameters.items()}


def _click_option(option: Option) -> Callable[[_F], _F]:
    if option.kind == "switch":
        return click.option(option.flag(), _parameter(option), is_flag=True, help=option.help)
    default = None if option.default is None else str(option.default)
    return click.option(
        option.flag(),
        _parameter(option),
        callback=a_dtype if option.kind == "dtype" else a_place if option.setting == "out" else a_name,
        default=default,
        show_default=default is not None,
        metavar=DTYPE_NAMES if option.kind == "dtype" else option.metavar,
        help=option.help,
    )


def _parameter(option: Option) -> str:
    """The option's parameter name: a switch that turns something off does not have the setting's name."""
    return option.name.replace("-", "_") if option.turns_off else option.setting
