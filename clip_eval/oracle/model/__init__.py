"""CLIP's two towers and its contrastive head in float64 NumPy."""

from __future__ import annotations
