"""From a rendered path back to the record."""

from __future__ import annotations
