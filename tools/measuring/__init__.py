"""Measures how much of each budget healthy subjects use, across transformers releases, and writes the table of it."""

from __future__ import annotations
