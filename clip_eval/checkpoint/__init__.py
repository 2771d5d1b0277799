"""Checkpoints on disk: config, tensor files, the tensors of a config, fingerprints, the hub."""

from __future__ import annotations
