"""Checks of values: against the oracle, and of one output against another."""

from __future__ import annotations
