"""What the references of all families are made of, in float64 NumPy: operations, encoder, contrastive head."""

from __future__ import annotations
