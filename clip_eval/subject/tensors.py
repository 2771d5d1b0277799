"""Between NumPy and torch: values of one as the other, and how torch computes."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from clip_eval.oracle.precision import Precision

__all__ = ["array_of", "precision_of", "tensor_of"]


def array_of(tensor: Any) -> NDArray[Any]:
    """Return a tensor's values; those of fewer than 64 bits as float32, which holds them."""
    held = tensor.detach().to("cpu")
    values: NDArray[Any] = (held if held.dtype.itemsize == 8 else held.float()).numpy()
    return values


def precision_of(dtype: str, device: str) -> Precision:
    """Return how a subject of `dtype` computes on `device` under the process's current torch settings."""
    if not device.startswith("cuda") or dtype != "float32":
        return Precision(dtype)
    import torch

    return Precision(dtype, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)


def tensor_of(array: NDArray[Any]) -> Any:
    """Return a torch tensor on the CPU that shares the memory of `array`, strides included."""
    import torch

    return torch.from_numpy(array)
