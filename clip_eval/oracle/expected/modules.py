"""Expected input and output of every module of a tower, when each module is given exact inputs.

Teacher forcing (Williams and Zipser, A Learning Algorithm for Continually Running Fully Recurrent Neural Networks,
1989): an error in one module does not reach the next, so each is judged by its own rounding error alone, not amplified
by the rest of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clip_eval.checkpoint.dtypes import round_values
from clip_eval.oracle import EXACT, Arithmetic, Observer
from clip_eval.oracle.precision import Precision
from clip_eval.oracle.rounding import RoundingArithmetic, error_variance, pooled_deviation, tile
from clip_eval.probes.batches import SEED
from clip_eval.verdict.budgets import FORCED_COPIES, FORCED_SIGMAS
from clip_eval.verdict.compare import Expected

__all__ = ["ExpectedModules", "Point", "expect_modules"]

Array = NDArray[np.float64]
Run = Callable[[Arithmetic, slice, int, Observer], object]
"""Runs a tower over some rows of a batch, copy after copy, with an observer."""


@dataclass(frozen=True, slots=True)
class Point:
    """A value that is compared: an input or output of one module.

    Attributes:
        module: a module by its name in the checkpoint.
        what: "input" (the value computed for the module, before the oracle's replaces it) or "output"; for a tower also
            "last_hidden_state" or "pooler_output".
    """

    module: str
    what: str

    @property
    def is_shared(self) -> bool:
        """True for a table of positions: (tokens, width), the same for every row."""
        return self.module.endswith(".position_embedding")

    def __str__(self) -> str:
        return f"{self.what} of {self.module}"


@dataclass(frozen=True, slots=True)
class ExpectedModules:
    """Expected values at the points of a tower, in the order of computation.

    Attributes:
        points: value and bound by point; rows come first, then tokens where there are any.
        dtype: what values are rounded to when they are given to a module.
    """

    points: Mapping[Point, Expected]
    dtype: str

    def input_of(self, module: str) -> NDArray[np.float32] | None:
        """Return the expected input of a module, rounded to the dtype; None if its input is not replaced."""
        expected = self.points.get(Point(module, "input"))
        return None if expected is None else round_values(expected.value, self.dtype)

    def output_of(self, module: str) -> NDArray[np.float32]:
        """Return the expected output of a module, rounded to the dtype."""
        return round_values(self.points[Point(module, "output")].value, self.dtype)

    def of(self, module: str) -> ExpectedModules:
        """Return the points of one module."""
        return ExpectedModules(
            {point: each for point, each in self.points.items() if point.module == module}, self.dtype
        )

    @property
    def row_count(self) -> int:
        """How many rows there are."""
        return max((len(each.value) for point, each in self.points.items() if not point.is_shared), default=0)

    def rows(self, count: int) -> ExpectedModules:
        """Return the first `count` rows. Position embeddings have none, every row shares them."""
        return self._cut(lambda point, expected: expected if point.is_shared else expected[:count])

    def tokens(self, count: int) -> ExpectedModules:
        """Return the first `count` tokens of a causal tower, without what is pooled from later ones."""
        per_token = {point: each for point, each in self.points.items() if each.value.ndim == 3 or point.is_shared}
        return ExpectedModules(per_token, self.dtype)._cut(
            lambda point, expected: expected[:count] if point.is_shared else expected[:, :count]
        )

    def _cut(self, cut: Callable[[Point, Expected], Expected]) -> ExpectedModules:
        """Cut every value once, so that points which share a value still share it."""
        cut_by_id: dict[int, Expected] = {}
        for point, expected in self.points.items():
            if id(expected) not in cut_by_id:
                cut_by_id[id(expected)] = cut(point, expected)
        return ExpectedModules({point: cut_by_id[id(each)] for point, each in self.points.items()}, self.dtype)

    @property
    def size_bytes(self) -> int:
        """Memory of the values and bounds; a value shared by several points counts once."""
        arrays = {id(one): one.nbytes for each in self.points.values() for one in (each.value, each.bound)}
        return sum(arrays.values())


def expect_modules(run: Run, *, rows: int, precision: Precision, rule: str) -> ExpectedModules:
    """Return expected value and bound of every point.

    The oracle runs once exactly, each module on its input rounded to the subject's dtype, then several times with
    rounding errors, each module on its exact input. The difference at a point is then the error of one module, and the
    bound is `FORCED_SIGMAS` of its standard deviation.

    Args:
        run: runs the tower.
        rows: the first ones of its batch.
        precision: how the subject computes.
        rule: name of the bounds.
    """
    exact = _Exact(precision.dtype)
    run(EXACT, slice(rows), 1, exact)
    errors = _Errors(exact, precision)
    for row in range(rows):
        errors.row = row
        generator = np.random.Generator(np.random.PCG64([SEED, row]))
        run(_SameInputs(precision, FORCED_COPIES, generator), slice(row, row + 1), FORCED_COPIES, errors)
    # One module's output and the next one's input are the same array, which is bounded once.
    bounded = {
        id(value): Expected(value, FORCED_SIGMAS * pooled_deviation(errors.variances.pop(id(value))), rule)
        for value in {id(value): value for value in exact.values.values()}.values()
    }
    return ExpectedModules({point: bounded[id(value)] for point, value in exact.values.items()}, precision.dtype)


class _SameInputs(RoundingArithmetic):
    """Rounding errors for equal copies of a module's input: the exact product is computed once for all of them."""

    __slots__ = ()

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        first = self._first(x)  # (rows, ..., in)
        exact = tile(Arithmetic.linear(self, first, weight, bias), self.copies)  # (copies * rows, ..., out)
        return self._product(exact, first, weight.T, tf32=self.precision.tf32_products)

    def activation(self, x: Array, name: str) -> Array:
        first = self._first(x)  # (rows, ..., width)
        exact = Arithmetic.activation(self, first, name)  # (rows, ..., width)
        error = self._activation_error(first, exact, name)  # (rows, ..., width)
        return self._noisy(tile(exact, self.copies), error)


@dataclass(slots=True)
class _Exact:
    """Observes the exact run: rounds each module's input to the subject's dtype, and keeps all values."""

    dtype: str
    values: dict[Point, Array] = field(default_factory=dict)

    def enters(self, module: str, x: Array) -> Array:
        self.values[Point(module, "input")] = x  # (rows, ...)
        return round_values(x, self.dtype).astype(np.float64)

    def leaves(self, module: str, y: Array, what: str) -> None:
        self.values[Point(module, what)] = y  # (rows, ...)


@dataclass(slots=True)
class _Errors:
    """Observes the perturbed runs, row by row: replaces each module's input with the exact one, and keeps mean squares
    of the errors by the id of the exact array.
    """

    exact: _Exact
    precision: Precision
    row: int = 0
    variances: dict[int, Array] = field(default_factory=dict)
    _recorded: set[tuple[int, int]] = field(default_factory=set)

    def enters(self, module: str, x: Array) -> Array:
        value = self._record(Point(module, "input"), x)  # (1, ...)
        return tile(round_values(value, self.precision.dtype).astype(np.float64), FORCED_COPIES)

    def leaves(self, module: str, y: Array, what: str) -> None:
        self._record(Point(module, what), y)

    def _record(self, point: Point, observed: Array) -> Array:
        """Record the errors at a point and return the exact value of the row, (1, ...)."""
        value = self.exact.values[point]  # (rows, ...)
        if point.is_shared:
            self.variances[id(value)] = np.zeros_like(value)  # (tokens, width), read and never computed
            return value
        mine = value[self.row : self.row + 1]  # (1, ...)
        if (id(value), self.row) not in self._recorded:
            self._recorded.add((id(value), self.row))
            variances = self.variances.setdefault(id(value), np.zeros_like(value))  # (rows, ...)
            variances[self.row] = self._variance(mine, observed)[0]
        return mine

    def _variance(self, value: Array, observed: Array) -> Array:
        """Mean squares of the errors of one row, at least that of storing the value: errors of equal size, such as a
        product's and that of its sum with a smaller residual, can cancel in every copy.
        """
        variance = error_variance(value, observed, FORCED_COPIES)  # (1, ...)
        return np.maximum(variance, np.square(self.precision.storing(value))) if variance.any() else variance
