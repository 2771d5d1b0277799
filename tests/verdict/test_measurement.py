"""Measurements hold plain values, refuse contradictions, and survive JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_eval.verdict.measurement import Measurement, format_number, worst
from clip_eval.verdict.plain_values import decode_float, encode_float, plain

VALUES: dict[str, object] = {
    "name": "logits",
    "error": 0.5,
    "bound": 1.0,
    "required": 0.5,
    "budget": "whole_model",
    "worst_index": (2, 4),
    "observed": "1.5",
    "expected": "1.0",
    "passed": True,
}


def measurement(**changes: object) -> Measurement:
    """A passing measurement, with changes."""
    return Measurement(**{**VALUES, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "module",
    ["verdict.measurement", "verdict.run_record", "verdict.reasons", "verdict.decide", "report.html", "report.junit"],
)
def test_imports_no_numeric_library(module: str) -> None:
    """The module imports neither torch nor NumPy nor transformers, and no renderer's or validator's library either."""
    heavy = ("torch", "numpy", "transformers", "jinja2", "jsonschema")
    code = f"import sys, clip_eval.{module}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("error", [math.nan, math.inf, -math.inf])
def test_non_finite_numbers_travel_as_strings(error: float) -> None:
    """NaN and the infinities are strings in JSON and the same floats after it."""
    text = measurement(error=error, required=None, passed=False).to_json()
    assert json.loads(text)["error"] == str(error)
    assert "\n" not in text
    returned = Measurement.from_json(text).error
    assert returned is not None
    assert str(returned) == str(error)


def test_numpy_scalars_become_plain_values() -> None:
    """NumPy scalars, those that inherit from float and str too, are held as plain Python values."""
    held = measurement(
        name=np.str_("logits"),
        error=np.float64(0.5),
        bound=np.float32(1.0),
        worst_index=(np.int64(2), 4),
        passed=np.bool_(True),
    )
    assert held == measurement()
    index = held.worst_index or ()
    kinds = [type(value) for value in (held.name, held.error, held.bound, index[0], held.passed)]
    assert kinds == [str, float, float, int, bool]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("error", "0.5"),
        ("error", True),
        ("bound", [1.0]),
        ("name", None),
        ("name", 3),
        ("observed", 1.5),
        ("unit", 3),
        ("worst_index", 3),
        ("worst_index", (0.5,)),
        ("worst_index", (True,)),
        ("passed", 1),
        ("passed", None),
    ],
)
def test_refuses_other_types(field: str, value: object) -> None:
    """A field that is not of its plain type is refused by name, not converted."""
    with pytest.raises(TypeError, match=field):
        measurement(**{field: value})


@pytest.mark.parametrize(
    "changes",
    [
        {"error": math.nan},
        {"error": math.inf, "bound": math.inf},
        {"bound": math.nan},
        {"bound": math.inf},
        {"error": math.nan, "bound": None},
        {"error": 1.0000001},
        {"error": -0.5},
    ],
    ids=str,
)
def test_a_contradiction_cannot_pass(changes: dict[str, object]) -> None:
    """NaN, an infinite bound and an error outside its bound cannot be recorded as passed."""
    with pytest.raises(ValueError, match="cannot have passed"):
        measurement(**changes)
    assert not measurement(**changes, passed=False).passed


def test_a_structure_passes_without_numbers() -> None:
    """A judgement without a distance has neither error nor bound, and no ratio."""
    assert measurement(error=None, bound=None, required=None, worst_index=None).ratio is None


@pytest.mark.parametrize(
    ("error", "bound", "expected"),
    [
        (0.5, 1.0, 0.5),
        (3.0, 1.0, 3.0),
        (0.0, 0.0, 0.0),
        (1e-9, 0.0, math.inf),
        (math.nan, 1.0, math.inf),
        (1.0, math.nan, math.inf),
        (math.inf, 1.0, math.inf),
    ],
)
def test_ratio(error: float, bound: float, expected: float) -> None:
    """Error over bound is infinite where the two cannot be compared, and 0 for an exact match."""
    assert measurement(error=error, bound=bound, required=None, passed=False).ratio == expected


def test_worst_is_the_gravest() -> None:
    """A failed measurement outweighs a passed one, then the larger ratio; no measurement has no worst."""
    near, far = measurement(error=0.9), measurement(error=0.1)
    broken = measurement(error=None, bound=None, passed=False)
    assert worst([far, near]) is near
    assert worst([near, broken]) is broken
    assert worst([]) is None


def test_from_json_refuses_other_json() -> None:
    """A list, an unknown field and a missing field are no measurement."""
    with pytest.raises(TypeError, match="JSON object"):
        Measurement.from_json("[]")
    with pytest.raises(TypeError):
        Measurement.from_data({**measurement().to_data(), "extra": 1})
    with pytest.raises(TypeError):
        Measurement.from_data({"name": "logits"})


def test_is_frozen_and_pickles() -> None:
    """A measurement cannot be changed, and goes through a process pool."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        measurement().error = 0.0  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(measurement())) == measurement()


_NUMBERS = st.none() | st.floats(allow_nan=False)


@settings(derandomize=True, deadline=None)
@given(error=_NUMBERS, bound=_NUMBERS, observed=st.text(), index=st.none() | st.lists(st.integers()).map(tuple))
def test_json_round_trip(
    error: float | None, bound: float | None, observed: str, index: tuple[int, ...] | None
) -> None:
    """Every measurement that can be made comes back equal from its JSON."""
    made = measurement(error=error, bound=bound, observed=observed, worst_index=index, passed=False)
    assert Measurement.from_json(made.to_json()) == made


def test_plain_sorts_unwraps_and_refuses() -> None:
    """Plain values are sorted mappings, tuples and finite numbers; anything else is refused."""
    assert plain({"b": [np.float32(0.5), math.inf], "a": None}) == {"a": None, "b": (0.5, "inf")}
    assert list({"b": 1, "a": 2}) != list(plain({"b": 1, "a": 2}))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not a plain JSON value"):
        plain({"a": object()})
    with pytest.raises(TypeError, match="key"):
        plain({1: "a"})


def test_float_codec_refuses_other_words() -> None:
    """Only the three words stand for a number."""
    assert [encode_float(value) for value in (1.5, math.inf, None)] == [1.5, "inf", None]
    assert decode_float("-inf") == -math.inf
    with pytest.raises(TypeError):
        decode_float("1.5")


def test_format_number() -> None:
    """Numbers for people have as many significant digits as asked for; None is a word."""
    assert [format_number(value) for value in (None, 0.0, 1.3146e-5, math.nan)] == ["none", "0", "1.31e-05", "nan"]
    assert format_number(0.98123, digits=4) == "0.9812"
