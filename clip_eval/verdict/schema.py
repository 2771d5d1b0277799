"""The JSON Schemas that ship with the package."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator
    from jsonschema_rs import Draft202012Validator as Validator

__all__ = ["fault"]

_LOOKED_AT = 1_000  # schema errors, of which the gravest is reported
_SHOWN = 200  # characters of a validator's message; it may quote a whole document


def fault(data: object, *, package: str, schema: str) -> str | None:
    """Place and message of the gravest schema error, such as "files: 'sha256' is a required property".

    Args:
        data: parsed JSON.
        package: dotted name of the package that the schema lies in.
        schema: its file name.

    Returns:
        None if `data` is valid.
    """
    # imported here, as pytest loads the plugin in every run and few validate anything
    if _quick(package, schema).is_valid(data):
        return None
    from jsonschema.exceptions import best_match

    error = best_match(islice(_validator(package, schema).iter_errors(data), _LOOKED_AT))
    if error is None:
        return None
    place = error.json_path.removeprefix("$").removeprefix(".") or "the top level"
    return f"{place}: {_shortened(error.message)}"


@cache
def _quick(package: str, schema: str) -> Validator:
    """Says yes or no thirty times as fast as the other one, which finds the words for a no."""
    from jsonschema_rs import Draft202012Validator

    return Draft202012Validator(_read(package, schema))


@cache
def _validator(package: str, schema: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(_read(package, schema))


def _read(package: str, schema: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((files(package) / schema).read_text(encoding="utf-8"))
    return parsed


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]} ... {text[-_SHOWN // 2 :]}"
