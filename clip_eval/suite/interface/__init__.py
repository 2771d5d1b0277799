"""Checks of transformers' CLIP classes: calls, options, outputs, saving."""

from __future__ import annotations
