"""How a checkpoint is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from clip_eval.checkpoint.checkpoint import open_checkpoint
from clip_eval.errors import CheckpointError

__all__ = ["refusal"]


def refusal(source: str | Path) -> str:
    """The message with which a checkpoint is refused: one paragraph."""
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(source)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message
