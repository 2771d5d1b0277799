"""What a check measured, as one plain value that survives processes and JSON.

Measurements leave a test through pytest's `user_properties`. A NumPy scalar there ends an xdist run, and JSON has no
infinity: a measurement holds plain Python values only, and writes non-finite floats as "nan", "inf", "-inf".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import cast

from clip_eval.verdict.plain_values import Json, _number, _text, _unwrap, decode_float, plain

__all__ = ["EXACT_RULE", "Measurement", "format_number", "worst"]

EXACT_RULE = "exactly equal"
"""The budget of comparisons without a tolerance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One judged number or structure of one check, recorded on passes too.

    Args:
        name: what was measured, unique within its check.
        error: distance of observed from expected at the worst element; None if it is not numeric.
        bound: the largest error allowed at that element; None if it is not numeric.
        required: the bound that would have passed; None if none would.
        budget: name of the rule behind the bound.
        worst_index: index of the worst element; None where there is no element, () for a scalar.
        observed: the worst element as the subject gave it.
        expected: the worst element as it should be.
        passed: the judgement of `compare`.
        unit: unit of error and bound; None for a dimensionless number.

    Raises:
        TypeError: a field is not, and has no `item()` that gives, the plain type it should have.
        ValueError: the measurement passed although error or bound is not finite, or the error lies outside 0 to bound.
    """

    name: str
    error: float | None
    bound: float | None
    required: float | None
    budget: str
    worst_index: tuple[int, ...] | None
    observed: str
    expected: str
    passed: bool
    unit: str | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _PLAIN_FIELD[str(field.type)](getattr(self, field.name), field.name))
        if self.passed and not self._may_pass():
            raise ValueError(f"{self.name}: error {self.error} against bound {self.bound} cannot have passed")

    def _may_pass(self) -> bool:
        numbers = [value for value in (self.error, self.bound) if value is not None]
        if not all(map(math.isfinite, numbers)):
            return False
        return self.error is None or self.bound is None or 0 <= self.error <= self.bound

    @property
    def ratio(self) -> float | None:
        """Error over bound: above 1 is outside, NaN counts as infinite; None if error or bound is None."""
        if self.error is None or self.bound is None:
            return None
        if math.isnan(self.error) or math.isnan(self.bound):
            return math.inf
        if self.bound <= 0 or math.isinf(self.error):
            return 0.0 if self.error <= self.bound else math.inf
        return self.error / self.bound

    def to_data(self) -> dict[str, Json]:
        """The measurement as a JSON object; non-finite floats are strings."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_data(cls, data: Mapping[str, Json]) -> Measurement:
        """The measurement that `to_data` described. Raises TypeError or ValueError for anything else."""
        values = {**data, **{name: decode_float(data.get(name)) for name in ("error", "bound", "required")}}
        return cls(**cast("dict[str, object]", values))  # type: ignore[arg-type] # __post_init__ checks every field

    def to_json(self) -> str:
        """The measurement as one line of JSON."""
        return json.dumps(self.to_data(), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Measurement:
        """The measurement that `to_json` wrote. Raises TypeError or ValueError for anything else."""
        data = json.loads(text)
        if not isinstance(data, dict):
            raise TypeError(f"a measurement is a JSON object, not {type(data).__name__}")
        return cls.from_data(data)


def worst(measurements: Iterable[Measurement]) -> Measurement | None:
    """The most telling measurement: failed before passed, then the largest error over bound."""
    return max(measurements, key=_severity, default=None)


def format_number(value: float | None, *, digits: int = 3) -> str:
    """The number in `digits` significant digits; "none" for None."""
    return "none" if value is None else f"{value:.{digits}g}"


def _severity(measurement: Measurement) -> tuple[bool, float]:
    ratio = measurement.ratio
    return (not measurement.passed, -1.0 if ratio is None else ratio)


def _optional_text(value: object, name: str) -> str | None:
    return None if value is None else _text(value, name)


def _flag(value: object, name: str) -> bool:
    value = _unwrap(value)
    if not isinstance(value, bool):
        raise TypeError(f"{name} is a bool, not {type(value).__name__}")
    return value


def _index(value: object, name: str) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{name} is a tuple of int or None, not {type(value).__name__}")
    return tuple(_integer(item, name) for item in value)


def _integer(value: object, name: str) -> int:
    value = _unwrap(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} holds ints, not {type(value).__name__}")
    return int(value)


_PLAIN_FIELD = {
    "str": _text,
    "float | None": _number,
    "tuple[int, ...] | None": _index,
    "bool": _flag,
    "str | None": _optional_text,
}
