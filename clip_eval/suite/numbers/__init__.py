"""Checks of values: against the oracle, and of one answer against another."""

from __future__ import annotations
