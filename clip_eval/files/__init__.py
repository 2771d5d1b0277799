"""Whole-file reads and writes, untrusted files, and locks on output folders."""

from __future__ import annotations
