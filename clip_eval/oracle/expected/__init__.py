"""Expected values with the bound of every element."""

from __future__ import annotations
