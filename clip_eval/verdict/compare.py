"""Observed against expected: the only place that judges a number.

A `Compare` records one `Measurement` a call, on passes too, and raises `Mismatch` if it does not hold. Checks compare
along the network, so that the first mismatch names the first module that diverges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from clip_eval.verdict.budgets import Budget
from clip_eval.verdict.measurement import EXACT_RULE, Measurement

__all__ = ["EXACT_RULE", "Compare", "Expected", "Mismatch", "Numbers", "agrees", "to_array"]


@dataclass(frozen=True, slots=True)
class Expected:
    """Expected values of an array.

    Attributes:
        value: float64 array.
        bound: float64 array of the same shape: the largest absolute error that passes, elementwise.
        rule: name of the budget behind the bound.
    """

    value: NDArray[np.float64]
    bound: NDArray[np.float64]
    rule: str

    def __getitem__(self, index: Any) -> Expected:
        """Select rows of value and bound."""
        return Expected(self.value[index], self.bound[index], self.rule)

    @property
    def transposed(self) -> Expected:
        """The transpose, for logits."""
        return Expected(self.value.T, self.bound.T, self.rule)


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """A compared array or tensor, with value and bound, and the elements that count (None: all of them)."""

    observed: Any
    expected: Expected
    where: NDArray[np.bool_] | None


class Mismatch(AssertionError):
    """An observation that differs from what is expected.

    Attributes:
        measurement: what was measured.
        diverges_at: module path in the checkpoint's names, where the comparison knows it.
        numbers: the compared arrays; None for plain values.
    """

    def __init__(self, measurement: Measurement, diverges_at: str | None, numbers: Numbers | None = None) -> None:
        super().__init__(f"{measurement.name}: observed {measurement.observed}, expected {measurement.expected}")
        self.measurement = measurement
        self.diverges_at = diverges_at
        self.numbers = numbers


@dataclass(frozen=True, slots=True)
class Compare:
    """Judges the observations of one check and hands each measurement to `record`."""

    record: Callable[[Measurement], None]

    def equal(self, observed: Any, expected: Any, *, name: str, module: str | None = None) -> None:
        """Demand equality: of plain values, or of arrays in shape and every element, bit for bit (NaN equals nothing).

        Args:
            observed: a plain value, an array or a tensor.
            expected: the same.
            name: what is compared, as reports print it.
            module: the module that a mismatch points at.
        """
        __tracebackhide__ = True
        if not (_is_array(observed) or _is_array(expected)):
            self._judge(_plain_measurement(observed, expected, name), module)
            return
        if not (_is_array(observed) and _is_array(expected)):
            self._judge(_structural(_describe(observed), _describe(expected), name), module)
            return
        # one element of equal arrays is enough; tables of a large model would take gigabytes
        if len(observed.shape) > 0 and _is_same(observed, expected):
            first = (slice(0, 1),) * len(observed.shape)
            observed, expected = observed[first], expected[first]
        value = to_array(expected)
        self.close(observed, Expected(value, np.zeros_like(value), EXACT_RULE), name=name, module=module)

    def within(self, observed: Any, expected: Any, budget: Budget, *, name: str, module: str | None = None) -> None:
        """Demand that no element differs from `expected` by more than the scalar bound of `budget`."""
        __tracebackhide__ = True
        value = to_array(expected)
        self.close(observed, Expected(value, np.full_like(value, budget.bound), budget.rule), name=name, module=module)

    def close(
        self,
        observed: Any,
        expected: Expected,
        *,
        name: str,
        where: NDArray[np.bool_] | None = None,
        module: str | None = None,
    ) -> None:
        """Demand the expected shape, finite numbers, and every element within its bound.

        Args:
            observed: an array or tensor.
            expected: value, elementwise bound and rule.
            name: what is compared, as reports print it.
            where: elements that count, broadcast to the shape (real rows only); all by default.
            module: the module that a mismatch points at.
        """
        __tracebackhide__ = True
        if not _is_array(observed):
            self._judge(_structural(_describe(observed), _describe(expected.value), name), module)
            return
        value = to_array(observed)
        if value.shape != expected.value.shape:
            self._judge(
                _structural(f"shape {value.shape}", f"shape {expected.value.shape}", f"shape of {name}"), module
            )
        self._judge(_worst(value, expected, where, name), module, Numbers(observed, expected, where))

    def fail(self, observed: str, expected: str, *, name: str, module: str | None = None) -> NoReturn:
        """Record a structural difference and raise."""
        measurement = _structural(observed, expected, name)
        self.record(measurement)
        raise Mismatch(measurement, module)

    def _judge(self, measurement: Measurement, module: str | None, numbers: Numbers | None = None) -> None:
        __tracebackhide__ = True
        self.record(measurement)
        if not measurement.passed:
            raise Mismatch(measurement, module, numbers)


def agrees(observed: Any, expected: Expected, *, where: NDArray[np.bool_] | None = None) -> bool:
    """Whether an array or tensor has the expected shape and every element that counts is within its bound."""
    value = to_array(observed)
    if value.shape != expected.value.shape:
        return False
    counts = np.broadcast_to(True if where is None else where, value.shape)  # the shape of value
    return bool(counts.any() and np.all(_inside(value, expected) | ~counts))


def to_array(value: Any) -> NDArray[np.float64]:
    """Return an array or tensor of any numeric dtype on any device as float64, which is exact for float32, 16 bit and
    small ints.
    """
    if hasattr(value, "detach"):
        value = value.detach().to("cpu").double().numpy()
    return np.asarray(value, dtype=np.float64)


def _is_same(one: Any, other: Any) -> bool:
    """Whether two arrays or tensors have the same shape, at least one element, and the same finite numbers."""
    left, right = _as_held(one), _as_held(other)
    return left.size > 0 and np.array_equal(left, right) and bool(np.isfinite(left).all())


def _as_held(value: Any) -> NDArray[Any]:
    """Return an array or tensor in its own dtype if NumPy has it, else in float32, which is exact for bfloat16."""
    if hasattr(value, "detach"):
        value = value.detach().to("cpu")
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    return np.asarray(value)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or hasattr(value, "detach")


def _describe(value: Any) -> str:
    if _is_array(value):
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    text = f"{type(value).__name__} {value!r}"
    return text if len(text) <= 200 else f"{text[:197]}..."


def _plain_measurement(observed: Any, expected: Any, name: str) -> Measurement:
    passed = type(observed) is type(expected) and bool(observed == expected)
    show = repr if type(observed) is type(expected) else _describe
    return Measurement(
        name=name,
        error=None,
        bound=None,
        required=None,
        budget=EXACT_RULE,
        worst_index=None,
        observed=_clipped(show(observed)),
        expected=_clipped(show(expected)),
        passed=passed,
    )


def _structural(observed: str, expected: str, name: str) -> Measurement:
    return Measurement(
        name=name,
        error=None,
        bound=None,
        required=None,
        budget=EXACT_RULE,
        worst_index=None,
        observed=_clipped(observed),
        expected=_clipped(expected),
        passed=False,
    )


def _clipped(text: str) -> str:
    return text if len(text) <= 400 else f"{text[:397]}..."


def _inside(value: NDArray[np.float64], expected: Expected) -> NDArray[np.bool_]:
    """Which elements are within their bound. NaN is never <= anything; an infinite bound is a defect."""
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(value - expected.value)  # the shape of value
    return np.asarray((error <= expected.bound) & np.isfinite(expected.bound))


def _worst(value: NDArray[np.float64], expected: Expected, where: NDArray[np.bool_] | None, name: str) -> Measurement:
    """Judge every element by its own bound; the worst one has the largest error over bound."""
    counts = np.broadcast_to(True if where is None else where, value.shape)  # the shape of value
    if not counts.any():
        return _structural("no element", "at least one element to compare", name)
    bound = expected.bound
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        error = np.abs(value - expected.value)  # the shape of value
        ratio = error / bound  # the shape of value
    inside = _inside(value, expected)  # the shape of value
    outside = np.where(np.isfinite(ratio) & np.isfinite(bound), ratio, np.inf)  # the shape of value
    excess = np.where(inside, np.where(bound > 0, ratio, 0.0), outside)  # the shape of value
    index = np.unravel_index(int(np.argmax(np.where(counts, excess, -1.0))), value.shape)
    passed = bool(np.all(inside[counts]))
    return Measurement(
        name=name,
        error=float(error[index]),
        bound=float(bound[index]),
        required=float(error[index]),
        budget=expected.rule,
        worst_index=tuple(int(i) for i in index),
        observed=f"{value[index]:.9g}",
        expected=f"{expected.value[index]:.9g}",
        passed=passed,
    )
