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
    """Say whether a batch is so small that the launches on `device`, and not its products, take the time."""
    return device.startswith("cuda") and operations < _LAUNCH_BOUND


def finish(device: str) -> None:
    """Wait until `device` has done what it was told: a call on CUDA returns before; on a CPU there is nothing to do."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


def replayed(call: Call, device: str) -> Call:
    """Return the replay of a call's launches as one CUDA graph: what the framework would take without launching.

    The call has to compute from the same tensors each time, and must not wait for the device.

    Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs, "whole-network capture".
    """
    import torch

    with torch.cuda.device(device):
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
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
    """Return what reads the joules that a GPU has taken since its driver was loaded; None where nothing says it.

    NVML is read through pynvml, which is no dependency of this package.
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
