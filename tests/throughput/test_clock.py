"""What times a call: the wall clock less the queue, CUDA events, and the state of the process meanwhile."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from clip_eval.throughput import clock
from clip_eval.throughput.clock import clock_of, hold_heap, torch_threads, undisturbed


class Machine:
    """Clocks that a call moves on."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.wall_s = self.own_s = self.others_s = 0.0
        self.queue_ns = 1_000
        patch.setattr(clock.time, "perf_counter", lambda: self.wall_s)
        patch.setattr(clock.time, "thread_time", lambda: self.own_s)
        patch.setattr(clock.time, "process_time", lambda: self.own_s + self.others_s)

    def call(self, *, computing: float, queued: float = 0.0, asleep: float = 0.0, others: float = 0.0) -> None:
        """Spend seconds in these ways."""
        self.wall_s += computing + queued + asleep
        self.own_s += computing
        self.others_s += others
        self.queue_ns += int(queued * 1e9)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """A machine whose queue is a file that each reading brings up to date."""
    made, queue = Machine(monkeypatch), tmp_path / "schedstat"
    queue.write_text("5 1000 1\n")
    monkeypatch.setattr(clock, "_QUEUE", str(queue))
    read = os.pread

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        queue.write_text(f"5 {made.queue_ns} 1\n")
        return read(descriptor, size, offset)

    monkeypatch.setattr(clock.os, "pread", pread)
    return made


@pytest.mark.parametrize(
    ("spent", "seconds"),
    [
        ({"computing": 2.0}, 2.0),
        ({"computing": 2.0, "queued": 3.0}, 2.0),
        ({"computing": 2.0, "asleep": 3.0}, 5.0),
        ({"computing": 2.0, "queued": 3.0, "others": 0.01}, 2.0),
        ({"computing": 2.0, "queued": 3.0, "others": 1.0}, 5.0),
    ],
    ids=["computing", "queued", "asleep", "idle threads", "own threads in the way"],
)
def test_only_the_queue_is_taken_off(machine: Machine, spent: dict[str, float], seconds: float) -> None:
    """Time in the queue behind other processes is not counted; sleeping is, and a queue that the subject's own threads
    make.
    """
    found = clock_of("cpu")
    assert found.name == "wall clock without the queue for a core"
    assert found.seconds(lambda: machine.call(**spent)) == pytest.approx(seconds)


@pytest.mark.parametrize("content", [None, "0 0 0\n"])
def test_without_accounting_the_wall_clock_serves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    """Where the system does not say how long a thread stood in the queue, all of the time counts."""
    queue = tmp_path / "schedstat"
    if content is not None:
        queue.write_text(content)
    monkeypatch.setattr(clock, "_QUEUE", str(queue))
    readings = iter([5.0, 7.5])
    monkeypatch.setattr(clock.time, "perf_counter", lambda: next(readings))
    calls: list[int] = []
    found = clock_of("cpu")
    assert (found.name, found.seconds(lambda: calls.append(1)), calls) == ("wall clock", 2.5, [1])


@pytest.mark.skipif(not Path("/proc/thread-self/schedstat").exists(), reason="Linux only")
def test_a_clock_belongs_to_its_thread() -> None:
    """Another thread's queue is not the one that the clock reads: it refuses."""
    found, caught = clock_of("cpu"), []

    def elsewhere() -> None:
        try:
            found.seconds(lambda: None)
        except RuntimeError as error:
            caught.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "another thread" in caught[0]
    assert found.seconds(lambda: None) >= 0


def test_threads_are_held_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the block torch computes with the stated number of threads; afterwards with its own, also after an error."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    monkeypatch.setattr(clock, "hold_heap", lambda: True)
    seen = []

    def broken() -> None:
        with torch_threads(before + 1):
            seen.append(torch.get_num_threads())
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_cuda_is_timed_by_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA the stream is idle before the first event, and the second is waited for before it is read."""
    torch = pytest.importorskip("torch")
    log: list[str] = []

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            log.append("record")

        def synchronize(self) -> None:
            log.append("wait")

        def elapsed_time(self, end: Event) -> float:
            assert log[-1] == "wait"
            assert end is not self
            return 12.5

    class Device:
        def __init__(self, name: str) -> None:
            assert name == "cuda:1"

        def __enter__(self) -> None:
            log.append("device")

        def __exit__(self, *_: object) -> None:
            log.append("left")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "device", Device)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: log.append("idle"))
    assert clock_of("cuda:1").seconds(lambda: log.append("call")) == 0.0125
    assert log == ["device", "idle", "record", "call", "record", "wait", "left"]


@pytest.fixture
def tracing() -> Iterator[Callable[..., None]]:
    """A tracer and a profiler in place, as a coverage tool sets them; what was there before is put back."""
    before = sys.gettrace(), sys.getprofile()

    def tracer(*_: object) -> None:
        return None

    sys.settrace(tracer)
    sys.setprofile(tracer)
    yield tracer
    sys.settrace(before[0])
    sys.setprofile(before[1])


def test_nothing_disturbs(tracing: Callable[..., None]) -> None:
    """No garbage collection, tracer or profiler in the block; all are back afterwards, also after an error."""
    seen: list[object] = []

    def broken() -> None:
        with undisturbed():
            seen.append((gc.isenabled(), sys.gettrace(), sys.getprofile()))
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        broken()
    after = (gc.isenabled(), sys.gettrace(), sys.getprofile())
    sys.settrace(None)
    sys.setprofile(None)
    assert seen == [(False, None, None)]
    assert after == (True, tracing, tracing)


def test_the_heap_is_held_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Glibc is told to keep its memory; another C library, or another system, is not, and says so."""
    told: list[tuple[int, int]] = []
    c_library = SimpleNamespace(mallopt=lambda *setting: told.append(setting) or 1)
    monkeypatch.setattr(clock.sys, "platform", "linux")
    monkeypatch.setattr(clock.ctypes, "CDLL", lambda _: c_library)
    assert hold_heap()
    assert told == [(-4, 0), (-1, 2**31 - 1)]
    monkeypatch.setattr(clock.ctypes, "CDLL", lambda _: SimpleNamespace())
    assert not hold_heap()
    monkeypatch.setattr(clock.sys, "platform", "darwin")
    monkeypatch.setattr(clock.ctypes, "CDLL", lambda _: c_library)
    assert not hold_heap()
