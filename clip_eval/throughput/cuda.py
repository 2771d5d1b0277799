"""What only a CUDA device has: replay of recorded launches, and a meter of its energy. None of it is used on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from clip_eval.throughput.clock import Call

__all__ = ["energy_meter", "finish", "is_launch_bound", "replayed"]

_LAUNCH_BOUND = 2e11
"""Operations of a batch below which launching its kernels takes about as long as they run on a large GPU: some 300
launches of a ViT-B at 5 microseconds, at 100 TFLOP/s.
"""

_WARM_UPS = 3


def is_launch_bound(device: str, operations: float) -> bool:
    """Return whether a batch is so small that launching its kernels on `device` takes longer than running them."""
    return device.startswith("cuda") and operations < _LAUNCH_BOUND


def finish(device: str) -> None:
    """Wait until all work queued on `device` is done; on a CPU calls return when it is."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


def replayed(call: Call, device: str) -> Call:
    """Return a function that replays a call as one CUDA graph: its time without that of the launches.

    The call has to compute from the same tensors each time, and must not wait for the device.

    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs, "whole-network capture".
    """
    import torch

    with torch.cuda.device(device):
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call] # torch's
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
    return graph.replay


def energy_meter(device: str) -> Callable[[], float] | None:
    """Return a function that reads the joules that a GPU has used since its driver was loaded; None if unavailable.

    NVML is read through pynvml, which is not a dependency of this package.
    """
    if not device.startswith("cuda"):
        return None
    try:
        import pynvml  # type: ignore[import-not-found] # where it is installed
    except ImportError:
        return None
    import torch

    try:
        pynvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(device).uuid
        handle: Any = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except (pynvml.NVMLError, AttributeError):
        return None
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
