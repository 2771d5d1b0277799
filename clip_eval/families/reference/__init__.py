"""The shared parts of the families' references, in float64 NumPy: operations, encoder, contrastive head."""

from __future__ import annotations
