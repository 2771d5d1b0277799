"""How many examples a property is tried on: 200, or what CLIP_EVAL_PROPERTIES names: `ci` 2,000, `thorough` 100,000."""

from __future__ import annotations

import os

from hypothesis import settings

# Derandomised, so that a failure on one machine is a failure on all. No deadline: one example may meet a busy machine.
_COMMON = settings(derandomize=True, deadline=None, database=None, print_blob=True)

settings.register_profile("quick", _COMMON, max_examples=200)
settings.register_profile("ci", _COMMON, max_examples=2_000)
settings.register_profile("thorough", _COMMON, max_examples=100_000)
settings.load_profile(os.environ.get("CLIP_EVAL_PROPERTIES", "quick"))
