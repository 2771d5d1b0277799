"""How sure the comparison of two checkpoints on the same samples is."""

from __future__ import annotations
