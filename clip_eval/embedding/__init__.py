"""Images and texts to embeddings."""

from __future__ import annotations
