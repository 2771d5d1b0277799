"""The observable API and behaviour at the edges, as a snapshot that can be compared."""

from __future__ import annotations
