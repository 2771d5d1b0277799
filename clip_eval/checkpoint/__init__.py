"""What lies on disk: config, tensor files, the tensors that a config promises, fingerprints, the hub."""

from __future__ import annotations
