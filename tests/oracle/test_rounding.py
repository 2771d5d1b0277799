"""Simulated rounding: each leaf's predicted error has the size that torch commits in that dtype."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clip_eval.checkpoint.dtypes import round_values
from clip_eval.oracle import EXACT, Arithmetic, rounding
from clip_eval.oracle.precision import Precision
from clip_eval.oracle.rounding import RoundingArithmetic, standard_deviation, tile
from clip_eval.verdict.budgets import COPIES, SIGMAS

Array = NDArray[np.float64]
Tiled = Callable[[Array], Array]

ROWS, WIDTH, OUT = 64, 192, 96
DTYPES = ("float32", "bfloat16", "float16")


class Operands:
    """Arrays that a dtype can hold, and the same as torch tensors."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self._generator = np.random.Generator(np.random.PCG64(0))
        self.x = self.spread(ROWS, WIDTH)  # (rows, width)
        self.weight = self.spread(OUT, WIDTH, size=WIDTH**-0.5)  # (out, width)
        self.bias = self.spread(OUT)  # (out,)
        self.gain = self.spread(WIDTH, size=0.2, about=1.0)  # (width,)
        self.shift = self.spread(WIDTH, size=0.2)  # (width,)
        self.queries = self.spread(ROWS, 4, 17, 24)  # (rows, heads, queries, head width)
        self.keys = self.spread(ROWS, 4, 24, 17)  # (rows, heads, head width, keys)
        self.pixels = self.spread(ROWS, 3, 32, 32)  # (images, channels, height, width)
        self.kernel = self.spread(OUT, 3, 8, 8, size=WIDTH**-0.5)  # (out, channels, patch, patch)

    def spread(self, *shape: int, size: float = 1.0, about: float = 0.0) -> Array:
        """Normal numbers that the dtype can hold."""
        values = (about + size * self._generator.standard_normal(shape)).astype(np.float32)  # shape
        return round_values(values, self.dtype).astype(np.float64)

    def tensor(self, array: Array) -> Any:
        """The array as torch has it, without rounding."""
        import torch

        return torch.tensor(array).to(getattr(torch, self.dtype))


@dataclass(frozen=True, slots=True)
class Leaf:
    """One operation as the oracle has it and as torch has it.

    `oracle` gets the arithmetic, the operands and what to do to everything with rows.
    """

    oracle: Callable[[Arithmetic, Operands, Tiled], Array]
    torch: Callable[[Any, Operands], Any]


def _functional() -> Any:
    from torch.nn import functional

    return functional


def _quick_gelu(x: Any) -> Any:
    return x * (1.702 * x).sigmoid()


LEAVES = {
    "linear": Leaf(
        lambda leaf, o, t: leaf.linear(t(o.x), o.weight, o.bias),
        lambda f, o: f.linear(o.tensor(o.x), o.tensor(o.weight), o.tensor(o.bias)),
    ),
    "linear without bias": Leaf(
        lambda leaf, o, t: leaf.linear(t(o.x), o.weight, None),
        lambda f, o: f.linear(o.tensor(o.x), o.tensor(o.weight)),
    ),
    "patches": Leaf(
        lambda leaf, o, t: leaf.patches(t(o.pixels), o.kernel),
        lambda f, o: f.conv2d(o.tensor(o.pixels), o.tensor(o.kernel), stride=8).flatten(2).transpose(1, 2),
    ),
    "matmul": Leaf(
        lambda leaf, o, t: leaf.matmul(t(o.queries), t(o.keys)), lambda f, o: o.tensor(o.queries) @ o.tensor(o.keys)
    ),
    "add": Leaf(
        lambda leaf, o, t: leaf.add(t(o.x), t(o.x[::-1])), lambda f, o: o.tensor(o.x) + o.tensor(o.x[::-1].copy())
    ),
    "scale": Leaf(lambda leaf, o, t: leaf.scale(t(o.x), 0.3), lambda f, o: o.tensor(o.x) * 0.3),
    "layer_norm": Leaf(
        lambda leaf, o, t: leaf.layer_norm(t(o.x), o.gain, o.shift, 1e-5),
        lambda f, o: f.layer_norm(o.tensor(o.x), (WIDTH,), o.tensor(o.gain), o.tensor(o.shift), 1e-5),
    ),
    "softmax": Leaf(lambda leaf, o, t: leaf.softmax(t(o.x)), lambda f, o: f.softmax(o.tensor(o.x), -1)),
    "log_softmax": Leaf(lambda leaf, o, t: leaf.log_softmax(t(o.x)), lambda f, o: f.log_softmax(o.tensor(o.x), -1)),
    "quick_gelu": Leaf(
        lambda leaf, o, t: leaf.activation(t(o.x), "quick_gelu"), lambda f, o: _quick_gelu(o.tensor(o.x))
    ),
    "normalize": Leaf(
        lambda leaf, o, t: leaf.normalize(t(o.x)),
        lambda f, o: o.tensor(o.x) / o.tensor(o.x).norm(dim=-1, keepdim=True),
    ),
    "exp": Leaf(lambda leaf, o, t: leaf.exp(t(o.x)), lambda f, o: o.tensor(o.x).exp()),
}


def rms(values: Array) -> float:
    """Root mean square of all elements."""
    return float(np.sqrt((values**2).mean()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LEAVES)
def test_predicted_errors_have_the_size_of_torchs(name: str, dtype: str) -> None:
    """The error that torch commits in one operation is 0.2 to 2 times the prediction in the mean, and no element's
    exceeds the bound.
    """
    leaf, operands = LEAVES[name], Operands(dtype)
    exact = leaf.oracle(EXACT, operands, lambda x: x)  # the shape of the result
    noisy = leaf.oracle(RoundingArithmetic(Precision(dtype), COPIES), operands, lambda x: tile(x, COPIES))
    predicted = standard_deviation(exact, noisy, COPIES)  # the shape of the result
    committed = leaf.torch(_functional(), operands).double().numpy() - exact  # the shape of the result
    assert 0.2 < rms(committed) / rms(predicted) < 2.0
    assert np.all(np.abs(committed) <= SIGMAS * predicted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_is_added_where_nothing_rounds(dtype: str) -> None:
    """Where an operation is exact, as on zeros and on forbidden keys, its result carries no noise."""
    leaf = RoundingArithmetic(Precision(dtype), COPIES)
    zeros = np.zeros((COPIES, 4))  # (copies, elements)
    operands = Operands(dtype)
    assert not leaf.linear(tile(operands.x, COPIES), np.zeros_like(operands.weight), None).any()
    assert not leaf.add(zeros, zeros).any()
    assert not leaf.scale(zeros, 0.5).any()
    assert not leaf.matmul(zeros[:, None, :], zeros[:, :, None]).any()
    assert not leaf.activation(zeros, "quick_gelu").any()


def test_forbidden_keys_stay_forbidden() -> None:
    """Masks of -inf pass through sums without NaN, and get exactly nothing of the attention."""
    leaf = RoundingArithmetic(Precision("bfloat16"), 2)
    scores = np.ones((2, 3, 4))  # (copies, queries, keys)
    mask = np.where(np.arange(4) < np.arange(1, 4)[:, None], 0.0, -np.inf)  # (queries, keys)
    masked = leaf.add(scores, mask)
    assert np.all(np.isneginf(masked) == np.isneginf(mask))
    weights = leaf.softmax(masked)  # (copies, queries, keys)
    assert np.all(np.isfinite(weights))
    assert not weights[:, np.isneginf(mask)].any()
    assert np.allclose(weights.sum(axis=-1), 1.0, atol=0.05)


def test_every_copy_has_errors_of_its_own() -> None:
    """Copies share operands and differ in their errors; embeddings are looked up without any."""
    leaf, operands = RoundingArithmetic(Precision("float16"), 2), Operands("float16")
    first, second = np.split(leaf.linear(tile(operands.x, 2), operands.weight, operands.bias), 2)
    assert np.all(np.mean(first != second) > 0.3)
    ids = np.array([[1, 0]])  # (texts, tokens)
    assert np.array_equal(leaf.embedding(operands.x, ids), operands.x[ids])


def test_the_same_seed_gives_the_same_errors() -> None:
    """Bounds can be replayed: there is no global random state."""
    operands = Operands("float32")
    runs = [RoundingArithmetic(Precision("float32"), 2).add(tile(operands.x, 2), 0.5) for _ in range(2)]
    assert np.array_equal(*runs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_products_have_the_errors_of_small_ones(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies that differ by rounding errors are multiplied in float32 but for the first: no sign of an error and no
    size is another, to a hundred-thousandth.
    """
    operands, precision = Operands(dtype), Precision(dtype)
    copies = RoundingArithmetic(precision, COPIES).scale(tile(operands.x, COPIES), 1.0)  # (copies * rows, width)
    exact = EXACT.linear(operands.x, operands.weight, operands.bias)  # (rows, out)

    def errors() -> Array:
        found = RoundingArithmetic(precision, COPIES).linear(copies, operands.weight, operands.bias)
        return np.asarray(found - tile(exact, COPIES))  # (copies * rows, out)

    small = errors()
    monkeypatch.setattr(rounding, "_LARGE_VALUES", 1)
    large = errors()
    assert (large != small).any()
    np.testing.assert_allclose(large, small, rtol=0, atol=1e-5 * small.std())


@pytest.mark.parametrize("name", ["gelu", "quick_gelu", "relu"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_wide_activations_have_the_errors_of_narrow_ones(
    dtype: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies that differ by rounding errors go through the slope at the first: each error is the same, to a hundredth
    of their size in float32, and to a tenth in 16 bit, where they are large.
    """
    operands, precision = Operands(dtype), Precision(dtype)
    copies = RoundingArithmetic(precision, COPIES).scale(tile(operands.x, COPIES), 1.0)  # (copies * rows, width)
    exact = tile(EXACT.activation(operands.x, name), COPIES)  # (copies * rows, width)

    def errors() -> Array:
        return np.asarray(RoundingArithmetic(precision, COPIES).activation(copies, name) - exact)

    narrow = errors()
    monkeypatch.setattr(rounding, "_WIDE", 1)
    wide = errors()
    assert (wide != narrow).any()
    np.testing.assert_allclose(wide, narrow, rtol=0, atol=(0.01 if dtype == "float32" else 0.1) * narrow.std())


def test_tf32_widens_products_and_nothing_else() -> None:
    """TF32 rounds the factors of products to 11 bits: its errors are a thousand times those of float32 there."""
    operands = Operands("float32")
    exact = EXACT.linear(operands.x, operands.weight, operands.bias)
    plain, tf32 = (
        rms(RoundingArithmetic(precision, 1).linear(operands.x, operands.weight, operands.bias) - exact)
        for precision in (Precision("float32"), Precision("float32", tf32_products=True))
    )
    assert 300 < tf32 / plain < 10_000
    sums = RoundingArithmetic(Precision("float32", tf32_products=True), 1).add(operands.x, operands.x)
    assert rms(sums - 2 * operands.x) < 1e-6


def test_tiles_lie_copy_after_copy() -> None:
    """Row r of copy c is row c * rows + r."""
    rows = np.arange(6).reshape(3, 2)  # (rows, elements)
    assert np.array_equal(tile(rows, 2), np.concatenate([rows, rows]))
    assert tile(rows, 2).dtype == rows.dtype


@pytest.mark.parametrize("shape", [(), (5,), (5, 7), (5, 3, 7)])
def test_spread_is_never_below_an_elements_own(shape: tuple[int, ...]) -> None:
    """The spread has the shape of the result and is at least each element's own estimate; without errors it is 0."""
    generator = np.random.Generator(np.random.PCG64(1))
    exact = generator.standard_normal(shape)
    perturbed = np.concatenate([np.atleast_1d(exact)] * COPIES).reshape(COPIES, *shape)
    noise = generator.standard_normal(perturbed.shape)
    found = standard_deviation(np.asarray(exact), (perturbed + noise).reshape(-1, *shape[1:]), COPIES)
    own = np.sqrt((noise**2).mean(axis=0))  # shape
    assert found.shape == shape
    assert np.all(found >= own * (1 - 1e-9))
    assert not standard_deviation(np.asarray(exact), perturbed.reshape(-1, *shape[1:]), COPIES).any()


def test_an_element_without_luck_is_bounded_by_its_row_and_channel() -> None:
    """An element whose few copies happen to err little still gets the share of its row and channel."""
    exact = np.zeros((2, 2))  # (rows, channels)
    errors = np.array([[0.1, 1.0], [1.0, 1.0]])  # (rows, channels)
    found = standard_deviation(exact, tile(errors, COPIES), COPIES)
    assert found[0, 0] == pytest.approx(0.505 / np.sqrt(0.7525))


def test_elements_that_cannot_err_do_not_dilute_the_others() -> None:
    """What is exactly zero in every copy stays without a bound, and counts for no row or channel."""
    errors = np.array([[0.0, 1.0, 1.0], [0.0, 1.0, 1.0]])  # (rows, channels)
    found = standard_deviation(np.zeros((2, 3)), tile(errors, COPIES), COPIES)
    assert np.array_equal(found, errors)
