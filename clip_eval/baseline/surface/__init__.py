"""The surface: a snapshot of the observable API and of behaviour at the edges, for comparison."""

from __future__ import annotations
