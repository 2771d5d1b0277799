"""Values that JSON can hold; non-finite floats become strings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias

__all__ = ["Json", "decode_float", "encode_float", "encoded", "plain", "with_floats"]

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"


_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def plain(value: object) -> Json:
    """The same value in plain JSON types: mappings sorted by key, sequences as tuples, non-finite floats as strings.

    Raises:
        TypeError: the value holds something that neither is plain nor gives a plain value by `item()`.
    """
    value = _unwrap(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return encode_float(value)
    if isinstance(value, Mapping):
        return {_text(key, "a key"): plain(value[key]) for key in sorted(value)}
    if isinstance(value, (list, tuple)):
        return tuple(plain(item) for item in value)
    raise TypeError(f"{type(value).__name__} is not a plain JSON value")


def encoded(value: object) -> Any:
    """The value as `json.dumps` takes it, in lists and dicts; a dataclass is a dict of its fields in their order."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: encoded(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, (list, tuple)):
        return [encoded(item) for item in value]
    if isinstance(value, Mapping):
        return {key: encoded(item) for key, item in plain(value).items()}  # type: ignore[union-attr] # a mapping's is a dict
    return plain(value)


def encode_float(value: float | None) -> float | str | None:
    """The float as JSON can hold it: NaN and the infinities become "nan", "inf" and "-inf"."""
    return value if value is None or math.isfinite(value) else str(value)


def decode_float(value: Json) -> float | None:
    """The float behind `encode_float`. Raises TypeError for anything but a number, its three strings, or None."""
    if isinstance(value, str) and value in _NON_FINITE:
        return _NON_FINITE[value]
    return _number(value, "a number")


def with_floats(data: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The same object with the floats behind `encode_float` under these keys. Raises TypeError as `decode_float`."""
    return {**data, **{name: decode_float(data[name]) for name in names}}


def _unwrap(value: object) -> object:
    """A NumPy or torch scalar's plain value. NumPy's float64 and str_ inherit from float and str, hence exact types."""
    if type(value) in (bool, int, float, str):
        return value
    item = getattr(value, "item", None)
    return item() if callable(item) else value


def _number(value: object, name: str) -> float | None:
    value = _unwrap(value)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a float or None, not {type(value).__name__}")
    try:
        return float(value)
    except OverflowError as problem:  # an int of more than 308 digits
        raise ValueError(f"{name} is larger than any float") from problem


def _text(value: object, name: str) -> str:
    value = _unwrap(value)
    if not isinstance(value, str):
        raise TypeError(f"{name} is a str, not {type(value).__name__}")
    return str(value)
