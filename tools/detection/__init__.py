"""The kill matrix: every fault, and the checks that see it."""

from __future__ import annotations
