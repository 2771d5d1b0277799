"""Checks against the approved release: numbers, surface, tasks, throughput."""

from __future__ import annotations
