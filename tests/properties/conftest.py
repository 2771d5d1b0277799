"""How many examples a property is tried on: 200, or what CLIP_EVAL_PROPERTIES names: `ci` 2,000, `thorough` 100,000.

`pytest tests/properties -m thorough` is the same as CLIP_EVAL_PROPERTIES=thorough.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("ci", settings.default, max_examples=2_000)
settings.register_profile("thorough", settings.default, max_examples=100_000)
settings.load_profile(os.environ.get("CLIP_EVAL_PROPERTIES", "quick"))


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and take it for the profile of its name where tests are chosen by it."""
    # Hypothesis keeps a tree of all examples, and looking through it for garbage takes a fifth of the time.
    gc.set_threshold(200_000, 50, 100)
    config.addinivalue_line("markers", "thorough: properties; `-m thorough` tries each on 100,000 examples")
    if config.getoption("markexpr", "") == "thorough":
        settings.load_profile("thorough")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the properties of this folder."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("thorough")
