"""Comparison: what passes, what does not, and which element is named."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clip_eval.verdict.budgets import Budget
from clip_eval.verdict.compare import Compare, Expected, Mismatch, agrees, to_array
from clip_eval.verdict.measurement import Measurement


@pytest.fixture
def recorded() -> list[Measurement]:
    """What the comparison under test handed over."""
    return []


@pytest.fixture
def compare(recorded: list[Measurement]) -> Compare:
    """A comparison that records into `recorded`."""
    return Compare(recorded.append)


def expected(value: Any, bound: Any, rule: str = "a rule") -> Expected:
    """Expected values with a bound that is broadcast to their shape."""
    array = np.asarray(value, dtype=np.float64)  # any shape
    return Expected(array, np.broadcast_to(np.asarray(bound, dtype=np.float64), array.shape).copy(), rule)


def test_a_pass_is_recorded_with_its_numbers(compare: Compare, recorded: list[Measurement]) -> None:
    """A passing comparison leaves error, bound, rule, worst index and both values."""
    compare.close(np.array([1.0, 2.5]), expected([1.0, 2.0], 1.0), name="values")
    (measurement,) = recorded
    assert measurement.passed
    assert (measurement.error, measurement.bound, measurement.required) == (0.5, 1.0, 0.5)
    assert (measurement.worst_index, measurement.budget) == ((1,), "a rule")
    assert (measurement.observed, measurement.expected) == ("2.5", "2")


def test_a_mismatch_is_recorded_and_raised(compare: Compare, recorded: list[Measurement]) -> None:
    """A failing comparison is recorded, not passed, and the exception carries the measurement and the module."""
    with pytest.raises(Mismatch) as caught:
        compare.close(np.array([3.0]), expected([1.0], 1.0), name="values", module="a.module")
    assert recorded == [caught.value.measurement]
    assert not recorded[0].passed
    assert caught.value.diverges_at == "a.module"
    assert isinstance(caught.value, AssertionError)


def test_an_error_equal_to_its_bound_passes(compare: Compare) -> None:
    """The bound is the largest error that passes."""
    compare.close(np.array([1.5]), expected([1.0], 0.5), name="values")
    with pytest.raises(Mismatch):
        compare.close(np.array([np.nextafter(1.5, 2.0)]), expected([1.0], 0.5), name="values")


def test_the_worst_element_is_worst_against_its_own_bound(compare: Compare, recorded: list[Measurement]) -> None:
    """The worst element fills or exceeds its own bound the most; the largest error may lie elsewhere."""
    bounds = np.array([[10.0, 0.1], [1.0, 1.0]])  # (rows, columns)
    compare.close(np.array([[5.0, 0.09], [0.5, 0.0]]), expected(np.zeros((2, 2)), bounds), name="values")
    assert recorded[0].worst_index == (0, 1)
    assert recorded[0].error == 0.09


@pytest.mark.parametrize("observed", [math.nan, math.inf, -math.inf])
def test_non_finite_values_fail(compare: Compare, recorded: list[Measurement], observed: float) -> None:
    """NaN and infinities lie outside of any bound, and the element is named even beside a large finite error."""
    with pytest.raises(Mismatch):
        compare.close(np.array([900.0, 0.0, observed]), expected(np.zeros(3), 1.0), name="values")
    assert recorded[0].worst_index == (2,)
    assert recorded[0].observed == f"{observed:.9g}"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_values_never_match_each_other(compare: Compare, value: float) -> None:
    """NaN equals nothing, and an expected infinity is met by nothing: both say that something broke before."""
    with pytest.raises(Mismatch):
        compare.close(np.array([value]), expected([value], 1.0), name="values")
    with pytest.raises(Mismatch):
        compare.equal(np.array([value]), np.array([value]), name="values")


@pytest.mark.parametrize("bound", [math.nan, math.inf])
def test_a_bound_that_is_no_number_lets_nothing_pass(compare: Compare, bound: float) -> None:
    """A bound of NaN or infinity is a defect of the expectation, not a wide tolerance."""
    with pytest.raises(Mismatch):
        compare.close(np.array([0.5]), expected([0.0], bound), name="values")
    with pytest.raises(Mismatch):
        compare.close(np.array([0.9, 0.5]), expected([0.0, 0.0], [1.0, bound]), name="values")


def test_errors_beyond_the_range_of_float64_fail_without_a_warning(compare: Compare) -> None:
    """A quotient of error and bound that overflows is a failure like any other."""
    with pytest.raises(Mismatch):
        compare.close(np.array([1e300]), expected([-1e300], 1e-300), name="values")


def test_zero_bounds_mean_equality(compare: Compare, recorded: list[Measurement]) -> None:
    """Where the bound is zero only equality passes; the smallest difference is found beside wide bounds."""
    bounds = np.array([0.0, 100.0])  # (elements,)
    compare.close(np.array([1.0, 50.0]), expected([1.0, 0.0], bounds), name="values")
    with pytest.raises(Mismatch):
        compare.close(np.array([np.nextafter(1.0, 2.0), 50.0]), expected([1.0, 0.0], bounds), name="values")
    assert recorded[1].worst_index == (0,)


@pytest.mark.parametrize("shape", [(3,), (1, 2), (2, 1), (1,), ()])
def test_shapes_are_never_broadcast(compare: Compare, recorded: list[Measurement], shape: tuple[int, ...]) -> None:
    """Another shape fails even where broadcasting would make the values equal."""
    with pytest.raises(Mismatch):
        compare.close(np.zeros(shape), expected(np.zeros(2), 1.0), name="values")
    assert recorded[0].name == "shape of values"
    assert recorded[0].observed == f"shape {shape}"
    assert recorded[0].error is None


@pytest.mark.parametrize("shape", [(0,), (3, 0)])
def test_empty_arrays_fail(compare: Compare, shape: tuple[int, ...]) -> None:
    """Nothing passes by absence: an array without elements shows nothing."""
    with pytest.raises(Mismatch):
        compare.close(np.zeros(shape), expected(np.zeros(shape), 1.0), name="values")
    with pytest.raises(Mismatch):
        compare.equal(np.zeros(shape), np.zeros(shape), name="values")


def test_only_elements_of_the_mask_count(compare: Compare, recorded: list[Measurement]) -> None:
    """Elements outside of `where` may be anything, NaN too; the worst is chosen among the others."""
    observed = np.array([[0.1, 0.2], [math.nan, 9.0]])  # (rows, columns)
    mask = np.array([[True], [False]])  # (rows, 1)
    compare.close(observed, expected(np.zeros((2, 2)), 1.0), name="values", where=mask)
    assert recorded[0].worst_index == (0, 1)
    with pytest.raises(Mismatch):
        compare.close(observed, expected(np.zeros((2, 2)), 1.0), name="values", where=~mask)


def test_a_mask_without_a_row_fails(compare: Compare) -> None:
    """A mask that leaves nothing to compare fails: it would pass anything."""
    with pytest.raises(Mismatch):
        compare.close(np.zeros(2), expected(np.zeros(2), 1.0), name="values", where=np.zeros(2, dtype=bool))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int64", "bool"])
def test_tensors_compare_by_value(compare: Compare, dtype: str) -> None:
    """Tensors of every dtype compare by their exact values, whatever they require or lie in."""
    import torch

    tensor = torch.tensor([0.0, 1.0]).to(getattr(torch, dtype))
    if tensor.is_floating_point():
        tensor.requires_grad_()
    compare.equal(tensor, np.array([0.0, 1.0]), name="values")
    with pytest.raises(Mismatch):
        compare.equal(tensor, np.array([1.0, 1.0]), name="values")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_becomes_float64_exactly(dtype: str) -> None:
    """Every finite 16 bit number keeps its value on the way to float64."""
    import torch

    tensor = torch.tensor([1 / 3, 1e-5, 200.0, -0.1]).to(getattr(torch, dtype))
    array = to_array(tensor)
    assert array.dtype == np.float64
    assert torch.equal(torch.from_numpy(array).to(tensor.dtype), tensor)


def test_scalars_have_the_empty_index(compare: Compare, recorded: list[Measurement]) -> None:
    """A scalar's worst element is at index ()."""
    compare.within(np.asarray(1.25), np.asarray(1.0), Budget("a rule", 0.5), name="loss")
    assert recorded[0].worst_index == ()
    assert recorded[0].bound == 0.5


def test_within_holds_every_element_to_one_bound(compare: Compare, recorded: list[Measurement]) -> None:
    """`within` takes the budget's bound for every element and its rule for the record."""
    compare.within(np.array([0.4, -0.5]), np.zeros(2), Budget("a rule", 0.5), name="values")
    assert (recorded[0].worst_index, recorded[0].budget) == ((1,), "a rule")
    with pytest.raises(Mismatch):
        compare.within(np.array([0.6, 0.0]), np.zeros(2), Budget("a rule", 0.5), name="values")


@pytest.mark.parametrize(
    ("observed", "value"),
    [(1, True), (1, 1.0), ((1,), [1]), (None, ()), ("1", 1), ({"a": 1}, {"a": 2}), (["a", "b"], ["b", "a"])],
    ids=repr,
)
def test_plain_values_differ_by_type_too(
    compare: Compare, recorded: list[Measurement], observed: object, value: object
) -> None:
    """Plain values are equal only with the same type, and a failure has no number."""
    with pytest.raises(Mismatch):
        compare.equal(observed, value, name="values")
    assert recorded[0].required is None
    assert recorded[0].observed != recorded[0].expected


@pytest.mark.parametrize("value", [None, (), True, 3, "text", [1, 2], {"a": None}], ids=repr)
def test_equal_plain_values_pass(compare: Compare, recorded: list[Measurement], value: object) -> None:
    """A plain value equals itself, and the pass is recorded."""
    compare.equal(value, value, name="values")
    assert recorded[0].passed


@pytest.mark.parametrize(
    ("observed", "value"), [(np.zeros(2), [0.0, 0.0]), (None, np.zeros(2)), ((0.0,), np.zeros(1))], ids=str
)
def test_an_array_and_something_else_differ(compare: Compare, observed: Any, value: Any) -> None:
    """An array never equals a plain value, and None in the place of an array is a mismatch, not a crash."""
    with pytest.raises(Mismatch):
        compare.equal(observed, value, name="values")


@pytest.mark.parametrize("observed", [None, (), "text", [1.0]], ids=repr)
def test_close_names_what_is_no_array(compare: Compare, recorded: list[Measurement], observed: object) -> None:
    """Where the subject gave no array, the mismatch says what it gave and which shape was expected."""
    with pytest.raises(Mismatch):
        compare.close(observed, expected(np.zeros((2, 3)), 1.0), name="values")
    assert type(observed).__name__ in recorded[0].observed
    assert "(2, 3)" in recorded[0].expected


def test_equal_arrays_agree_in_every_bit(compare: Compare) -> None:
    """Equality has no tolerance: one unit in the last place of one element fails."""
    values = np.linspace(-1.0, 1.0, 12).reshape(3, 4)  # (rows, columns)
    compare.equal(values, values.copy(), name="values")
    changed = values.copy()
    changed[1, 2] = np.nextafter(changed[1, 2], 2.0)
    with pytest.raises(Mismatch):
        compare.equal(changed, values, name="values")


def test_agreement_is_judged_without_a_record() -> None:
    """`agrees` has the same idea of shape, bound, NaN and mask as a comparison, and neither records nor raises."""
    bounded = expected(np.zeros(2), 1.0)
    assert agrees(np.array([1.0, -1.0]), bounded)
    assert not agrees(np.array([1.5, 0.0]), bounded)
    assert not agrees(np.zeros(3), bounded)
    assert not agrees(np.array([math.nan, 0.0]), bounded)
    assert agrees(np.array([math.nan, 0.0]), bounded, where=np.array([False, True]))


def test_fail_records_a_structural_difference(compare: Compare, recorded: list[Measurement]) -> None:
    """`fail` records and raises what no comparison of values can say."""
    with pytest.raises(Mismatch):
        compare.fail("no exception", "a ValueError", name="call", module="a.module")
    assert (recorded[0].observed, recorded[0].expected) == ("no exception", "a ValueError")


def test_long_values_are_cut(compare: Compare, recorded: list[Measurement]) -> None:
    """A value as long as a page is cut in the record, where it says that it is."""
    with pytest.raises(Mismatch):
        compare.equal("a" * 1000, "b" * 1000, name="values")
    assert len(recorded[0].observed) <= 400
    assert recorded[0].observed.endswith("...")


def test_expected_values_can_be_sliced_and_transposed() -> None:
    """Slices and the transpose take the bounds along."""
    value: NDArray[np.float64] = np.arange(6.0).reshape(2, 3)  # (rows, columns)
    pair = Expected(value, value / 10, "a rule")
    assert np.array_equal(pair[:1].bound, value[:1] / 10)
    assert np.array_equal(pair.transposed.value, value.T)
    assert np.array_equal(pair.transposed.bound, value.T / 10)
    assert pair[:1].rule == pair.transposed.rule == "a rule"
