"""Helpers that tests share: small checkpoints, packs, datasets, records."""

from __future__ import annotations
