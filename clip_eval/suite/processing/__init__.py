"""Checks of the tokenizer and the image processor."""

from __future__ import annotations
