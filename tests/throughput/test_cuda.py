"""What only a GPU has, on stand-ins: the order of a graph's capture, and the meter of energy. No GPU is used."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from clip_eval.throughput.cuda import energy_meter, is_launch_bound, replayed


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done on CUDA, in order."""
    said: list[str] = []

    class Stream:
        def __init__(self, name: str = "side") -> None:
            self.name = name

        def wait_stream(self, other: Stream) -> None:
            said.append(f"{self.name} waits for {other.name}")

    class Graph:
        def replay(self) -> None:
            said.append("replay")

    @contextlib.contextmanager
    def within(name: object) -> Iterator[None]:
        label = name if isinstance(name, str) else type(name).__name__
        said.append(f"in {label}")
        yield
        said.append(f"out of {label}")

    for name, value in {
        "device": within, "stream": within, "graph": within, "Stream": Stream, "CUDAGraph": Graph,
        "current_stream": lambda: Stream("main"),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    return said


def test_a_graph_is_captured_after_a_warm_up(log: list[str]) -> None:
    """Three calls on a side stream, one that is captured, and from then on replays only."""
    replay = replayed(lambda: log.append("call"), "cuda:0")
    assert log == [
        "in cuda:0", "side waits for main", "in Stream", *["call"] * 3, "out of Stream", "main waits for side",
        "in Graph", "call", "out of Graph", "out of cuda:0",
    ]  # fmt: skip
    log.clear()
    replay()
    assert log == ["replay"]


def test_launches_bind_small_batches_of_a_gpu_only() -> None:
    """A CPU launches nothing; on CUDA it is a matter of the batch's operations."""
    assert is_launch_bound("cuda:0", 1e10)
    assert not is_launch_bound("cuda:0", 1e13)
    assert not is_launch_bound("cpu", 1e10)


def test_energy_is_read_where_nvml_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML counts millijoules of the device whose id torch gives; without a GPU or pynvml there is no meter."""

    class NVMLError(Exception):
        pass

    asked: list[str] = []
    nvml: Any = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: asked.append(uuid) or "handle",
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: 2500,
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="1-2-3"))
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    meter = energy_meter("cuda:0")
    assert meter is not None
    assert meter() == 2.5
    assert asked == ["GPU-1-2-3"]
    assert energy_meter("cpu") is None

    def refuse() -> None:
        raise NVMLError

    nvml.nvmlInit = refuse
    assert energy_meter("cuda:0") is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert energy_meter("cuda:0") is None
