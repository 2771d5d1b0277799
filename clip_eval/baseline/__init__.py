"""Baseline packs on disk, and the comparison of a candidate with one.

A pack is a directory. `pack.json` is text for review: the checkpoint, digests of its weights, the approved
environments, sha256 of every other file. `record.safetensors` has one numeric record, inputs included.
`surface-RELEASE-ATTENTION.json` has the observable surface in one approved environment. Optional: `tasks.json` with the
answers for a dataset, and `throughput.json` with the release's speed on some machines.
"""

from __future__ import annotations

from clip_eval.baseline.comparison import Baseline
from clip_eval.baseline.open_pack import open_pack
from clip_eval.baseline.pack import Environment, Pack, PackedTask, PackedTensor

__all__ = ["Baseline", "Environment", "Pack", "PackedTask", "PackedTensor", "open_pack"]
