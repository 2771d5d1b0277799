"""Tests of the renderers."""

from __future__ import annotations
