"""Start an entry point and fetch its features later: a GPU computes one batch while the next one is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_eval.families.family import EntryPoint
from clip_eval.families.roles import POOLED
from clip_eval.subject.releases import projected_features, transformers_release
from clip_eval.subject.runtime import Runtime
from clip_eval.subject.runtimes.transformers import Subject

__all__ = ["Pending", "launched"]

Pending = Callable[[], NDArray[np.float32]]
"""Waits for the features of a batch, (rows, projection), and returns them."""


def launched(runtime: Runtime, entry: EntryPoint, arrays: Mapping[str, NDArray[Any]]) -> Pending:
    """Start an entry point that gives projected features, `get_text_features` or `get_image_features`.

    With transformers on a CUDA device the inputs are copied from pinned memory, and the features to it, without
    waiting; anywhere else the features are there when this returns.

    Args:
        runtime: what runs the checkpoint.
        entry: what to run.
        arrays: as `Runtime.run` takes them.
    """
    if not isinstance(runtime, Subject) or not runtime.device.startswith("cuda"):
        features = np.asarray(runtime.run(entry, arrays)[POOLED], dtype=np.float32)  # (rows, projection)
        return lambda: features
    return _on_cuda(runtime, entry, arrays)


def _on_cuda(subject: Subject, entry: EntryPoint, arrays: Mapping[str, NDArray[Any]]) -> Pending:
    import torch

    pinned = {name: torch.from_numpy(values).pin_memory() for name, values in arrays.items()}
    inputs: dict[str, Any] = {name: values.to(subject.device, non_blocking=True) for name, values in pinned.items()}
    answer = subject.call(entry.model_class, method=entry.method, **inputs)
    features = projected_features(answer, transformers_release()).float()  # (rows, projection)
    there = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
    there.copy_(features, non_blocking=True)
    done = torch.cuda.Event()  # type: ignore[no-untyped-call] # torch declares no types of it
    done.record(torch.cuda.current_stream(subject.device))

    def fetched() -> NDArray[np.float32]:
        done.synchronize()
        values: NDArray[np.float32] = there.numpy()
        return values

    return fetched
