"""The tokenizer that several modules ask."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.small_tokenizer import (
    write_tokenizer,
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer as written by hand, limit 20 tokens."""
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"), model_max_length=20)
