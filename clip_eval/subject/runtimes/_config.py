"""Change the config of a loaded transformers model in a block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["attending", "configured"]


@contextlib.contextmanager
def attending(model: Any, implementation: str | None) -> Iterator[None]:
    """Set the attention implementation in the block; None keeps the model's own. A copy would double the memory."""
    own = model.config._attn_implementation
    if implementation in (None, own):
        yield
        return
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(own)


@contextlib.contextmanager
def configured(config: Any, values: Mapping[str, object]) -> Iterator[None]:
    """Set fields in the block, by dotted name below the config."""
    with contextlib.ExitStack() as stack:
        for name, value in values.items():
            path, _, field_name = name.rpartition(".")
            section = getattr(config, path) if path else config
            stack.callback(_restore, section, dict(vars(section)))
            setattr(section, field_name, value)
        yield


def _restore(owner: object, attributes: Mapping[str, object]) -> None:
    """Restore an object's attributes past its setters, and remove added ones."""
    vars(owner).clear()
    vars(owner).update(attributes)
