"""Features that are fetched later: on a CPU the runtime's; on CUDA by pinned, asynchronous copies, with stand-ins."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.small_clip import write_small_clip

from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.families.registry import entry_point
from clip_eval.families.roles import WHOLE
from clip_eval.subject import Subject
from clip_eval.subject.launch import launched

ENTRY = entry_point(WHOLE, "get_image_features")


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A small random checkpoint in bfloat16."""
    return Subject(open_checkpoint(write_small_clip(tmp_path_factory.mktemp("small"))), "bfloat16")


def test_a_gpu_gets_pinned_copies_and_is_not_waited_for(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event is waited for when the features are fetched, and they are those of `run`."""
    pixels = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)  # (3, 3, 32, 32)
    expected = launched(subject, ENTRY, {"pixel_values": pixels})()
    assert (expected.shape, expected.dtype) == ((3, 24), np.float32)

    seen: list[str] = []
    to, empty, copy = torch.Tensor.to, torch.empty, torch.Tensor.copy_

    def moved(tensor: torch.Tensor, device: Any, *, non_blocking: bool = False) -> torch.Tensor:
        seen.append(f"to {device} {'at once' if non_blocking else 'waiting'}")
        return to(tensor, "cpu")

    def copied(tensor: torch.Tensor, other: torch.Tensor, *, non_blocking: bool = False) -> torch.Tensor:
        seen.append(f"back {'at once' if non_blocking else 'waiting'}")
        return copy(tensor, other)

    def emptied(shape: Any, *, dtype: Any, pin_memory: bool) -> torch.Tensor:
        seen.append(f"pinned {pin_memory}")
        return empty(shape, dtype=dtype)

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        seen.append("pin")
        return tensor

    event = SimpleNamespace(
        record=lambda stream: seen.append(f"record {stream}"), synchronize=lambda: seen.append("wait")
    )
    cuda = Subject(subject.checkpoint, "bfloat16")
    cuda.model(WHOLE)
    cuda.device = "cuda:0"
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch.Tensor, "to", moved)
    monkeypatch.setattr(Subject, "call", lambda self, *arguments, **inputs: called(subject, *arguments, **inputs))
    monkeypatch.setattr(torch, "empty", emptied)
    monkeypatch.setattr(torch.Tensor, "copy_", copied)
    monkeypatch.setattr(torch.cuda, "Event", lambda: event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")

    def called(runs: Subject, model_class: str, *, method: str, **inputs: Any) -> Any:
        monkeypatch.setattr(torch.Tensor, "to", to)
        with torch.no_grad():
            return getattr(runs.model(model_class), method)(**inputs)

    pending = launched(cuda, ENTRY, {"pixel_values": pixels})
    assert seen == ["pin", "to cuda:0 at once", "pinned True", "back at once", "record stream of cuda:0"]
    assert np.array_equal(pending(), expected)
    assert seen[-1] == "wait"
