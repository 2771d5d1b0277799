"""Memory that calls keep, on readings that the tests hold and on a process's own."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable

import pytest

from clip_eval.throughput import memory
from clip_eval.throughput.memory import kept_mb
from clip_eval.verdict.budgets import kept_memory


def of_readings(patch: pytest.MonkeyPatch, values: Callable[[int], tuple[int, int]]) -> float:
    """Return what is kept where the n-th call leaves the process at these (touched, asked for) MB."""
    calls = itertools.count(1)
    done = [0]
    patch.setattr(memory, "_reading", lambda _: lambda: [int(value * 1e6) for value in values(done[0])])
    return kept_mb(lambda: done.__setitem__(0, next(calls)), "cpu")


def test_a_steady_process_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither reading moves, nothing is kept; nor where memory shrinks."""
    assert of_readings(monkeypatch, lambda calls: (500, 700)) == 0
    assert of_readings(monkeypatch, lambda calls: (500 - calls, 700)) == 0


@pytest.mark.parametrize("which", [0, 1], ids=["touched", "asked for"])
def test_a_leak_shows_by_its_size(monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    """A leak of 8 MB a call is found at its size, also where nobody has touched the pages yet."""
    kept = of_readings(monkeypatch, lambda calls: (500 + 8 * calls * (which == 0), 700 + 8 * calls))
    assert kept == pytest.approx(8)
    assert kept > kept_memory().bound


def test_a_heap_that_grows_once_is_no_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    """An arena taken in the midst of the measurement, or three, is growth of some blocks only."""
    assert of_readings(monkeypatch, lambda calls: (500 + 64 * (calls > 9), 700 + 64 * (calls > 15))) == 0


def test_a_real_leak_is_seen() -> None:
    """Eight MB that a call keeps without touching them are found in this very process; without them nothing is."""
    kept: list[bytearray] = []
    assert kept_mb(lambda: kept.append(bytearray(8_000_000)), "cpu") > 4
    kept.clear()
    assert kept_mb(lambda: bytearray(8_000_000), "cpu") < kept_memory().bound


def test_room_in_the_heap_hides_no_leak() -> None:
    """What fits into room that the heap has, after something large was freed, is kept as well."""
    pieces = [bytearray(60_000) for _ in range(2000)]
    last = bytearray(60_000)
    pieces.clear()
    kept: list[bytearray] = []
    assert kept_mb(lambda: kept.append(bytearray(500_000)), "cpu") > kept_memory().bound
    assert last


def test_the_peak_of_a_call_is_above_what_is_held() -> None:
    """A call that fills 64 MB and drops them has a peak of about that; systems that do not say have none.

    In a process of its own: one that has freed much before may serve the call from what it still holds.
    """
    program = "from clip_eval.throughput.memory import peak_mb; print(peak_mb(lambda: len(b'x' * 64_000_000), 'cpu'))"
    peak = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    assert peak == "None" or 32 < float(peak) < 128
